"""The feature-map lab of the built book shows what the package computes."""

import pytest
from test_every_widget import frame
from test_rewrite_lab import numbers

from armt_mini.widgets import FeatureMapLab

PAGE = "chapters/03_feature_maps.html"


def assert_shows(widget, lab):
    expected = [x for found in lab.features().values() for x in (found.overlap, found.cosine)]
    cells = widget.locator("tbody td").all()
    found = [x for cell in cells for x in numbers(cell.inner_text())]
    assert found == pytest.approx(expected, rel=6e-3, abs=1e-9)


@pytest.mark.parametrize("nu", [1, 3])
@pytest.mark.parametrize("d_memory", [2, 8, 13])
def test_page_and_package_agree(open_page, d_memory, nu):
    places = {"x1": -1.3, "x2": 0.7, "y1": 0.2, "y2": -1.9}
    values = places | {"d_memory": d_memory, "nu": nu}
    link = "&".join(f"feature-map-lab.{name}={value}" for name, value in values.items())
    with open_page(f"{PAGE}#{link}") as page:
        assert_shows(page.locator(".armt-widget"), FeatureMapLab(**values))


@pytest.mark.parametrize("width", [1280, 390])
def test_both_points_can_be_dragged(open_page, width):
    with open_page(PAGE, width=width) as page:
        widget = page.locator(".armt-widget")
        plane = widget.locator(".armt-plane > svg")
        plane.scroll_into_view_if_needed()
        box = plane.bounding_box()
        unit = box["width"] / 4.4

        def place(first, second):
            return box["x"] + box["width"] / 2 + unit * first, box["y"] + box[
                "height"
            ] / 2 - unit * second

        for start, end in (((1, 0.5), (-1.5, -0.4)), ((-0.5, 1), (1.2, -1.1))):
            page.mouse.move(*place(*start))
            page.mouse.down()
            page.mouse.move(*place(0.3, 0.3))
            page.mouse.move(*place(*end))
            page.mouse.up()
        page.mouse.move(*place(0, 0))  # nothing follows the mouse any more
        frame(page)
        lab = FeatureMapLab(x1=-1.5, x2=-0.4, y1=1.2, y2=-1.1)
        for name in ("x1", "x2", "y1", "y2"):
            shown = float(widget.locator(f"[name={name}]").input_value())
            assert shown == pytest.approx(getattr(lab, name), abs=0.11)
            setattr(lab, name, shown)
        assert_shows(widget, lab)
