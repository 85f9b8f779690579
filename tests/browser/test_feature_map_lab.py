"""The feature-map lab of the built book shows what the package computes."""

import math

import numpy as np
import pytest
import torch
from drawn import Chart, assert_matrix, numbers
from test_every_widget import frame

from armt_mini.widgets import FeatureMapLab

PAGE = "chapters/03_feature_maps.html"
STYLES = {"elu + 1": "armt-third", "ReLU": "armt-other", "DPFP": "armt-measured"}


def assert_shows(widget, lab):
    """The table, the pictures of the features and the curves of a widget are the package's."""
    found = lab.features()
    expected = [x for both in found.values() for x in (both.overlap, both.cosine)]
    cells = [x for cell in widget.locator("tbody td").all() for x in numbers(cell.inner_text())]
    assert cells == pytest.approx(expected, rel=6e-3, abs=1e-9)
    turned = [lab.turned(5 * step) for step in range(73)]
    curves = Chart(widget, "Overlap when y turns")
    for (map_name, both), (label, style) in zip(found.items(), STYLES.items(), strict=True):
        assert_matrix(widget, f"Features of x (top) and y, {label}", torch.stack(both))
        cosines = [at[map_name].cosine for at in turned]
        assert curves.line(style)[:, 1] == pytest.approx(np.array(cosines), abs=0.003)
    turn = math.atan2(lab.y2, lab.y1) - math.atan2(lab.x2, lab.x1)
    assert curves.points()[:, 0] == pytest.approx([math.degrees(turn) % 360] * 3, abs=1)
    assert curves.points()[:, 1] == pytest.approx(expected[1::2], abs=0.003)


@pytest.mark.parametrize("nu", [1, 3])
@pytest.mark.parametrize("d_memory", [2, 8, 13])
def test_page_and_package_agree(open_page, d_memory, nu):
    places = {"x1": -1.3, "x2": 0.7, "y1": 0.2, "y2": -1.9}
    values = places | {"d_memory": d_memory, "nu": nu}
    link = "&".join(f"feature-map-lab.{name}={value}" for name, value in values.items())
    with open_page(f"{PAGE}#{link}", typeset=False) as page:
        assert_shows(page.locator(".armt-widget"), FeatureMapLab(**values))


def drag_by_mouse(page, first, *others):
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place)
    page.mouse.up()


def drag_by_finger(page, first, *others):
    session = page.context.new_cdp_session(page)

    def touch(kind, *places):
        points = [{"x": x, "y": y} for x, y in places]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", first)
    for place in others:
        touch("touchMove", place)
    touch("touchEnd")


def place_in(plane):
    """`place(1, 0.5)`: where on the page the point (1, 0.5) of the plane is."""
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    unit = box["width"] / 4.4
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return lambda right, up: (middle[0] + unit * right, middle[1] - unit * up)


@pytest.mark.parametrize(("drag", "width"), [(drag_by_mouse, 1280), (drag_by_finger, 390)])
def test_both_points_can_be_dragged(open_page, drag, width):
    with open_page(PAGE, width=width, typeset=False) as page:
        widget = page.locator(".armt-widget")
        place = place_in(widget.locator(".armt-plane > svg"))
        before = page.evaluate("scrollY")
        for start, end in (((1, 0.5), (-1.5, -0.4)), ((-0.5, 1), (1.2, -1.1))):
            drag(page, place(*start), place(0.3, 0.3), place(*end))
        page.mouse.move(*place(0, 0))  # nothing follows the mouse any more
        frame(page)
        assert page.evaluate("scrollY") == before
        lab = FeatureMapLab(x1=-1.5, x2=-0.4, y1=1.2, y2=-1.1)
        for name in ("x1", "x2", "y1", "y2"):
            shown = float(widget.locator(f"[name={name}]").input_value())
            assert shown == pytest.approx(getattr(lab, name), abs=0.11)
            setattr(lab, name, shown)
        assert_shows(widget, lab)


def test_a_finger_beside_the_points_scrolls_the_page(open_page):
    with open_page(PAGE, width=390, typeset=False) as page:
        widget = page.locator(".armt-widget")
        place = place_in(widget.locator(".armt-plane > svg"))
        before = page.evaluate("scrollY")
        drag_by_finger(page, *(place(0, -2 + step / 4) for step in range(8)))
        page.wait_for_function("(before) => scrollY > before", arg=before)
        assert widget.locator("[name=y2]").input_value() == "1"
