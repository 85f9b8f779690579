"""Capacity lab: how many random pairs one matrix holds."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from scipy.stats import norm
from torch import Tensor

import armt_mini as am
from armt_mini import figures
from armt_mini.feature_maps import feature_map
from armt_mini.linear_attention import divide
from armt_mini.memory_state import MemoryState
from armt_mini.widgets.base import Widget
from armt_mini.widgets.draws import normals, uniforms

N_MOST = 64  # pairs
N_VALUES = 16
N_MEMORIES = 4
"""The first is shown; the curve is the mean of all."""

MAPS = {"none": "none (the key itself)", "elu_plus_one": "elu + 1", "relu": "ReLU", "dpfp": "DPFP"}
RULES = {"additive": "add", "delta": "delta rule", "gamma": "delta rule with γ"}


class Experiment(NamedTuple):
    states: list[MemoryState]  # after 0, 1, 2, … pairs; the first of the batch is the one shown
    margins: list[Tensor]  # the same, (N_MEMORIES, pairs): lead of the right symbol
    accuracy: Tensor  # (pairs + 1,), mean of all memories
    theory: Tensor  # (pairs + 1,), for adding


class CapacityLab(Widget):
    """Store random pairs under random keys, ask every key, count the right answers.

    A key is a random direction of d_memory entries, its value one of 16 symbols. `overlap` is the
    mean overlap that two keys share before the feature map (0 … 0.95), `noise` the length of a
    random error in every query (0 … 1). A pair is recalled when its symbol has the largest entry
    of φ(q)ᵀA.
    """

    module = "capacity_lab.js"

    rule = traitlets.Enum(list(RULES), "additive").tag(sync=True, label="Write rule", options=RULES)
    feature_map = traitlets.Enum(list(MAPS), "none").tag(
        sync=True, label="Feature map φ", options=MAPS
    )
    d_memory = traitlets.Int(16, min=2, max=32).tag(sync=True, label="Key dimension d")
    n_pairs = traitlets.Int(4, min=0, max=N_MOST).tag(sync=True, label="Stored pairs")
    overlap = traitlets.Float(0, min=0, max=0.95).tag(sync=True, label="Overlap of keys", step=0.05)
    noise = traitlets.Float(0, min=0, max=1).tag(sync=True, label="Noise in queries", step=0.05)
    seed = traitlets.Int(0, min=0, max=9996).tag(sync=True, label="Seed", step=4)
    theory = traitlets.Dict().tag(sync=True)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.theory = chances()

    def experiment(self) -> Experiment:
        """What the page computes, by the package."""
        d = self.d_memory
        shape = N_MEMORIES, N_MOST, d
        own, error = (
            torch.from_numpy(normals(self.seed + i, math.prod(shape))).view(shape) for i in (0, 1)
        )
        common = torch.from_numpy(normals(self.seed + 2, 64))[:d]
        keys = F.normalize((1 - self.overlap) ** 0.5 * own + self.overlap**0.5 * common, dim=-1)
        queries = keys + self.noise * d**-0.5 * error
        phi = (lambda x: x) if self.feature_map == "none" else feature_map(self.feature_map)
        keys, queries = phi(keys), phi(queries)
        symbols = torch.from_numpy(uniforms(self.seed + 3, N_MEMORIES * N_MOST))
        symbols = (N_VALUES * symbols).long().view(N_MEMORIES, N_MOST)
        values = F.one_hot(symbols, N_VALUES).to(keys)

        state = MemoryState.empty(N_MEMORIES, keys.shape[-1], N_VALUES, dtype=keys.dtype)
        states, margins, accuracy = [state], [torch.zeros(N_MEMORIES, 0)], [torch.tensor(1.0)]
        ones = torch.ones(N_MEMORIES, 1, dtype=keys.dtype)
        for n in range(1, N_MOST + 1):
            state = am.write(state, keys[:, n - 1 : n], values[:, n - 1 : n], ones, self.rule)
            answers = queries[:, :n] @ state.associations
            is_stored = values[:, :n] == 1
            others = answers.masked_fill(is_stored, -torch.inf).amax(dim=-1)
            lead = answers[is_stored].view(others.shape) - others
            lead = divide(lead, keys[:, :n].square().sum(-1))  # ReLU may leave nothing of a key
            states.append(state)
            margins.append(lead)
            accuracy.append((lead > 0).double().mean())

        weights = queries[0] @ keys[0].T  # how much every stored key weighs in every answer
        has_signal = weights.diagonal() != 0
        shares = weights / weights.diagonal().unsqueeze(-1)
        shares = shares[~torch.eye(N_MOST, dtype=torch.bool) & has_signal.unsqueeze(-1)]
        variance = shares.square().mean() / N_VALUES - (shares.mean() / N_VALUES) ** 2
        deviations = (variance * torch.arange(N_MOST)).sqrt()
        theory = [1.0, *(chance(deviation) for deviation in deviations.tolist())]
        return Experiment(states, margins, torch.stack(accuracy), torch.tensor(theory))

    def figure(self) -> Figure:
        found = self.experiment()
        figure, axes = plt.subplots(
            1, 3, figsize=(9, 3), width_ratios=[1, 1.4, 1.4], layout="constrained"
        )
        matrix = found.states[self.n_pairs].associations[0].numpy()
        limit = np.abs(matrix).max() or 1
        axes[0].imshow(matrix, cmap=figures.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        axes[0].set(xlabel="symbol", ylabel="feature", title="matrix A")
        lead = found.margins[self.n_pairs][0].numpy()
        colours = [figures.BLUE if x > 0 else figures.VERMILION for x in lead]
        axes[1].bar(range(1, self.n_pairs + 1), lead, color=colours)
        axes[1].set(xlabel="pair", ylabel="lead of the right symbol", title="recall of each pair")
        accuracy, theory = found.accuracy.numpy(), found.theory.numpy()
        axes[2].plot(accuracy, color=figures.BLUE, label="measured")
        axes[2].plot(theory, color=figures.BLACK, linestyle="--", label="adding, in theory")
        axes[2].plot(self.n_pairs, accuracy[self.n_pairs], "o", color=figures.BLUE)
        axes[2].set(xlabel="stored pairs", ylabel="recalled (share)", ylim=(0, 1.05))
        axes[2].legend()
        return figure

    def description(self) -> str:
        found = self.experiment()
        right = int((found.margins[self.n_pairs][0] > 0).sum())
        rows, columns = found.states[0].associations.shape[1:]
        return (
            f"Capacity lab with {self.n_pairs} pairs in a matrix of {rows} × {columns}: {right} "
            f"recalled. Accuracy falls from 1 at one pair to {found.accuracy[-1]:.2f} at "
            f"{len(found.accuracy) - 1} pairs."
        )


def chance(deviation: float) -> float:
    """Probability that 1 + noise beats 15 other noises, all normal with this deviation."""
    if deviation == 0:
        return 1.0
    x = np.linspace(-6, 6, 401)  # the own noise, in standard deviations
    return float(np.trapezoid(norm.pdf(x) * norm.cdf(x + 1 / deviation) ** (N_VALUES - 1), x))


@cache
def chances() -> dict[str, Any]:
    """`chance` as a table for the page: its values from `least` on, `per_decade` of them."""
    return {
        "least": 0.01,
        "per_decade": 50,
        "chances": [round(chance(x), 6) for x in 0.01 * 10 ** (np.arange(201) / 50)],
    }
