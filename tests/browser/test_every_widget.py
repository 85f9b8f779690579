"""Every widget of the built book: every control by mouse and by keyboard, reset, links."""

import json
import re

import pytest
from site_pages import SITE, WIDGET_PAGES, each_theme

each_widget_page = pytest.mark.parametrize("name", WIDGET_PAGES)

STATE = """(widget) => [
    Object.fromEntries([...widget.querySelectorAll("[name]")].map(
        (input) => [input.name, input.type === "checkbox" ? input.checked : input.value])),
    widget.querySelector(".armt-summary").textContent,
    [...widget.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL()),
]"""


def shown(widget):
    """What the controls, the sentence and the matrices of a widget say."""
    return widget.evaluate(STATE)


def frame(page):
    """Let the next frame be drawn: widgets draw at most once a frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def widgets_of(page):
    return page.locator(".armt-widget").all()


def try_slider(page, slider):
    """To both ends and a step back by keyboard; to its middle by mouse."""
    slider.focus()
    for key, end in {"Home": "min", "End": "max"}.items():
        slider.press(key)
        assert slider.input_value() == slider.get_attribute(end)
    slider.press("ArrowLeft")
    assert slider.input_value() != slider.get_attribute("max")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    frame(page)
    low, high, step = (float(slider.get_attribute(name)) for name in ("min", "max", "step"))
    away = abs(float(slider.input_value()) - (low + high) / 2)
    assert away <= max(step, 0.05 * (high - low))


def try_list(page, choice):
    """To its end and its start by keyboard; opened by mouse. The open list is drawn by the system,
    where no mouse of a test reaches it."""
    options = choice.locator("option").evaluate_all("all => all.map((option) => option.value)")
    choice.focus()
    for key, option in {"End": options[-1], "Home": options[0]}.items():
        choice.press(key)
        frame(page)
        assert choice.input_value() == option
    choice.click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    frame(page)
    assert choice.input_value() == options[1]


def try_switch(page, switch):
    """By keyboard, and back by mouse."""
    before = switch.is_checked()
    switch.focus()
    switch.press(" ")
    frame(page)
    assert switch.is_checked() != before
    switch.click()
    frame(page)
    assert switch.is_checked() == before


def try_text(page, text):
    text.click()
    text.press_sequentially("3:7 11:2")
    frame(page)
    assert text.input_value() == "3:7 11:2"


TRIES = {
    "input[type=range]": try_slider,
    "select": try_list,
    "input[type=checkbox]": try_switch,
    "input[type=text]": try_text,
}


def try_controls(page, widget):
    for kind, try_control in TRIES.items():
        for control in widget.locator(kind).all():
            try_control(page, control)


def try_button(page, widget, name):
    """By mouse and by keyboard, from one state that is not the first: the same happens."""
    button, found = widget.get_by_role("button", name=name, exact=True), []
    for press in (button.click, lambda: button.press("Enter"), lambda: button.press(" ")):
        widget.get_by_role("button", name="Reset").click()
        frame(page)  # a key moves a slider on from where it is drawn
        for slider in widget.locator("input[type=range]").all():
            slider.press("ArrowRight")
        frame(page)
        before = shown(widget)
        press()
        frame(page)
        found.append(shown(widget))
        assert found[-1] != before
    assert found[0] == found[1] == found[2]


def buttons_of(widget):
    """Names of the buttons that act at once: playing is tried in test_player_and_estimator.py."""
    names = widget.get_by_role("button").all_inner_texts()
    return [name for name in names if name not in ("Reset", "Play")]


@each_widget_page
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_every_control_follows_mouse_and_keyboard_and_is_reset(open_page, name, theme, width):
    with open_page(name, theme, width) as page:
        for widget in widgets_of(page):
            before = shown(widget)
            try_controls(page, widget)
            assert shown(widget) != before
            for button in buttons_of(widget):
                try_button(page, widget, button)
            widget.get_by_role("button", name="Reset").press("Enter")
            frame(page)
            assert shown(widget) == before


@each_widget_page
def test_widgets_work_from_a_folder(open_page, name):
    with open_page(name, from_folder=True) as page:
        for widget in widgets_of(page):
            before = shown(widget)
            try_controls(page, widget)
            assert shown(widget) != before


@each_widget_page
def test_a_link_carries_the_state_of_every_widget(open_page, name):
    with open_page(name) as page:
        for widget in widgets_of(page):
            try_controls(page, widget)
            for switch in widget.locator("input[type=checkbox]").all():
                switch.click()
        frame(page)
        page.wait_for_timeout(600)  # the address follows a quarter of a second later
        states, link = [shown(widget) for widget in widgets_of(page)], page.url
    assert "#" in link
    with open_page(f"{name}#{link.split('#')[1]}") as page:
        assert [shown(widget) for widget in widgets_of(page)] == states


SCRIPT = r'<script type="application/vnd\.jupyter\.widget-{}\+json">(.*?)</script>'


@each_widget_page
def test_a_page_carries_no_widget_that_it_does_not_show(name):
    html = (SITE / name).read_text(encoding="utf-8")
    stored, views = (re.findall(SCRIPT.format(kind), html, re.S) for kind in ("state", "view"))
    kinds = [model["model_name"] for text in stored for model in json.loads(text)["state"].values()]
    assert kinds.count("AnyModel") == len(views) > 0


GIVEN_VALUES = "[name]:not([type=text])"  # a text may be anything; its widget says what is wrong


@each_widget_page
def test_a_wrong_link_changes_nothing(open_page, name):
    with open_page(name) as page:
        names = [
            [control.get_attribute("name") for control in widget.locator(GIVEN_VALUES).all()]
            for widget in widgets_of(page)
        ]
        before = [shown(widget) for widget in widgets_of(page)]
        prefixes = page.locator(".armt-widget").evaluate_all(
            "all => all.map((w) => w.dataset.name)"
        )
    wrong = "&".join(
        f"{prefix}.{control}=nonsense"
        for prefix, controls in zip(prefixes, names, strict=True)
        for control in controls
        if control
    )
    with open_page(f"{name}#{wrong}") as page:
        assert [shown(widget) for widget in widgets_of(page)] == before


@each_widget_page
@each_theme
def test_print_shows_the_static_figure_instead(open_page, name, theme):
    with open_page(name, theme) as page:
        assert page.locator(".armt-static").count() == page.locator(".armt-widget").count()
        for part in (".armt-static", ".output:has(> .armt-static)"):
            assert not any(figure.is_visible() for figure in page.locator(part).all())
        page.emulate_media(media="print")
        assert all(figure.is_visible() for figure in page.locator(".armt-static").all())
        assert not any(widget.is_visible() for widget in widgets_of(page))


@each_widget_page
def test_without_javascript_the_static_figure_is_there(browser, address, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{name}")
    figures = page.locator(".armt-static img")
    assert figures.count() > 0
    assert all(figure.is_visible() for figure in figures.all())
    context.close()
