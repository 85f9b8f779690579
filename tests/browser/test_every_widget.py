"""Every widget of the built book: every control by mouse and by keyboard, reset, links, print."""

import json
import re

import pytest
from site_pages import SITE, WIDGET_PAGES

each_widget_page = pytest.mark.parametrize("name", WIDGET_PAGES)

# Widgets draw at most once a frame, and before this, which asks for the frame after them.
NEXT_FRAME = "new Promise(requestAnimationFrame)"

# Of the pixels of a matrix, one number: another one whenever a single pixel is another.
STATE = f"""async (widget) => {{
    await {NEXT_FRAME};
    const matrix = (canvas) => {{
        const {{ width, height }} = canvas;
        const copy = new OffscreenCanvas(width, height);
        const context = copy.getContext("2d", {{ willReadFrequently: true }});
        context.drawImage(canvas, 0, 0);
        const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
        return [width, height, pixels.reduce((sum, pixel) => Math.imul(sum ^ pixel, 16777619), 0)];
    }};
    return [
        Object.fromEntries([...widget.querySelectorAll("[name]")].map(
            (input) => [input.name, input.type === "checkbox" ? input.checked : input.value])),
        widget.querySelector(".armt-summary").textContent,
        [...widget.querySelectorAll("canvas")].map(matrix),
    ];
}}"""


def shown(widget):
    """What the controls, the sentence and the matrices of a widget say in the next frame."""
    return widget.evaluate(STATE)


def seen(widget):
    """What the sentence and the matrices say, whatever the controls do; the drawing, if there are
    none. (A curve beside a matrix may go on growing by itself.)"""
    _, sentence, matrices = shown(widget)
    drawing = "(all) => all.map((svg) => svg.outerHTML)"
    return sentence, matrices or widget.locator("svg").evaluate_all(drawing)


def frame(page):
    """Let the next frame be drawn."""
    page.evaluate(NEXT_FRAME)


def widgets_of(page):
    return page.locator(".armt-widget").all()


def as_opened(widget):
    """The widget with every control where it is when the page opens."""
    widget.get_by_role("button", name="Reset").click()
    frame(widget.page)
    return widget


def all_shown(page):
    return [shown(widget) for widget in widgets_of(page)]


# The functions below take a control as an element that has been found: where a model computes
# beside them, every question to the page waits for its turn. Each of them yields where the
# widget is looked at: what it shows must differ at least once.


def try_slider(page, slider):
    """To both ends and a step back by keyboard; to its middle by mouse."""
    low, high, step = slider.evaluate("({ min, max, step }) => [min, max, step]")
    slider.focus()
    for key, end in {"Home": low, "End": high}.items():
        page.keyboard.press(key)
        assert slider.input_value() == end
        yield
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() != high
    slider.click()
    frame(page)
    low, high, step = map(float, (low, high, step))
    away = abs(float(slider.input_value()) - (low + high) / 2)
    assert away <= max(step, 0.05 * (high - low))


def try_list(page, choice):
    """To its end and its start by keyboard; opened by mouse. The open list is drawn by the system,
    where no mouse of a test reaches it."""
    options = choice.evaluate("({ options }) => [...options].map((option) => option.value)")
    choice.focus()
    for key, option in {"End": options[-1], "Home": options[0]}.items():
        choice.press(key)
        frame(page)
        assert choice.input_value() == option
        yield
    choice.click()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    frame(page)
    assert choice.input_value() == options[1]
    yield


def try_switch(page, switch):
    """By keyboard, and back by mouse."""
    before = switch.is_checked()
    switch.focus()
    switch.press(" ")
    frame(page)
    assert switch.is_checked() != before
    yield
    switch.click()
    frame(page)
    assert switch.is_checked() == before
    yield


def try_text(page, text):
    text.click()
    yield
    page.keyboard.type("3:7 11:2")
    frame(page)
    assert text.input_value() == "3:7 11:2"
    yield


TRIES = {
    "input[type=range]": try_slider,
    "select": try_list,
    "input[type=checkbox]": try_switch,
    "input[type=text]": try_text,
}


def try_controls(page, widget):
    switches = widget.locator("input[type=checkbox]").all()
    were = [switch.is_checked() for switch in switches]
    for switch in switches:
        switch.check()  # a slider may say something of what it switches on
    for kind, try_control in TRIES.items():
        for control in widget.locator(kind).element_handles():
            first, *others = [seen(widget) for _ in try_control(page, control)]
            assert others != [first] * len(others), f"{control.get_attribute('name')}: no change"
    for switch, was in zip(switches, were, strict=True):
        switch.set_checked(was)


def by_mouse(button):
    button.click()


def by_enter(button):
    button.press("Enter")


def by_space(button):
    button.press(" ")


def try_button(page, widget, name):
    """By mouse and by keyboard, from one state that is not the first: the same happens."""
    reset, button = (
        widget.get_by_role("button", name=word, exact=True).element_handle()
        for word in ("Reset", name)
    )
    sliders, found = widget.locator("input[type=range]").element_handles(), []
    for press in (by_mouse, by_enter, by_space):
        press(reset)
        frame(page)  # a key moves a slider on from where it is drawn
        for slider in sliders:
            slider.press("ArrowRight")
        before = shown(widget)
        press(button)
        found.append(shown(widget))
        assert found[-1] != before
    assert found[0] == found[1] == found[2]


def buttons_of(widget):
    """Names of the buttons that act at once: playing is tried in test_player_and_estimator.py."""
    names = widget.get_by_role("button").all_inner_texts()
    return [name for name in names if name not in ("Reset", "Play")]


def assert_controls_follow_mouse_and_keyboard_and_reset(page):
    for widget in widgets_of(page):
        before = shown(widget)
        try_controls(page, widget)
        assert shown(widget) != before
        for button in buttons_of(widget):
            try_button(page, widget, button)
        widget.get_by_role("button", name="Reset").press("Enter")
        assert shown(widget) == before


def assert_print_shows_the_static_figures(page):
    """And the screen does not."""
    assert page.locator(".armt-static").count() == page.locator(".armt-widget").count()
    for part in (".armt-static", ".output:has(> .armt-static)"):
        assert not any(figure.is_visible() for figure in page.locator(part).all())
    page.emulate_media(media="print")
    assert all(figure.is_visible() for figure in page.locator(".armt-static").all())
    assert not any(widget.is_visible() for widget in widgets_of(page))


WRONG_LINK = """(widgets) => widgets.flatMap((widget) =>
    [...widget.querySelectorAll("[name]:not([name=''], [type=text])")].map(
        (control) => `${widget.dataset.name}.${control.name}=nonsense`)).join("&")"""


@each_widget_page
def test_controls_work_from_a_folder_their_link_carries_them_and_a_wrong_link_changes_nothing(
    open_page, name
):
    with open_page(name, from_folder=True) as page:
        first = all_shown(page)
        # But for a text: it may be anything, its widget says what is wrong.
        wrong = page.locator(".armt-widget").evaluate_all(WRONG_LINK)
        for widget in widgets_of(page):
            before = shown(widget)
            try_controls(page, widget)
            assert shown(widget) != before
            for switch in widget.locator("input[type=checkbox]").all():
                switch.click()
        frame(page)
        page.wait_for_timeout(600)  # the address follows a quarter of a second later
        moved, link = all_shown(page), page.url
    assert "#" in link
    with open_page(f"{name}#{link.split('#')[1]}", typeset=False) as page:
        assert all_shown(page) == moved
        for reset in page.get_by_role("button", name="Reset").all():
            reset.click()
        page.wait_for_url(lambda address: "#" not in address)  # a served page keeps it as well
        slider = page.locator(".armt-widget input[type=range]").first
        is_at_its_end = slider.input_value() == slider.get_attribute("max")
        slider.press("ArrowLeft" if is_at_its_end else "ArrowRight")
        page.wait_for_url(lambda address: "#" in address)
    with open_page(f"{name}#{wrong}", typeset=False) as page:
        assert all_shown(page) == first


SCRIPT = r'<script type="application/vnd\.jupyter\.widget-{}\+json">(.*?)</script>'


@each_widget_page
def test_a_page_carries_no_widget_that_it_does_not_show(name):
    html = (SITE / name).read_text(encoding="utf-8")
    stored, views = (re.findall(SCRIPT.format(kind), html, re.S) for kind in ("state", "view"))
    kinds = [model["model_name"] for text in stored for model in json.loads(text)["state"].values()]
    assert kinds.count("AnyModel") == len(views) > 0


@each_widget_page
def test_without_javascript_the_static_figure_is_there(browser, address, name):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{name}")
    figures = page.locator(".armt-static img")
    assert figures.count() > 0
    assert all(figure.is_visible() for figure in figures.all())
    context.close()
