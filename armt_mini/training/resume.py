"""Where a training run stands, in a file: saved at any moment, and taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from armt_mini.tasks.babilong import Babilong
from armt_mini.training.checkpoints import (
    WEIGHTS,
    config_of,
    describe_model,
    read_checkpoint,
    save_checkpoint,
)

AVERAGE = "average."  # what the names of averaged weights in a file begin with
# Settings of a training that older files do not name: what they were then.
CAME_LATER = {
    "optimiser": "adamw", "average": 1, "warmup": 0, "schedule": "sequential",
    "precision": "float32",
}  # fmt: skip


def save_run(
    path: str | Path,
    model: nn.Module,
    recipe: dict[str, Any],
    history: Mapping[str, Sequence[float]],
    optimisers: Sequence[torch.optim.Optimizer],
    average: Mapping[str, Tensor],
) -> None:
    """A checkpoint with all that is needed to go on.

    recipe: what a run that goes on must agree with. history: lists of numbers, one a step.
    optimisers, average (of the weights, by their names): none for a run that is finished.
    """
    moments = {
        f"{prefix}{parameter}.{name}": tensor
        for prefix, optimiser in prefixed(optimisers)
        for parameter, tensors in optimiser.state_dict()["state"].items()
        for name, tensor in tensors.items()
    }
    # Python's floats are 64 bit: stored so, a resumed history is the same to the last digit.
    columns = {
        f"history.{name}": torch.tensor(column, dtype=torch.float64)
        for name, column in history.items()
    }
    means = {AVERAGE + name: tensor for name, tensor in average.items()}
    save_checkpoint(path, model, recipe, moments | columns | means)


def prefixed(
    optimisers: Sequence[torch.optim.Optimizer],
) -> Iterator[tuple[str, torch.optim.Optimizer]]:
    """Each of them with what the names of its tensors begin with in a file."""
    for n, optimiser in enumerate(optimisers):
        yield f"optimiser{n or ''}.", optimiser


def resume(
    path: str | Path,
    model: nn.Module,
    recipe: dict[str, Any],
    optimisers: Sequence[torch.optim.Optimizer],
    average: dict[str, Tensor],
) -> dict[str, list[Any]]:
    """Put model, optimisers and average where the checkpoint left them, and return its history.

    Raises ValueError, before it changes anything, if the file is of another run, model or dtype.
    """
    tensors, about = read_checkpoint(path)
    saved = {
        kind: {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}
        for kind in (WEIGHTS, AVERAGE, "history.", *(prefix for prefix, _ in prefixed(optimisers)))
    }
    if missing := {"stage", "n_pairs", "loss", "accuracy"} - set(saved["history."]):
        raise ValueError(
            f"checkpoint: {path} holds a model but no training run (no {min(missing)} in its "
            f"history); use another file."
        )
    with suppress(KeyError, TypeError, ValueError):  # else the comparison says what is wrong
        about = about | {"config": asdict(config_of(about))}
        for stage in about["training"]["stages"]:  # older files lack what came later
            stage.setdefault("settings", {})
        about["training"] = CAME_LATER | about["training"]
        if "split" in about["task"]:  # only BABILong has one
            about["task"] = asdict(Babilong()) | about["task"]
    theirs = flat(json.loads(json.dumps(about))) | {"dtype": dtypes(saved[WEIGHTS])}
    ours = flat(json.loads(json.dumps({**describe_model(model), **recipe})))
    ours["dtype"] = dtypes(model.state_dict())
    del ours["training.checkpoint_every"]  # how often a run is saved does not change it
    n_begun = saved["history."]["stage"].unique().numel()
    for stage in recipe["training"]["stages"][:n_begun]:
        for name in stage["settings"]:  # which have changed the model of the file
            ours.pop(f"config.{name}", None)
    for name, expected in ours.items():
        if theirs.get(name) != expected:
            anew = "make the model anew" if name.startswith("config.") else "remove this one"
            raise ValueError(
                f"checkpoint: {path} belongs to another run: its {name} is {theirs.get(name)}, "
                f"expected {expected}; use another file, or {anew}."
            )
    model.load_state_dict(saved[WEIGHTS])
    for prefix, optimiser in prefixed(optimisers):
        state = optimiser.state_dict()
        for name, tensor in saved[prefix].items():
            parameter, moment = name.split(".")
            state["state"].setdefault(int(parameter), {})[moment] = tensor
        optimiser.load_state_dict(state)
    for name, mean in saved[AVERAGE].items():
        average[name] = mean.to(model.get_parameter(name).device)
    columns = {name: column.tolist() for name, column in saved["history."].items()}
    for name in ("stage", "n_pairs"):
        columns[name] = [int(number) for number in columns[name]]
    return columns


def dtypes(weights: Mapping[str, torch.Tensor]) -> str:
    """The dtype of the weights, or all of them where they differ."""
    return ", ".join(sorted({str(tensor.dtype) for tensor in weights.values()}))


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A dictionary of dictionaries as one, with names like "training.seed"."""
    found = {}
    for name, value in nested.items():
        is_inner = isinstance(value, Mapping)
        found |= flat(value, f"{prefix}{name}.") if is_inner else {prefix + name: value}
    return found
