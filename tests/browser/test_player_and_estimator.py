"""Players play, and the estimator of the built book gives the package's numbers."""

import base64
import json

import numpy as np
import pytest
from drawn import Chart, assert_matrix, numbers
from test_ask_model import widget_of
from test_every_widget import frame

from armt_mini.widgets import Estimator

PAGE = "chapters/07_first_training.html"
PLAYERS = [
    (PAGE, "training"),
    (PAGE, "in-use"),
    ("chapters/08_diagonal_schedule.html", "filling"),
]


def test_the_estimator_agrees_with_the_package(open_page):
    values = {"percent": 61.3, "n_pairs": 37, "n_values": 9, "n_questions": 140}
    link = "&".join(f"estimator.{name}={value}" for name, value in values.items())
    with open_page(f"{PAGE}#{link}", typeset=False) as page:
        estimator = Estimator(**values)
        found = numbers(widget_of(page, "estimator").locator(".armt-summary").inner_text())
        estimate, low, high = estimator.remembered()
        assert found[:2] == list(estimator.score())
        assert (found[2], found[5], found[6]) == pytest.approx((estimate, low, high), abs=0.051)
        chart = Chart(widget_of(page, "estimator"), "Pairs remembered, by exact match")
        assert chart.points() == pytest.approx(np.array([[61.43, estimate]]), abs=0.1)
        assert chart.line("armt-interval")[:, 1] == pytest.approx([low, high], abs=0.1)


def frames_of(page, name):
    """What the notebook stored for a player: title and matrices (frames, rows, columns)."""
    saved = json.loads(
        page.locator("script[type='application/vnd.jupyter.widget-state+json']").inner_text()
    )
    (model,) = (m for m in saved["state"].values() if m["state"].get("name") == name)
    frames = {}
    for panel, buffer in zip(model["state"]["panels"], model["buffers"], strict=True):
        steps = np.frombuffer(base64.b64decode(buffer["data"]), np.int8) / 127
        frames[panel["title"]] = panel["limit"] * steps.reshape(-1, panel["rows"], panel["columns"])
    return frames


def test_players_show_the_frames_of_the_notebook(open_page):
    with open_page(PAGE, typeset=False) as page:
        for name in ("training", "in-use"):
            player = widget_of(page, name)
            for key in ("Home", "PageUp", "End"):
                player.locator("[name=frame]").press(key)
                frame(page)
                shown = int(player.locator("[name=frame]").input_value())
                for title, frames in frames_of(page, name).items():
                    assert_matrix(player, title, frames[shown])


@pytest.mark.parametrize(("chapter", "name"), PLAYERS)
def test_a_player_plays_to_its_end_pauses_and_steps(open_page, chapter, name):
    with open_page(chapter, typeset=False) as page:
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
