"""Every widget of the built book: every control by mouse and by keyboard, reset, links."""

import pytest
from site_pages import WIDGET_PAGES, each_theme, each_width

each_widget_page = pytest.mark.parametrize("name", WIDGET_PAGES)

STATE = """(widget) => Object.fromEntries([...widget.querySelectorAll('.armt-controls [name]')].map(
    (input) => [input.name, input.type === 'checkbox' ? input.checked : input.value]))"""


def shown(widget):
    """What the controls and the sentence of a widget say."""
    return widget.evaluate(STATE), widget.locator(".armt-summary").inner_text()


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
    options = choice.locator("option").evaluate_all("all => all.map((option) => option.value)")
    assert len(options) > 1
    for option in options:
        choice.select_option(option)
        frame(page)
        assert choice.input_value() == option


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


TRIES = {"input[type=range]": try_slider, "select": try_list, "input[type=checkbox]": try_switch}


@each_widget_page
@each_theme
@each_width
def test_every_control_follows_mouse_and_keyboard_and_is_reset(open_page, name, theme, width):
    with open_page(name, theme, width) as page:
        for widget in widgets_of(page):
            before = shown(widget)
            for kind, try_control in TRIES.items():
                for control in widget.locator(f".armt-controls {kind}").all():
                    try_control(page, control)
            assert shown(widget)[0] != before[0]
            widget.get_by_role("button", name="Reset").press("Enter")
            frame(page)
            assert shown(widget) == before


@each_widget_page
def test_a_link_carries_the_state_of_every_widget(open_page, browser, address, name):
    with open_page(name) as page:
        for widget in widgets_of(page):
            for slider in widget.locator(".armt-controls input[type=range]").all()[:2]:
                slider.press("End")
                slider.press("ArrowLeft")
        frame(page)
        page.wait_for_timeout(600)  # the address follows a quarter of a second later
        states, link = [shown(widget) for widget in widgets_of(page)], page.url
    assert "#" in link
    with open_page(f"{name}#{link.split('#')[1]}") as page:
        assert [shown(widget) for widget in widgets_of(page)] == states


@each_widget_page
def test_a_wrong_link_changes_nothing(open_page, name):
    with open_page(name) as page:
        names = [
            [control.get_attribute("name") for control in widget.locator("[name]").all()]
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
def test_print_shows_the_static_figure_instead(open_page, name):
    with open_page(name) as page:
        assert page.locator(".armt-static").count() == page.locator(".armt-widget").count()
        assert not any(figure.is_visible() for figure in page.locator(".armt-static").all())
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
