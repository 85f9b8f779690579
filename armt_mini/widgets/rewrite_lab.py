"""Rewrite lab: the same key written again and again, with γ on and off."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

import armt_mini as am
from armt_mini import figures
from armt_mini.memory_state import MemoryState
from armt_mini.widgets.base import Widget

N_MOST = 50  # segments
VALUES = torch.tensor([[10, 0], [0, 10], [6, 6], [-8, 4]], dtype=torch.float64)
"""v₁ to v₄ of the chapter; then they come round again."""

SCHEDULES = {
    "once": "a new value",
    "same": "the same value",
    "first_twice": "first: two values",
    "later_twice": "later: twice each",
}
RULES = {"γ on": "gamma", "γ off": "delta"}


class After(NamedTuple):
    """A memory after a segment, and what it says about the first key."""

    state: MemoryState
    overlap: float  # zᵀφ(k)
    counted: float  # γ of the latest write of the key
    recalled: Tensor  # (2)


class RewriteLab(Widget):
    """Write the key φ(k) = (1, 2, 0, 0) segment after segment and ask it, ε = 0.

    With `second_key`, every other segment writes another key of the same length instead, whose
    overlap with the first (the cosine, 0 … 0.9) is `overlap`.
    """

    module = "rewrite_lab.js"

    n_segments = traitlets.Int(2, min=0, max=N_MOST).tag(sync=True, label="Segments read")
    schedule = traitlets.Enum(list(SCHEDULES), "once").tag(
        sync=True, label="A segment writes", options=SCHEDULES
    )
    strength = traitlets.Float(1, min=0.05, max=1).tag(sync=True, label="Strength β", step=0.05)
    clip_gamma = traitlets.Bool(True).tag(sync=True, label="γ clipped to 0 … 1")
    second_key = traitlets.Bool(False).tag(sync=True, label="A second key between")
    overlap = traitlets.Float(0.5, min=0, max=0.9).tag(
        sync=True, label="Overlap of the two", step=0.1
    )

    def writes(self, segment: int) -> tuple[int, Tensor]:
        """Which key (0 or 1) a segment (from 0 on) writes, and its values (tokens, 2)."""
        key = segment % 2 if self.second_key else 0
        n = segment // 2 if self.second_key else segment  # earlier segments with this key
        if self.schedule == "same":
            return key, VALUES[:1]
        if self.schedule == "first_twice":
            return key, VALUES[:2] if n == 0 else VALUES[[(n + 1) % 4]]
        return key, VALUES[[n % 4] * (2 if self.schedule == "later_twice" and n > 0 else 1)]

    def features(self) -> Tensor:
        """(2, 4): features of both keys."""
        rest = math.sqrt(1 - self.overlap**2)
        second = [self.overlap, 2 * self.overlap, rest, 2 * rest]
        return torch.tensor([[1.0, 2.0, 0.0, 0.0], second], dtype=torch.float64)

    def stored(self) -> list[Tensor]:
        """The value to recall after 0, 1, 2, … segments, (2); two values at once: their mean."""
        found = [torch.zeros(2, dtype=torch.float64)]
        for segment in range(N_MOST):
            key, values = self.writes(segment)
            found.append(found[-1] if key else values.mean(0))
        return found

    def experiment(self) -> dict[str, list[After]]:
        """What the page computes, by the package: for γ on and off, after 0, 1, 2, … segments."""
        keys = self.features()
        asked = keys[:1][None]
        found = {}
        for name, rule in RULES.items():
            state = MemoryState.empty(1, 4, 2, dtype=torch.float64)
            after = [After(state, 0.0, 0.0, torch.zeros(2, dtype=torch.float64))]
            for segment in range(N_MOST):
                which, values = self.writes(segment)
                tokens = keys[which].expand(1, len(values), 4)
                counted = after[-1].counted
                if which == 0:
                    missing = am.gamma(state.normaliser, asked, eps=0, clip=self.clip_gamma)
                    counted = missing.item() if rule == "gamma" else 1.0
                strengths = torch.full((1, len(values)), self.strength, dtype=torch.float64)
                state = am.write(
                    state, tokens, values[None], strengths, rule, eps=0, clip_gamma=self.clip_gamma
                )
                overlap = (state.normaliser[0] @ keys[0]).item()
                after.append(After(state, overlap, counted, am.read(state, asked, eps=0)[0, 0]))
            found[name] = after
        return found

    def errors(self, after: list[After]) -> np.ndarray:
        """Length of (recalled − stored), a share of the stored length: from 1 segment on."""
        stored = self.stored()[1:]
        pairs = zip(after[1:], stored, strict=True)
        return np.array([((a.recalled - v).norm() / v.norm()).item() for a, v in pairs])

    def figure(self) -> Figure:
        found = self.experiment()
        figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.6), layout="constrained")
        limit = max(after[self.n_segments].state[0].abs().max().item() for after in found.values())
        for axis, (name, after) in zip(axes[0], found.items(), strict=True):
            axis.imshow(
                after[self.n_segments].state.associations[0].numpy(),
                cmap=figures.DIVERGING, vmin=-limit or -1, vmax=limit or 1, aspect="auto",
            )  # fmt: skip
            axis.set(xlabel="entry of the value", ylabel="feature", title=f"matrix A, {name}")
            axis.grid(visible=False)
        segments = range(1, N_MOST + 1)
        for name, after in found.items():
            style = {"color": figures.COLOURS[RULES[name]], "label": name}
            axes[1, 0].plot(segments, [a.overlap / 5 for a in after[1:]], **style)
            axes[1, 1].plot(segments, self.errors(after), **style)
        axes[1, 0].set(xlabel="segments", ylabel="copies of the key in z")
        axes[1, 1].set(xlabel="segments", ylabel="error of recall")
        axes[1, 1].set_ylim(bottom=0)
        axes[1, 0].legend()
        return figure

    def description(self) -> str:
        words = " and ".join(
            f"({', '.join(f'{x:.3g}' for x in after[self.n_segments].recalled.tolist())}), {name}"
            for name, after in self.experiment().items()
        )
        return f"Rewrite lab after {self.n_segments} segments: the key recalls {words}."
