"""What a training run was and how well it answers, in a JSON file: figures are drawn from these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from armt_mini.checks import check_at_least
from armt_mini.training.checkpoints import PACKAGE, WEIGHTS, load_model, read_checkpoint

RESULTS = PACKAGE.parent / "data" / "results"  # of a checkout
EVERY = 20  # steps for which a training curve has one point


def describe_run(checkpoint: str | Path) -> dict[str, Any]:
    """What a checkpoint of a training run says of it.

    weights: how many the model has. state_floats: the numbers that pass from one segment to the
    next, for one text. seconds: of all steps together. curve: means over 20 steps.
    """
    tensors, about = read_checkpoint(checkpoint)
    columns = {
        name.removeprefix("history."): column
        for name, column in tensors.items()
        if name.startswith("history.")
    }
    model: Any = load_model(checkpoint)
    return about | {
        "weights": sum(t.numel() for name, t in tensors.items() if name.startswith(WEIGHTS)),
        "state_floats": sum(count(state) for state in model.empty_states(1)),
        "seconds": float(columns["seconds"].sum()) if "seconds" in columns else None,
        "curve": curve(columns),
    }


def count(state: Any) -> int:
    """How many numbers a state holds: a tensor, or a tuple of tensors."""
    return state.numel() if isinstance(state, Tensor) else sum(part.numel() for part in state)


def curve(columns: Mapping[str, Tensor], every: int = EVERY) -> dict[str, list]:
    """Number of the last step, pairs, loss and accuracy for each `every` steps, as means."""
    check_at_least(1, every=every)
    groups = {name: columns[name].split(every) for name in ("n_pairs", "loss", "accuracy")}
    ends = [
        min(end, len(columns["loss"])) for end in range(every, len(columns["loss"]) + every, every)
    ]
    means = {
        name: [round(float(group.mean()), 4) for group in parts] for name, parts in groups.items()
    }
    return {"step": ends, **means}


def add_evaluation(file: str | Path, checkpoint: str | Path, said: Mapping[str, Any]) -> None:
    """Add what `evaluate --json` says to the results file of a run; a repetition takes its place.

    Raises ValueError, and leaves the file as it is, if it is about another run.
    """
    file, run = Path(file), describe_run(checkpoint)
    found = (
        json.loads(file.read_text(encoding="utf-8"))
        if file.exists()
        else {"run": run, "evaluations": []}
    )
    if found["run"]["provenance"] != run["provenance"]:
        raise ValueError(
            f"out: {file} is about another run ({found['run']['provenance']['command']}); use "
            f"another file, or remove this one."
        )
    others = [e for e in found["evaluations"] if questions(e) != questions(said)]
    found["evaluations"] = [*others, said]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def questions(evaluation: Mapping[str, Any]) -> list[Any]:
    """What was asked: the seed of the samples, and of each row how many pairs and questions."""
    return [evaluation["seed"], *((row["pairs"], row["total"]) for row in evaluation["results"])]


def exact_matches(result: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """All rows of a results file by number of pairs; where several have it, the largest sample."""
    rows = [row for evaluation in result["evaluations"] for row in evaluation["results"]]
    rows.sort(key=lambda row: (row["pairs"], row["total"]))
    return {row["pairs"]: row for row in rows}


def load_results(pattern: str) -> dict[str, dict[str, Any]]:
    """The results files whose names match, such as "rewrite-armt-seed*", by name.

    Raises ValueError if there is none.
    """
    files = sorted(RESULTS.glob(f"{pattern}.json"))
    if not files:
        raise ValueError(f"pattern: expected the name of a file in {RESULTS}, got {pattern!r}.")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
