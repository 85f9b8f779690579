"""widgets.js draws what ipywidgets stored and runs what anywidget stored, without a kernel: on a
page of their states and nothing else, opened from a folder.
"""

import json

import anywidget
import ipywidgets
import pytest
import traitlets
from ipywidgets.embed import embed_data
from site_pages import SITE, visit

SCRIPT = SITE / "_static" / "widgets.js"


class Doubler(anywidget.AnyWidget):
    """Shows twice its number and the first of its bytes; a click adds one to the number."""

    number = traitlets.Int(3).tag(sync=True)
    weights = traitlets.Bytes(b"\x07\x08").tag(sync=True)
    _css = ".doubler { width: 123px; }"
    _esm = """
    export default () => ({
      initialize({ model }) { model.set("ready", true); },
      render({ model, el }) {
        const button = document.createElement("button");
        const show = () => {
          const byte = model.get("weights").getUint8(0);
          button.textContent = `${2 * model.get("number")}, ${byte}, ${model.get("ready")}`;
        };
        button.className = "doubler";
        button.onclick = () => { model.set("number", model.get("number") + 1); };
        model.on("change:number", show);
        show();
        el.append(button);
      },
    });
    """


class Broken(anywidget.AnyWidget):
    _esm = "export default { render() { throw new Error('on purpose'); } };"


@pytest.fixture
def show(browser, tmp_path):
    """`show(widget, ...)`: a page with these widgets, and what went wrong in it."""
    opened = []

    def show(*widgets):
        data = embed_data(views=widgets, drop_defaults=False)
        stored = [("state", data["manager_state"])]
        stored += [("view", view) for view in data["view_specs"]]
        tags = [
            f'<script type="application/vnd.jupyter.widget-{kind}+json">{json.dumps(part)}</script>'
            for kind, part in stored
        ]
        html = tmp_path / "page.html"
        html.write_text(
            "<!doctype html><meta charset=utf-8><title>Widgets</title><body>"
            + "\n".join(tags)
            + f'<script src="{SCRIPT.as_uri()}"></script>'
        )
        opened.append(visit(browser, ""))
        page, problems = opened[-1].__enter__()
        page.goto(html.as_uri())
        return page, problems

    yield show
    for visited in opened:
        visited.__exit__(None, None, None)


def test_linked_slider_and_anywidget_move_each_other(show):
    doubler = Doubler()
    slider = ipywidgets.IntSlider(value=3, max=20, description="number")
    ipywidgets.jslink((slider, "value"), (doubler, "number"))
    page, problems = show(doubler, slider)
    button, control = page.locator(".doubler"), page.get_by_label("number")
    page.get_by_text("6, 7, true").wait_for()
    assert button.bounding_box()["width"] == 123
    control.fill("10")
    assert button.text_content() == "20, 7, true"
    button.click()
    assert control.input_value() == "11"
    assert page.locator("output").text_content() == "11"
    assert not problems


def test_one_way_link_goes_one_way(show):
    first, second = (ipywidgets.FloatSlider(value=0.5, max=1, description=name) for name in "ab")
    ipywidgets.jsdlink((first, "value"), (second, "value"))
    page, problems = show(first, second)
    page.get_by_label("a").fill("0.7")
    assert page.get_by_label("b").input_value() == "0.7"
    page.get_by_label("b").fill("0.2")
    assert page.get_by_label("a").input_value() == "0.7"
    assert not problems


def test_player_turns_the_frames_and_stops_at_the_last(show):
    frames = [
        ipywidgets.Image(
            value=f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="9"/>'.encode(),
            format="svg+xml",
            tooltip=f"{size} wide",
        )
        for size in (10, 20, 30)
    ]
    stack = ipywidgets.Stack(frames, selected_index=0)
    player = ipywidgets.Play(max=2, interval=20)
    ipywidgets.jslink((player, "value"), (stack, "selected_index"))
    page, problems = show(ipywidgets.VBox([player, stack]))
    assert page.get_by_alt_text("10 wide").is_visible()
    assert not page.get_by_alt_text("30 wide").is_visible()
    page.get_by_role("button", name="Play").click()
    page.get_by_alt_text("30 wide").wait_for()
    page.get_by_role("button", name="Play").wait_for()
    assert not page.get_by_alt_text("10 wide").is_visible()
    assert page.get_by_alt_text("30 wide").bounding_box()["width"] == 30
    assert not problems


def test_dropdown_checkbox_and_text(show):
    rule = ipywidgets.Dropdown(options=["add", "delta"], description="rule")
    frames = ipywidgets.Stack([ipywidgets.Label("<first>"), ipywidgets.HTML("<b>second</b>")])
    frames.selected_index = 0
    checkbox = ipywidgets.Checkbox(value=True, description="on")
    ipywidgets.jslink((rule, "index"), (frames, "selected_index"))
    page, problems = show(rule, frames, checkbox)
    assert page.get_by_text("<first>").is_visible()
    page.get_by_label("rule").select_option("delta")
    assert page.locator("b").is_visible()
    assert not page.get_by_text("<first>").is_visible()
    assert page.get_by_label("on").is_checked()
    assert not problems


@pytest.mark.parametrize(
    ("widget", "reason"),
    [(ipywidgets.Text(), "Text works in a running notebook only"), (Broken(), "on purpose")],
)
def test_what_does_not_work_says_so(show, widget, reason):
    page, problems = show(widget)
    page.get_by_text(reason).wait_for()
    assert any(reason in problem for problem in problems)
