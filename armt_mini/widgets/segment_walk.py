"""Segment walk: which cell (segment, layer) hands what to which, and in what order they can run."""

from __future__ import annotations

import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from armt_mini import figures
from armt_mini.widgets.base import Widget

SYSTEMS = {
    "armt": "ARMT: A and z",
    "rmt": "RMT: last to first",
    "prmt": "PRMT: tokens",
}
Cell = tuple[int, int]  # segment and layer, both from 1 on
MOST = {"segments": 8, "layers": 6}


class SegmentWalk(Widget):
    """Cells (segment, layer) of a recurrent model, computed one after another and as soon as
    what they need is there, beside each other at one tick of the clock.

    system: armt, rmt or prmt. tick: how many ticks have passed; a cell takes one.
    """

    module = "segment_walk.js"

    tick = traitlets.Int(0, min=0, max=MOST["segments"] * MOST["layers"]).tag(
        sync=True, label="Ticks of the clock"
    )
    system = traitlets.Enum(list(SYSTEMS), "armt").tag(sync=True, label="Model", options=SYSTEMS)
    n_segments = traitlets.Int(5, min=1, max=MOST["segments"]).tag(sync=True, label="Segments")
    n_layers = traitlets.Int(3, min=1, max=MOST["layers"]).tag(sync=True, label="Layers")

    def cells(self) -> list[Cell]:
        """All cells in the sequential order."""
        layers = range(1, self.n_layers + 1)
        return [(s, layer) for s in range(1, self.n_segments + 1) for layer in layers]

    def needs(self, cell: Cell) -> list[Cell]:
        """The cells that hand something to this one."""
        segment, layer = cell
        found = []
        if layer > 1:
            found.append((segment, layer - 1))  # hidden vectors
        if segment > 1 and self.system != "rmt":
            found.append((segment - 1, layer))  # this layer's memory
        if segment > 1 and self.system == "rmt" and layer == 1:
            found.append((segment - 1, self.n_layers))
        return found

    def one_after_another(self) -> dict[Cell, int]:
        """The tick in which each cell runs, from 1 on."""
        return {cell: tick for tick, cell in enumerate(self.cells(), 1)}

    def as_soon_as_possible(self) -> dict[Cell, int]:
        """The same where a cell waits for nothing but what it needs."""
        ticks: dict[Cell, int] = {}
        for cell in self.cells():
            ticks[cell] = 1 + max((ticks[needed] for needed in self.needs(cell)), default=0)
        return ticks

    def figure(self) -> Figure:
        orders = {
            "one after another": self.one_after_another(),
            "as soon as possible": self.as_soon_as_possible(),
        }
        figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
        for axis, (title, ticks) in zip(axes, orders.items(), strict=True):
            for (segment, layer), tick in ticks.items():
                colour = figures.SKY if tick <= self.tick else "#FFFFFF"
                box = {"boxstyle": "square,pad=0.5", "facecolor": colour}
                axis.text(segment, layer, f"{tick:2d}", ha="center", va="center", bbox=box)
            axis.set(title=f"{title}: {max(ticks.values())} ticks", xlabel="segment")
            axis.set(xlim=(0.4, self.n_segments + 0.6), ylim=(0.4, self.n_layers + 0.6))
            axis.locator_params(integer=True)
            axis.grid(visible=False)
        axes[0].set_ylabel("layer")
        return figure

    def description(self) -> str:
        sequential = len(self.cells())
        soonest = max(self.as_soon_as_possible().values())
        return (
            f"{self.n_segments} segments and {self.n_layers} layers of {self.system.upper()}: "
            f"{sequential} ticks one after another, {soonest} as soon as possible."
        )
