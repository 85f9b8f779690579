"""Feature-map lab: two vectors to drag, and how much they overlap under each map."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from armt_mini import figures
from armt_mini.feature_maps import feature_map
from armt_mini.widgets.base import Widget
from armt_mini.widgets.draws import normals

MAPS = {"elu_plus_one": "elu + 1", "relu": "ReLU", "dpfp": "DPFP"}
N_MOST = 16  # entries of a key
COLOURS = dict(zip(MAPS, (figures.ORANGE, figures.VERMILION, figures.BLUE), strict=True))


def entry(default: float, label: str) -> traitlets.Float:
    return traitlets.Float(default, min=-2, max=2).tag(sync=True, label=label, step=0.1)


class Features(NamedTuple):
    """What one map makes of both vectors."""

    x: Tensor  # (d_key)
    y: Tensor  # (d_key)

    @property
    def overlap(self) -> float:
        """φ(x)ᵀφ(y)"""
        return (self.x @ self.y).item()

    @property
    def cosine(self) -> float:
        """The overlap of the features at length one; 0 if a vector has none."""
        lengths = (self.x.norm() * self.y.norm()).item()
        return self.overlap / lengths if lengths else 0.0


class FeatureMapLab(Widget):
    """Keys x and y in a plane through the space of keys, under elu + 1, ReLU and DPFP.

    (x1, x2) and (y1, y2), each −2 … 2, are places in the plane. It is spanned by two directions of
    `d_memory` entries, drawn by lot: with two entries alone DPFP would only tell quadrants apart.
    nu: ν of DPFP, 1 … 3.
    """

    module = "feature_map_lab.js"

    x1 = entry(1.0, "x, to the right")
    x2 = entry(0.5, "x, up")
    y1 = entry(-0.5, "y, to the right")
    y2 = entry(1.0, "y, up")
    d_memory = traitlets.Int(8, min=2, max=N_MOST).tag(sync=True, label="Key dimension d")
    nu = traitlets.Int(3, min=1, max=3).tag(sync=True, label="ν of DPFP")

    def vectors(self) -> Tensor:
        """(2, 2): where x and y are in the plane."""
        entries = [[self.x1, self.x2], [self.y1, self.y2]]
        return torch.tensor(entries, dtype=torch.float64)

    def plane(self) -> Tensor:
        """(2, d_memory): directions of length one, at a right angle."""
        drawn = torch.from_numpy(normals(0, 2 * N_MOST)).view(2, N_MOST)[:, : self.d_memory]
        first = F.normalize(drawn[0], dim=0)
        return torch.stack([first, F.normalize(drawn[1] - (drawn[1] @ first) * first, dim=0)])

    def features(self, vectors: Tensor | None = None) -> dict[str, Features]:
        """What the page computes, by the package: for each map."""
        keys = (self.vectors() if vectors is None else vectors) @ self.plane()
        maps = {name: feature_map(name, nu=self.nu) for name in MAPS}
        return {name: Features(*phi(keys)) for name, phi in maps.items()}

    def turned(self, degrees: float) -> dict[str, Features]:
        """The same with y turned, at its length, to stand at this angle from x."""
        x, y = self.vectors()
        angle = math.atan2(*x.flip(0).tolist()) + math.radians(degrees)
        length = y.norm().item()
        y = torch.tensor([length * math.cos(angle), length * math.sin(angle)], dtype=x.dtype)
        return self.features(torch.stack([x, y]))

    def figure(self) -> Figure:
        vectors = self.vectors()
        figure, axes = plt.subplots(
            1, 2, figsize=(7.5, 3.2), width_ratios=[1, 1.6], layout="constrained"
        )
        for (a, b), name, colour in zip(
            vectors.tolist(), "xy", (figures.BLUE, figures.VERMILION), strict=True
        ):
            axes[0].annotate("", (a, b), (0, 0), arrowprops={"color": colour, "arrowstyle": "->"})
            axes[0].text(1.1 * a, 1.1 * b, name, color=colour)
        axes[0].set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal")
        axes[0].set(xlabel="to the right", ylabel="up")
        degrees = range(0, 361, 5)
        turned = [self.turned(angle) for angle in degrees]
        for (name, label), dash in zip(MAPS.items(), ("--", "-.", "-"), strict=True):
            cosines = [features[name].cosine for features in turned]
            axes[1].plot(degrees, cosines, dash, color=COLOURS[name], label=label)
        axes[1].set(xlabel="angle from x to y (degrees)", ylabel="overlap of φ(x) and φ(y)")
        axes[1].legend()
        return figure

    def description(self) -> str:
        overlaps = ", ".join(
            f"{MAPS[name]} {found.cosine:.2f}" for name, found in self.features().items()
        )
        x, y = self.vectors().tolist()
        return f"Overlap of the features of x = {x} and y = {y}: {overlaps}."
