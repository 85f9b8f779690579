"""The segment walk of the built book keeps the package's clocks."""

import pytest
from drawn import numbers
from test_every_widget import frame

from armt_mini.widgets import SegmentWalk

PAGE = "chapters/06_segment_recurrence.html"


def assert_shows(widget, walk):
    orders = walk.one_after_another(), walk.as_soon_as_possible()
    done = [sum(at <= walk.tick for at in ticks.values()) for ticks in orders]
    expected = [walk.tick, done[0], len(orders[0]), done[1], *(max(t.values()) for t in orders)]
    assert numbers(widget.locator(".armt-summary").inner_text())[:6] == expected
    for grid, ticks in zip(widget.locator(".armt-grid-of-cells").all(), orders, strict=True):
        cells = grid.locator("rect.armt-cell + text").all_text_contents()
        assert [int(text) for text in cells] == list(ticks.values())
        assert grid.locator("rect.armt-now").count() == sum(
            at == walk.tick for at in ticks.values()
        )


@pytest.mark.parametrize("system", ["armt", "rmt", "prmt"])
def test_page_and_package_agree(page, widget, system):
    widget.locator("[name=system]").select_option(system)
    widget.locator("[name=n_layers]").press("ArrowRight")
    widget.locator("[name=n_segments]").press("End")
    walk = SegmentWalk(system=system, n_layers=4, n_segments=8)
    for walk.tick in range(1, 7):
        widget.get_by_role("button", name="One tick").press("Enter")
        frame(page)
        assert_shows(widget, walk)
    widget.get_by_role("button", name="Back").click()
    frame(page)
    walk.tick -= 1
    assert_shows(widget, walk)
