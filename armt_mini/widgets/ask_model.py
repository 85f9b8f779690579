"""Ask a model: a trained model reads pairs in the page, and is asked for any key."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

import armt_mini as am
from armt_mini import figures
from armt_mini.checks import check_one_of
from armt_mini.memory_state import MemoryState
from armt_mini.tasks.associative_retrieval import END, N_DIGITS, QUERY, SEPARATOR
from armt_mini.widgets.base import Widget
from armt_mini.widgets.draws import uniforms

N_MOST = {1: 200}  # pairs, by number of layers
N_MOST_OF_DEEPER = 64  # a page computes a hundred times as long for each
COMPUTED = ("armt", "layer-alone")  # systems that engine.js knows
COLOURS = (figures.BLUE, figures.VERMILION)


class Asked(NamedTuple):
    """One model after reading: its memories, and what it answers for each of the 16 keys."""

    states: list[MemoryState]
    logits: Tensor  # (16, vocabulary)


class AskModel(Widget):
    """Trained models that read pairs of Rewrite one by one and are asked for keys.

    checkpoints: what each model is called on the page, and the name of its shipped checkpoint
    (`python -m armt_mini info` lists them); one or two, of Rewrite with keys of one digit.
    typed: the reader's own pairs, "3:7 11:2"; while it is empty pairs are drawn by lot (`seed`).
    erased: the layer whose memory is emptied before asking, 0 for none.
    """

    module = "ask_model.js"

    n_read = traitlets.Int(8, min=0, max=N_MOST[1]).tag(sync=True, label="Pairs read")
    asked = traitlets.Int(3, min=0, max=N_DIGITS - 1).tag(sync=True, label="Key asked")
    erased = traitlets.Int(0, min=0, max=16).tag(sync=True, label="Layer erased (0: none)")
    seed = traitlets.Int(0, min=0, max=9999).tag(sync=True, label="Seed")
    typed = traitlets.Unicode("").tag(sync=True, label="Your own pairs")
    checkpoints = traitlets.Dict()
    models = traitlets.List(help="name and file of each model").tag(sync=True)

    def __init__(self, checkpoints: dict[str, str], **settings: Any) -> None:
        """Raises ValueError unless there are one or two, shipped, of systems a page computes."""
        if not 1 <= len(checkpoints) <= 2:
            raise ValueError(f"checkpoints: expected one or two, got {len(checkpoints)}.")
        super().__init__(checkpoints=checkpoints, **settings)
        loaded = [in_16_bits(name) for name in checkpoints.values()]
        self.models = [
            {"name": label, "weights": file}
            for label, (_, file) in zip(checkpoints, loaded, strict=True)
        ]
        n_layers = max(len(model.empty_states(1)) for model, _ in loaded)
        self.n_most = N_MOST.get(n_layers, N_MOST_OF_DEEPER)
        most = {"n_read": self.n_most, "erased": n_layers}
        self.controls = [
            control | {"max": most.get(control["name"], control.get("max"))}
            if "max" in control
            else control
            for control in self.controls
        ]

    def pairs(self) -> list[tuple[int, int]]:
        """All pairs of the text: key and value."""
        if typed := parse_pairs(self.typed):
            return typed[: self.n_most]
        drawn = (N_DIGITS * uniforms(self.seed, 2 * self.n_most)).astype(int).reshape(-1, 2)
        return [(key, value) for key, value in drawn.tolist()]

    def stored(self) -> dict[int, int]:
        """Key and latest value of what has been read."""
        return dict(self.pairs()[: self.n_read])

    @torch.no_grad()
    def experiment(self) -> dict[str, Asked]:
        """What the page computes, by the package, with the same 16-bit weights."""
        tokens = [[key, SEPARATOR, value, END] for key, value in self.pairs()[: self.n_read]]
        questions = torch.tensor([[[key, QUERY] for key in range(N_DIGITS)]])
        found = {}
        for label, name in self.checkpoints.items():
            model, _ = in_16_bits(name)
            states = model.empty_states(1)
            if tokens:
                states = model.memorise(torch.tensor([tokens]).flatten(1), states)
            if 0 < self.erased <= len(states):
                states[self.erased - 1] = model.empty_states(1)[self.erased - 1]
            found[label] = Asked(states, model.ask(questions, states)[0, :, -1])
        return found

    def n_right(self) -> dict[str, int]:
        """How many of the keys read so far each model answers with their latest value."""
        stored = self.stored()
        return {
            label: sum(int(found.logits[key].argmax()) == value for key, value in stored.items())
            for label, found in self.experiment().items()
        }

    def figure(self) -> Figure:
        found = self.experiment()
        parts = [
            (f"A, {label}" + (f", layer {i}" if len(asked.states) > 1 else ""), state)
            for label, asked in found.items()
            for i, state in enumerate(asked.states, 1)
        ]
        figure, axes = plt.subplots(1, len(parts) + 1, figsize=(9, 3), layout="constrained")
        for axis, (title, state) in zip(axes, parts, strict=False):
            matrix = state.associations[0].numpy()
            limit = abs(matrix).max() or 1
            axis.imshow(matrix, cmap=figures.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
            axis.set(xlabel="entry of the value", ylabel="feature", title=title)
            axis.grid(visible=False)
        for i, (label, asked) in enumerate(found.items()):
            share = asked.logits[self.asked].softmax(-1)[:N_DIGITS].numpy()
            place = np.arange(N_DIGITS) + 0.4 * i
            axes[-1].bar(place, share, width=0.4, color=COLOURS[i], label=label)
        axes[-1].set(xlabel="value", ylabel="probability", ylim=(0, 1))
        axes[-1].set_title(f"answer for key {self.asked}")
        axes[-1].legend()
        return figure

    def description(self) -> str:
        right = " and ".join(f"{n} ({label})" for label, n in self.n_right().items())
        n_keys = len(self.stored())
        n_read = min(self.n_read, len(self.pairs()))
        return f"A trained model after {n_read} pairs: right for {right} of {n_keys} keys."


def parse_pairs(text: str) -> list[tuple[int, int]]:
    """ "3:7, 11:2" -> [(3, 7), (11, 2)]; raises ValueError for anything else."""
    pairs = []
    for word in re.split(r"[\s,;]+", text.strip()):
        found = re.fullmatch(r"(\d+):(\d+)", word)
        if word and not (found and max(map(int, found.groups())) < N_DIGITS):
            raise ValueError(
                f"typed: expected pairs of digits 0 to 15 such as 3:7 11:2, got {word!r}."
            )
        if found:
            pairs.append((int(found[1]), int(found[2])))
    return pairs


@cache
def in_16_bits(name: str) -> tuple[Any, bytes]:
    """A shipped model with its weights rounded to 16 bits, and the file of them for the page."""
    from safetensors.torch import save

    from armt_mini.training.checkpoints import WEIGHTS, describe_model

    model = am.from_pretrained(name)
    about = describe_model(model)
    check_one_of(f"system of {name}", about["system"], COMPUTED)
    weights = {WEIGHTS + key: weight.half() for key, weight in model.state_dict().items()}
    return model.half().double(), save(weights, {"about": json.dumps(about)})
