"""Figures of the book: arrays in, Matplotlib figure out. Needs matplotlib and seaborn.

Colours are those of Okabe and Ito, which colour-blind readers can tell apart; a system keeps its
colour in every chapter. Figures have a light ground of their own, so they read the same on a dark
page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, dropwhile
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, GREY, BLACK = "#CC79A7", "#56B4E9", "#767676", "#1A1A1A"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, GREY, BLACK)
COLOURS = {
    "gamma": BLUE,
    "delta": VERMILION,
    "additive": ORANGE,
    "ARMT": BLUE,
    "RMT": GREEN,
    "PRMT": PINK,
    "attention": GREY,
    "theory": BLACK,
}
DIVERGING = "RdBu_r"  # for signed entries, white at zero
SEQUENTIAL = "viridis"  # for entries that are never negative
MARKERS = "osD^vPX*"


def use_style() -> None:
    """The book's look, for every figure of a notebook. Call it once, in the first cell."""
    sns.set_theme(context="notebook", style="ticks", palette=list(PALETTE))
    mpl.rcParams.update(
        {
            "figure.figsize": (5.6, 3.6),  # wide enough, and its text can be read on a phone
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#E6E6E6",
            "image.cmap": DIVERGING,
            "legend.frameon": False,
            "lines.linewidth": 2,
        }
    )


def heatmaps(
    matrices: Mapping[str, ArrayLike],
    *,
    rows: str = "feature of the key",
    columns: str = "entry of the value",
    colour_label: str = "association",
    n_columns: int = 2,
) -> Figure:
    """Matrices as heatmaps on one colour scale, each under its title.

    The scale fits the largest entry of all; it is centred at 0, or begins there if no entry is
    negative.
    """
    arrays = {title: to_numpy(matrix) for title, matrix in matrices.items()}
    lowest = min(float(array.min()) for array in arrays.values())
    limit = max(float(np.abs(array).max()) for array in arrays.values()) or 1.0
    scale = (
        {"cmap": DIVERGING, "vmin": -limit, "vmax": limit}
        if lowest < 0
        else {"cmap": SEQUENTIAL, "vmin": 0, "vmax": limit}
    )
    n_columns = min(n_columns, len(arrays))
    n_rows = -(-len(arrays) // n_columns)
    size = (min(5.6, 2.3 * n_columns + 0.9), 2.5 * n_rows + 0.4)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False)
    image = None
    for axis, (title, array) in zip(axes.flat, arrays.items(), strict=False):
        image = axis.imshow(array, aspect="auto", interpolation="nearest", **scale)
        axis.set_title(title, fontsize="medium")
        axis.grid(visible=False)
        axis.locator_params(integer=True)
    for axis in axes.flat[len(arrays) :]:
        axis.set_visible(False)
    figure.supxlabel(columns, fontsize="medium")
    figure.supylabel(rows, fontsize="medium")
    assert image is not None
    figure.colorbar(image, ax=axes, label=colour_label, shrink=0.9)
    return figure


def curves(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    x_label: str,
    y_label: str,
    axis: Axes | None = None,
    log_x: bool = False,
    colours: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    spread: Mapping[str, ArrayLike] | None = None,
) -> Axes:
    """One line for each series, told apart by colour and by marker.

    colours: for names that have none in COLOURS; dashed: names drawn without markers (theory);
    spread: for some names half the height of a band around the line, such as standard deviations.
    """
    axis = axis or plt.subplots()[1]
    known = {**COLOURS, **(colours or {})}
    spare = cycle(colour for colour in PALETTE if colour not in {known.get(n) for n in series})
    for marker, (name, y) in zip(cycle(MARKERS), series.items(), strict=False):
        style: dict[str, Any] = {"linestyle": "--"} if name in dashed else {"marker": marker}
        colour = known.get(name) or next(spare)
        axis.plot(to_numpy(x), to_numpy(y), label=name, color=colour, **style)
        if spread and name in spread:
            low, high = to_numpy(y) - to_numpy(spread[name]), to_numpy(y) + to_numpy(spread[name])
            axis.fill_between(to_numpy(x), low, high, color=colour, alpha=0.15, linewidth=0)
    if log_x:
        axis.set_xscale("log")
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.legend()
    return axis


def trainings(results: Mapping[str, Mapping[str, Any]], ticks: Sequence[int]) -> Sequence[Axes]:
    """Length of the texts and share of right answers over the steps of runs with texts.

    results: by name, each as its file has it. ticks: lengths in tokens that the axis names. A
    dotted line is where a run's texts get decoys.
    """
    axes = tuple(plt.subplots(2, 1, figsize=(5.6, 5.2), sharex=True)[1])
    for (name, result), colour in zip(results.items(), PALETTE, strict=False):
        points, stages = result["run"]["curve"], result["run"]["training"]["stages"]
        quiet = dropwhile(lambda stage: "decoys" not in stage["settings"], stages)
        begin = points["step"][-1] - sum(stage["max_steps"] for stage in quiet)
        for axis, part in zip(axes, ("n_pairs", "accuracy"), strict=True):
            # The last mean is of fewer steps.
            axis.plot(points["step"][:-1], points[part][:-1], color=colour, label=name)
            axis.axvline(begin, color=colour, linestyle=":", linewidth=1)
    axes[0].set(yscale="log", ylabel="length (tokens)")
    axes[0].set_yticks(ticks, [f"{n:,}" for n in ticks])
    axes[1].set(ylim=(0, 1.04), ylabel="answers right (share)", xlabel="training steps (number)")
    axes[1].legend(loc="lower right")
    return axes


def recurrence_diagram(
    hands_on: Mapping[str, tuple[str, bool]], n_segments: int = 3, n_layers: int = 3
) -> Figure:
    """What passes between the cells of a recurrence: one panel a model, segments by layers.

    hands_on: for each title what a cell hands to the next segment, and whether every layer does
    (to itself) or only the last one (to the first).
    """
    figure, axes = plt.subplots(len(hands_on), 1, figsize=(5.4, 3.3 * len(hands_on)), squeeze=False)
    box = {"boxstyle": "round,pad=0.45", "facecolor": "#F2F2F2", "edgecolor": GREY}
    up = {"arrowstyle": "->", "color": GREY, "linewidth": 1.5}
    top = n_layers - 1
    for axis, colour, (title, (label, is_each)) in zip(
        axes.flat, cycle((BLUE, GREEN, PINK)), hands_on.items(), strict=False
    ):
        across = {"arrowstyle": "-|>", "color": colour, "linewidth": 2.5}
        axis.set(xlim=(-0.5, n_segments - 0.2), ylim=(-1.25, n_layers - 0.1), title=title)
        axis.axis("off")
        for segment in range(n_segments):
            axis.text(segment, -1, f"segment {segment + 1}", ha="center", va="center")
            for layer in range(n_layers):
                axis.text(segment, layer, f"layer {layer + 1}", ha="center", va="center", bbox=box)
                axis.annotate("", (segment, layer - 0.26), (segment, layer - 0.76), arrowprops=up)
                if is_each or layer == top:
                    end = layer if is_each else 0
                    axis.annotate(
                        "", (segment + 0.7, end), (segment + 0.3, layer), arrowprops=across
                    )
                    middle = (layer + end) / 2 + 0.1
                    shift = 0.5 if is_each else 0.6
                    axis.text(segment + shift, middle, label, ha="center", va="bottom")
            axis.annotate("", (segment, top + 0.75), (segment, top + 0.26), arrowprops=up)
    return figure


def to_numpy(array: Any) -> np.ndarray:
    """A NumPy array of a tensor, array or sequence, wherever it lies."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if "bfloat16" in str(array.dtype) else array  # which NumPy lacks
    return np.asarray(array)
