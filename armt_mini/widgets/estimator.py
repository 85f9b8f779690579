"""Estimator: how many pairs a model remembers, from its exact match."""

from __future__ import annotations

import math

import numpy as np
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from armt_mini import figures
from armt_mini.training.evaluation import Score, pairs_remembered
from armt_mini.widgets.base import Widget


class Estimator(Widget):
    """k = n (vα − 1) / (v − 1) with Wilson's 95 % interval (ARMT, appendix C).

    percent: exact match α, 0 … 100; n_pairs: n; n_values: v; n_questions: how many questions α was
    measured with. The nearest whole number of right answers counts.
    """

    module = "estimator.js"

    percent = traitlets.Float(84.4, min=0, max=100).tag(
        sync=True, label="Exact match α (%)", step=0.1
    )
    n_pairs = traitlets.Int(200, min=1, max=1000).tag(sync=True, label="Pairs in a text n")
    n_values = traitlets.Int(16, min=2, max=64).tag(sync=True, label="Values v")
    n_questions = traitlets.Int(250, min=10, max=2000).tag(
        sync=True, label="Questions asked", step=10
    )

    def score(self) -> Score:
        """Right answers of all questions."""
        right = math.floor(self.percent / 100 * self.n_questions + 0.5)
        return Score(right, self.n_questions)

    def remembered(self) -> tuple[float, float, float]:
        """The estimate k, and the ends of its interval."""
        score = self.score()
        estimate, low, high = (
            pairs_remembered(accuracy, self.n_pairs, self.n_values)
            for accuracy in (score.accuracy, *score.interval())
        )
        return estimate, low, high

    def figure(self) -> Figure:
        estimate, low, high = self.remembered()
        accuracy = np.linspace(0, 1, 101)
        line = [pairs_remembered(a, self.n_pairs, self.n_values) for a in accuracy]
        figure, axis = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
        axis.plot(100 * accuracy, line, color=figures.BLUE)
        axis.axvline(100 / self.n_values, color=figures.GREY, linestyle=":", label="guessing")
        right = 100 * self.score().accuracy
        axis.errorbar(
            [right], [estimate], [[estimate - low], [high - estimate]],
            fmt="o", color=figures.VERMILION, capsize=4, label="estimate and interval",
        )  # fmt: skip
        axis.set(xlabel="exact match (%)", ylabel="pairs remembered (number)")
        axis.legend()
        return figure

    def description(self) -> str:
        estimate, low, high = self.remembered()
        right, total = self.score()
        return (
            f"{right} of {total} questions right about texts of {self.n_pairs} pairs with "
            f"{self.n_values} values: about {estimate:.1f} pairs remembered, "
            f"95 % interval {low:.1f} to {high:.1f}."
        )
