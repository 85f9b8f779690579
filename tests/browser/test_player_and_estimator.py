"""Players play, and the estimator of the built book gives the package's numbers."""

import pytest
from test_ask_model import widget_of
from test_every_widget import frame
from test_rewrite_lab import numbers

from armt_mini.widgets import Estimator

PAGE = "chapters/07_first_training.html"


def test_the_estimator_agrees_with_the_package(open_page):
    values = {"percent": 61.3, "n_pairs": 37, "n_values": 9, "n_questions": 140}
    link = "&".join(f"estimator.{name}={value}" for name, value in values.items())
    with open_page(f"{PAGE}#{link}") as page:
        estimator = Estimator(**values)
        found = numbers(widget_of(page, "estimator").locator(".armt-summary").inner_text())
        estimate, low, high = estimator.remembered()
        assert found[:2] == list(estimator.score())
        assert (found[2], found[5], found[6]) == pytest.approx((estimate, low, high), abs=0.051)


@pytest.mark.parametrize("name", ["training", "in-use"])
def test_a_player_plays_to_its_end_pauses_and_steps(open_page, name):
    with open_page(PAGE) as page:
        player = widget_of(page, name)
        slider = player.locator("[name=frame]")
        last = int(slider.get_attribute("max"))
        first = player.locator("canvas").first.evaluate("(canvas) => canvas.toDataURL()")
        player.get_by_role("button", name="Play").press("Enter")
        page.wait_for_function("(slider) => slider.value > 2", arg=slider.element_handle())
        player.get_by_role("button", name="Pause").click()
        frame(page)
        paused = slider.input_value()
        page.wait_for_timeout(400)
        assert slider.input_value() == paused
        assert player.locator("canvas").first.evaluate("(canvas) => canvas.toDataURL()") != first
        player.get_by_role("button", name="Next").click()
        frame(page)
        assert int(slider.input_value()) == int(paused) + 1
        slider.press("End")
        slider.press("ArrowLeft")
        player.get_by_role("button", name="Play").click()
        player.get_by_role("button", name="Play").wait_for()  # it pauses by itself at the end
        assert int(slider.input_value()) == last
        assert "after" in player.locator(".armt-summary").inner_text()
