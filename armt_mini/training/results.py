"""What a training run was and how well it answers, in a JSON file: figures are drawn from these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from armt_mini.checks import check_at_least
from armt_mini.training.checkpoints import (
    PACKAGE,
    WEIGHTS,
    load_model,
    read_checkpoint,
    write_bytes,
)
from armt_mini.training.loop import Stage, TrainingConfig

RESULTS = PACKAGE.parent / "data" / "results"  # of a checkout
EVERY = 20  # steps for which a training curve has one point


def describe_run(checkpoint: str | Path) -> dict[str, Any]:
    """What a checkpoint of a training run says of it.

    weights: how many the model has. state_floats: the numbers that pass from one segment to the
    next, for one text. seconds: of all steps together, None if not all were timed. curve: means
    over 20 steps. Raises ValueError for a checkpoint that is none of a training run.
    """
    tensors, about = read_checkpoint(checkpoint)
    columns = {
        name.removeprefix("history."): column
        for name, column in tensors.items()
        if name.startswith("history.")
    }
    if "loss" not in columns:
        raise ValueError(
            f"checkpoint: expected one of a training run, {checkpoint} holds a model alone."
        )
    seconds = columns.get("seconds", columns["loss"][:0])
    is_timed = len(seconds) == len(columns["loss"])
    model: Any = load_model(checkpoint)
    return about | {
        "weights": sum(t.numel() for name, t in tensors.items() if name.startswith(WEIGHTS)),
        "state_floats": sum(count(state) for state in model.empty_states(1)),
        "seconds": float(seconds.sum()) if is_timed else None,
        "curve": curve(columns),
    }


def count(state: Any) -> int:
    """How many numbers a state holds: a tensor, or a tuple of tensors."""
    return state.numel() if isinstance(state, Tensor) else sum(part.numel() for part in state)


def curve(columns: Mapping[str, Tensor], every: int = EVERY) -> dict[str, list]:
    """Number of the last step, pairs, loss and accuracy for each `every` steps, as means."""
    check_at_least(1, every=every)
    n_steps = len(columns["loss"])
    starts = range(0, n_steps, every)
    means = {
        name: [round(float(columns[name][i : i + every].mean()), 4) for i in starts]
        for name in ("n_pairs", "loss", "accuracy")
    }
    return {"step": [min(start + every, n_steps) for start in starts], **means}


def begin_results(file: str | Path, checkpoint: str | Path) -> dict[str, Any]:
    """The content of the results file of a run, or that of a new one.

    Raises ValueError if the file is about another run or no results file, and if the checkpoint is
    none of a training run.
    """
    file, run = Path(file), describe_run(checkpoint)
    if file.is_dir():
        raise ValueError(f"out: expected a file, {file} is a folder; name a file in it.")
    if not file.exists():
        return {"run": run, "evaluations": []}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        theirs = found["run"]["provenance"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"out: expected a results file, {file} holds something else; use another file."
        ) from None
    if theirs != run["provenance"]:
        raise ValueError(
            f"out: {file} is about another run ({theirs['command']}); use another file, or remove "
            f"this one."
        )
    return found


def save_results(file: str | Path, found: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Write what `begin_results` found, and what `evaluate --json` says; a repetition takes the
    place of what it repeats."""
    others = [e for e in found["evaluations"] if questions(e) != questions(said)]
    whole = {**found, "evaluations": [*others, said]}
    write_bytes(file, json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n")


def questions(evaluation: Mapping[str, Any]) -> list[Any]:
    """What was asked and how: settings, and how many pairs (or tokens) in each row."""
    names = "seed", "samples", "questions", "batch_size", "babi_folder", "background"
    settings = [evaluation.get(name) for name in names]
    settings.append(evaluation.get("precision") or "float32")  # older files do not say
    return [*settings, *map(length, evaluation["results"])]


def length(row: Mapping[str, Any]) -> int:
    """Pairs or tokens of the texts that a row of results is about."""
    return row["pairs"] if "pairs" in row else row["tokens"]


def short(n_tokens: int) -> str:
    """A length of thousands or millions of tokens as a reader writes it: 64k, 10M."""
    return f"{n_tokens // 10**6}M" if n_tokens >= 10**6 else f"{n_tokens // 1000}k"


def exact_matches(result: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Rows of a results file by pairs (or tokens); where several have as many, the largest sample.

    Of the task's own questions: those about a reader's stories or in another text are left out.
    """
    own = [e for e in result["evaluations"] if not (e.get("babi_folder") or e.get("background"))]
    rows = [row for evaluation in own for row in evaluation["results"]]
    rows.sort(key=lambda row: (length(row), row["total"]))
    return {length(row): row for row in rows}


def stages_of(training: Mapping[str, Any]) -> str:
    """The stages of a run with texts, as a table: length and number of texts, most steps, changes.

    training: as a results file has it. A setting holds until a later line changes it.
    """
    lines = ["tokens texts steps  what changes"]
    stages = [Stage(**each | {"n_pairs": tuple(each["n_pairs"])}) for each in training["stages"]]
    sizes = {name: training[name] for name in ("batch_size", "most_read") if name in training}
    config = TrainingConfig(stages=stages, **sizes)
    for stage in stages:
        n_tokens = stage.n_pairs[1]
        changes = [f"{name}={value}" for name, value in stage.settings.items()] or [""]
        begin = f"{n_tokens:6,d} {config.batch_of(n_tokens):5d} {stage.max_steps:5,d}  "
        lines += [begin + changes[0], *(" " * len(begin) + change for change in changes[1:])]
    return "\n".join(line.rstrip() for line in lines)


def load_results(pattern: str) -> dict[str, dict[str, Any]]:
    """The results files whose names match, such as "rewrite-armt-seed*", by name.

    Raises ValueError if there is none.
    """
    files = sorted(RESULTS.glob(f"{pattern}.json"))
    if not files:
        raise ValueError(f"pattern: expected the name of a file in {RESULTS}, got {pattern!r}.")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
