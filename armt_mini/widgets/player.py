"""Player: matrices that change, played together frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from armt_mini import figures
from armt_mini.widgets.base import Widget

STEPS = 127  # of colour on either side of zero: a frame entry is one byte


class Player(Widget):
    """Play, pause or step through matrices computed beforehand.

    panels: a title for each series of matrices, (frames, rows, columns); all have as many frames
    and are shown side by side at the same one. Each has one colour scale for all of its frames.
    moments: what to call each frame, "after 3 updates".
    """

    module = "player.js"

    frame = traitlets.Int(0, min=0, max=9999).tag(sync=True, label="Frame")
    panels = traitlets.List(help="title, size, colour limit and bytes of each series").tag(
        sync=True
    )
    moments = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self, panels: Mapping[str, ArrayLike], moments: Sequence[str], **settings: Any
    ) -> None:
        """Raises ValueError where the panels are not as long as the moments, or there are
        none, and for entries that are not finite."""
        arrays = {title: figures.to_numpy(frames) for title, frames in panels.items()}
        for title, array in arrays.items():
            if array.ndim != 3 or len(array) != len(moments):
                raise ValueError(
                    f"panels[{title!r}]: expected (frames, rows, columns) with {len(moments)} "
                    f"frames, as many as moments, got shape {array.shape}."
                )
            if not np.isfinite(array).all():
                raise ValueError(
                    f"panels[{title!r}]: expected finite numbers, got NaN or infinity."
                )
        if not arrays or not moments:
            raise ValueError("panels and moments: expected at least one of each, got none.")
        super().__init__(**settings)
        if self.frame >= len(moments):
            raise ValueError(f"frame: expected 0 to {len(moments) - 1}, got {self.frame}.")
        self.moments = list(moments)
        self.panels = [in_bytes(title, array) for title, array in arrays.items()]
        self.controls = [control | {"max": len(moments) - 1} for control in self.controls]

    def shown(self, frame: int | None = None) -> dict[str, np.ndarray]:
        """The matrices of a frame (by default the present one) as the page shows them."""
        frame = self.frame if frame is None else frame
        return {
            panel["title"]: np.frombuffer(panel["frames"], np.int8).reshape(
                len(self.moments), panel["rows"], panel["columns"]
            )[frame]
            * (panel["limit"] / STEPS)
            for panel in self.panels
        }

    def figure(self) -> Figure:
        """A few frames of each series: one row a series, with its own colour scale."""
        last = len(self.moments) - 1
        chosen = sorted({0, last // 4, last // 2, last})
        size = (8, 2.4 * len(self.panels) + 0.4)
        figure, axes = plt.subplots(
            len(self.panels), len(chosen), figsize=size, squeeze=False, layout="constrained"
        )
        for row, panel in zip(axes, self.panels, strict=True):
            scale = {"cmap": figures.DIVERGING, "vmin": -panel["limit"], "vmax": panel["limit"]}
            for axis, i in zip(row, chosen, strict=True):
                axis.imshow(self.shown(i)[panel["title"]], aspect="auto", **scale)
                axis.grid(visible=False)
                axis.tick_params(labelsize="small")
            row[0].set_ylabel(panel["title"], fontsize="small", wrap=True)
            figure.colorbar(row[0].images[0], ax=row)
        for axis, i in zip(axes[0], chosen, strict=True):
            axis.set_title(self.moments[i], fontsize="small")
        return figure

    def description(self) -> str:
        titles = ", ".join(panel["title"] for panel in self.panels)
        return (
            f"Animation of {len(self.moments)} frames, from “{self.moments[0]}” to "
            f"“{self.moments[-1]}”: {titles}."
        )


def in_bytes(title: str, array: np.ndarray) -> dict[str, Any]:
    """A series of matrices, each entry rounded to one of 255 steps of its colour scale."""
    limit = float(np.abs(array).max()) or 1.0
    frames = np.round(array * (STEPS / limit)).astype(np.int8)
    _, rows, columns = array.shape
    return {
        "title": title, "rows": rows, "columns": columns, "limit": limit,
        "frames": frames.tobytes(),
    }  # fmt: skip
