"""Figures: what is drawn is what was given, and every axis says what it shows."""

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from armt_mini import figures


@pytest.fixture(autouse=True)
def closed():
    figures.use_style()
    yield
    plt.close("all")


def images(figure):
    return [axis.images[0] for axis in figure.axes if axis.images]


def test_heatmaps_show_every_matrix_on_one_scale_under_its_title():
    small, large = torch.tensor([[1.0, -1.0, 0.0]]), np.array([[0.0, 3.0, -2.0]])
    figure = figures.heatmaps({"small": small, "large": large}, n_columns=1)
    drawn = images(figure)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["small", "large"]
    for image, matrix in zip(drawn, (small, large), strict=True):
        assert np.array_equal(image.get_array(), np.asarray(matrix))
        assert image.get_clim() == (-3, 3)
    assert figure.get_supylabel() == "feature of the key"
    assert figure.get_supxlabel() == "entry of the value"


def test_the_scale_begins_at_zero_where_no_entry_is_negative():
    (image,) = images(figures.heatmaps({"overlap": np.array([[0.0, 2.0]])}))
    assert image.get_clim() == (0, 2)
    assert image.get_cmap().name == figures.SEQUENTIAL


def test_an_empty_memory_has_a_scale_too():
    (image,) = images(figures.heatmaps({"empty": np.zeros((2, 3))}))
    assert image.get_clim() == (0, 1)


def test_heatmaps_stay_as_narrow_as_a_page():
    figure = figures.heatmaps({str(i): np.ones((2, 2)) for i in range(5)})
    assert figure.get_figwidth() <= 5.6
    assert sum(axis.get_visible() for axis in figure.axes) == 6  # five and the colour bar


def test_curves_draw_each_series_with_the_colour_of_its_system_and_a_marker_of_its_own():
    axis = figures.curves(
        [1, 2, 3],
        {"gamma": [1, 1, 1], "other": torch.tensor([3.0, 2.0, 1.0]), "theory": [1, 0, 0]},
        x_label="writes (number)",
        y_label="recall (share)",
        dashed=["theory"],
        log_x=True,
    )
    gamma, other, theory = axis.get_lines()[:3]
    assert gamma.get_color() == figures.COLOURS["gamma"]
    assert other.get_color() not in {gamma.get_color(), theory.get_color()}
    assert list(other.get_ydata()) == [3, 2, 1]
    assert gamma.get_marker() != other.get_marker()
    assert theory.get_linestyle() == "--"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("writes (number)", "recall (share)")
    assert axis.get_xscale() == "log"


def test_a_band_shows_the_spread_around_a_curve():
    axis = figures.curves(
        [1, 2], {"gamma": [3, 4]}, x_label="x", y_label="y", spread={"gamma": [1, 2]}
    )
    (band,) = axis.collections
    corners = band.get_paths()[0].vertices
    assert {(1, 2), (1, 4), (2, 2), (2, 6)} <= {tuple(corner) for corner in corners.tolist()}


def test_the_diagram_shows_every_cell_and_what_it_hands_on():
    figure = figures.recurrence_diagram({"ARMT": ("A, z", True), "RMT": ("memory", False)}, 3, 2)
    armt, rmt = ([text.get_text() for text in axis.texts] for axis in figure.axes)
    assert armt.count("layer 1") == armt.count("layer 2") == 3
    assert armt.count("A, z") == 6
    assert rmt.count("memory") == 3


def test_colours_of_a_palette_differ():
    assert len(set(figures.PALETTE)) == len(figures.PALETTE)


def test_more_series_than_markers_are_all_drawn():
    series = {str(i): [i, i] for i in range(10)}
    axis = figures.curves([1, 2], series, x_label="x (number)", y_label="y (share)")
    assert [line.get_label() for line in axis.lines] == list(series)


def test_trainings_show_lengths_and_answers_and_where_decoys_begin():
    curve = {"step": [20, 40, 50], "n_pairs": [16, 32, 32], "accuracy": [0.2, 0.9, 1.0]}
    stages = [
        {"max_steps": 99, "settings": {}},
        {"max_steps": 15, "settings": {"decoys": 0.05}},
        {"max_steps": 5, "settings": {}},
    ]
    result = {"run": {"curve": curve, "training": {"stages": stages}}}
    axes = figures.trainings({"seed0": result, "seed1": result}, (16, 32))
    for axis, part in zip(axes, ("n_pairs", "accuracy"), strict=True):
        line, begin = axis.lines[:2]
        assert line.get_xydata().tolist() == [[20, curve[part][0]], [40, curve[part][1]]]
        assert begin.get_xdata() == [30, 30]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["16", "32"]
    assert [text.get_text() for text in axes[1].get_legend().texts] == ["seed0", "seed1"]
