"""The command line: train a memory, ask how much it remembers, and look into checkpoints.

What takes long to import is imported by the command that needs it, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

EXAMPLES = """
Start here (each takes less than a minute on a CPU):
  python -m armt_mini train rewrite --system layer-alone --out runs/first.safetensors
  python -m armt_mini evaluate runs/first.safetensors --pairs 16 50 200 1000
  python -m armt_mini info

The same without gamma correction, to compare:
  python -m armt_mini train rewrite --system layer-alone-no-gamma --out runs/no-gamma.safetensors

A whole model, which wants a GPU:
  python -m armt_mini train rewrite --system armt --out runs/armt.safetensors

Stop a training with Ctrl-C: the same command goes on from where it was.
"""

# Command-line name -> kind of model in a checkpoint, and what its configuration changes.
SYSTEMS: dict[str, tuple[str, dict[str, Any]]] = {
    "armt": ("armt", {"rule": "gamma"}),
    "armt-no-gamma": ("armt", {"rule": "delta"}),
    "armt-additive": ("armt", {"rule": "additive"}),
    "rmt": ("rmt", {}),
    "prmt": ("prmt", {}),
    "layer-alone": ("layer-alone", {"rule": "gamma"}),
    "layer-alone-no-gamma": ("layer-alone", {"rule": "delta"}),
}
# What trains each kind from scratch, where an option does not say otherwise. Whole models get
# larger initial scales than GPT-2's: with those they stay on a plateau at two pairs (LOG.md).
WHOLE_MODEL_RECIPE: dict[str, Any] = {
    "pairs": [(2, 2), (2, 8), (4, 16), (8, 32), (10, 50)],
    "steps": 600,
    "until": 0.985,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 1e-3,
    "final_lr": 0.02,
    "d_model": 128,
    "n_layers": 4,
    "n_heads": 8,
    "n_memory_tokens": 1,
    "d_memory": 32,
}
LAYER_ALONE_RECIPE: dict[str, Any] = {
    "pairs": [(2, 16)],
    "steps": 800,
    "until": 1.01,
    "batch_size": 32,
    "learning_rate": 1e-2,
    "weight_decay": 0.3,
    "final_lr": 0.02,
    "d_model": 32,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (by default the program's own) and return its exit status.

    0: done. 1: the training failed. 2: arguments that do not fit. 130: interrupted.
    """
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"armt-mini: {error}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = argparse.ArgumentParser(
        prog="python -m armt_mini",
        description="A small Associative Recurrent Memory Transformer: train it, and see how much "
        "it remembers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], about: str):
        added = commands.add_parser(name, help=about, description=about)
        added.set_defaults(run=run)
        return added

    add_train(command("train", train, "Train a model and save it; go on where a file exists."))
    add_evaluate(command("evaluate", evaluate, "Ask a trained model, and print how much it knows."))
    info = command("info", show_info, "Versions, devices and checkpoints, or what a file holds.")
    info.add_argument("file", nargs="?", help="a checkpoint: a file, or the name of a shipped one")
    return top


def add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "task",
        choices=("rewrite", "remember"),
        help="rewrite: keys come again with new values, the latest one is asked; "
        "remember: every key comes once",
    )
    command.add_argument("--system", choices=SYSTEMS, default="layer-alone", help="what to train")
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where to save (default: runs/TASK-SYSTEM-seedSEED.safetensors)",
    )
    command.add_argument("--seed", type=int, default=0, help="of weights and samples (default: 0)")
    add_device(command)

    task = command.add_argument_group("task")
    task.add_argument("--key-size", type=int, metavar="DIGITS", help="digits in a key (default: 1)")
    task.add_argument("--n-values", type=int, metavar="N", help="different values (default: 16)")

    training = command.add_argument_group("training (the defaults depend on the system)")
    training.add_argument(
        "--pairs",
        type=span,
        nargs="+",
        metavar="N",
        help="curriculum: pairs in a sample, stage by stage, as 8 or as 4-8",
    )
    for name, kind, about in (
        ("steps", int, "most steps of a stage"),
        ("until", float, "accuracy, 0 to 1, at which a stage ends early"),
        ("batch-size", int, "samples in a step"),
        ("learning-rate", float, "of AdamW"),
        ("weight-decay", float, "of AdamW"),
        ("final-lr", float, "part of the learning rate that is left after the last stage"),
        ("questions", int, "keys asked of a sample (default: that of every pair)"),
    ):
        training.add_argument(f"--{name}", type=kind, metavar="X", help=about)

    sizes = command.add_argument_group("sizes (d-model for every system, layers for whole models)")
    for name, about in (
        ("d-model", "width (default: 128; layer-alone: 32)"),
        ("d-memory", "keys of the memory before the feature map (default: 32; layer-alone: 8)"),
        ("n-layers", "default: 4"),
        ("n-heads", "default: 8"),
        ("n-memory-tokens", "default: 1"),
    ):
        sizes.add_argument(f"--{name}", type=int, metavar="N", help=about)


def add_evaluate(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", help="a checkpoint: a file, or the name of a shipped one")
    command.add_argument(
        "--pairs",
        type=int,
        nargs="+",
        metavar="N",
        help="pairs in a sample (default: 2 4 8 16 50 100 200, as far as there are keys)",
    )
    command.add_argument("--samples", type=int, default=256, metavar="N", help="default: 256")
    command.add_argument(
        "--questions",
        type=int,
        default=1,
        metavar="N",
        help="asked of each sample; the interval is exact for 1 (default: 1)",
    )
    command.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_device(command)


def add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device",
        choices=("auto", "cuda", "mps", "cpu"),
        default="auto",
        help="auto takes the first of cuda, mps, cpu that is there (default: auto)",
    )


def span(text: str) -> tuple[int, int]:
    """Pairs of a stage: "8" is (8, 8), "4-8" is (4, 8)."""
    fewest, _, most = text.partition("-")
    try:
        return int(fewest), int(most or fewest)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or a range, got {text!r}") from None


def train(options: argparse.Namespace) -> None:
    import torch

    from armt_mini.device import pick_device
    from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
    from armt_mini.training import loop
    from armt_mini.training.checkpoints import read_checkpoint

    given = {name: value for name, value in vars(options).items() if value is not None}
    system, changes = SYSTEMS[options.system]
    is_alone = system == "layer-alone"
    recipe = (LAYER_ALONE_RECIPE if is_alone else WHOLE_MODEL_RECIPE) | given
    sizes = {name: given[name] for name in ("key_size", "n_values") if name in given}
    task = AssociativeRetrieval(rewrite=options.task == "rewrite", **sizes)
    if is_alone and task.key_size > 1:
        raise ValueError("--key-size: layer-alone reads keys of 1 digit; use another --system.")
    pairs = [span for span in recipe["pairs"] if "pairs" in given or fits(task, span[1])]
    config = loop.TrainingConfig(
        stages=[
            loop.Stage(n_pairs=span, max_steps=recipe["steps"], until=recipe["until"])
            for span in pairs
        ],
        batch_size=recipe["batch_size"],
        learning_rate=recipe["learning_rate"],
        weight_decay=recipe["weight_decay"],
        final_lr=recipe["final_lr"],
        n_questions=options.questions,
        seed=options.seed,
    )
    model = new_model(system, changes, recipe, task.pair_length)
    if is_alone:
        torch.set_num_threads(1)  # its tensors are small: two threads would wait for each other
    device = pick_device(options.device)
    name = f"{options.task}-{options.system}-seed{options.seed}.safetensors"
    file = options.out or Path("runs", name)
    if file.exists():
        print(f"{file} is there already: going on from it.")
    try:
        history = loop.train(model.to(device), task, config, checkpoint=file)
    except KeyboardInterrupt:
        n_steps = len(read_checkpoint(file).tensors["history.loss"]) if file.exists() else 0
        print(f"\nStopped; {n_steps} steps are saved. The same command goes on from there.")
        raise
    recent = history.accuracy[-loop.WINDOW :]
    print(
        f"{len(history)} steps; accuracy of the last {len(recent)}: "
        f"{sum(recent) / len(recent):.2%}; saved to {file}.\n"
        f"See what it remembers: python -m armt_mini evaluate {file}"
    )


def new_model(kind: str, changes: dict[str, Any], given: dict[str, Any], segment_length: int):
    """An untrained model of this kind, with the sizes that were given."""
    from armt_mini.tasks.associative_retrieval import VOCAB_SIZE
    from armt_mini.training import checkpoints

    model_type, config_type = checkpoints.SYSTEMS[kind]
    sizes = {"vocab_size": VOCAB_SIZE, "d_model": given["d_model"]}
    if kind != "layer-alone":
        sizes |= {name: given[name] for name in ("n_layers", "n_heads", "n_memory_tokens")}
        scales = {"embedding_std": 0.5, "attention_std": given["d_model"] ** -0.5}
        changes = {"segment_length": segment_length, "tied_head": False, **scales, **changes}
    if kind == "armt":
        sizes["d_memory"] = given["d_memory"]
        changes |= {"value_std": 0.05, "memory_norm": True, "unit_features": True, "eps": 1e-3}
    elif kind == "layer-alone" and "d_memory" in given:
        sizes["d_memory"] = given["d_memory"]
    return model_type(config_type(**sizes, **changes), seed=given["seed"])


def fits(task: Any, n_pairs: int) -> bool:
    """Whether the task has keys for so many pairs."""
    return task.rewrite or n_pairs <= task.n_keys


def find(name: str) -> Path:
    """The file of a checkpoint: a file's own name, or that of a shipped one."""
    from armt_mini.training.checkpoints import shipped_checkpoints

    shipped = shipped_checkpoints()
    if not Path(name).is_file() and name not in shipped:
        known = ", ".join(shipped) or "none is shipped"
        raise ValueError(f"no file and no shipped checkpoint is called {name!r} ({known}).")
    return Path(name) if Path(name).is_file() else shipped[name]


def evaluate(options: argparse.Namespace) -> None:
    from armt_mini.device import pick_device
    from armt_mini.tasks.associative_retrieval import AssociativeRetrieval
    from armt_mini.training import checkpoints
    from armt_mini.training.evaluation import exact_match, pairs_remembered

    file = find(options.file)
    about = checkpoints.read_checkpoint(file).about
    if "task" not in about:
        raise ValueError(f"{file} does not say which task it was trained on.")
    task = AssociativeRetrieval(**about["task"])
    model = checkpoints.load_model(file)
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        device = pick_device(options.device)
    model.to(device)
    rows = []
    for n_pairs in options.pairs or [n for n in (2, 4, 8, 16, 50, 100, 200) if fits(task, n)]:
        score = exact_match(
            model,  # pyright: ignore[reportArgumentType]
            task,
            n_pairs,
            n_samples=options.samples,
            n_questions=options.questions,
            seed=options.seed,
        )
        row = {"pairs": n_pairs, **score._asdict(), "exact_match": score.accuracy}
        row["interval"] = score.interval()
        if not task.rewrite:
            ends = (score.accuracy, *score.interval())
            known, *interval = (pairs_remembered(end, n_pairs, task.n_values) for end in ends)
            row |= {"pairs_remembered": known, "pairs_remembered_interval": interval}
        rows.append(row)
    if options.json:
        said = {"file": str(file), "task": about["task"], "seed": options.seed, "results": rows}
        print(json.dumps(said | {"provenance": checkpoints.provenance(device)}, indent=2))
        return
    heading = f"{'pairs':>6}  {'exact match':>11}  {'95 % interval':>15}"
    print(heading + ("" if task.rewrite else f"  {'pairs remembered':>16}  {'95 % interval':>15}"))
    for row in rows:
        low, high = row["interval"]
        line = f"{row['pairs']:6d}  {row['exact_match']:11.1%}  {low:6.1%} … {high:6.1%}"
        if not task.rewrite:
            low, high = row["pairs_remembered_interval"]
            line += f"  {row['pairs_remembered']:16.1f}  {low:6.1f} … {high:6.1f}"
        print(line)


def show_info(options: argparse.Namespace) -> None:
    import numpy
    import torch

    import armt_mini
    from armt_mini.device import describe_device, present_devices
    from armt_mini.training.checkpoints import WEIGHTS, read_checkpoint, shipped_checkpoints

    def show(file: Path) -> None:
        tensors, about = read_checkpoint(file)
        size = sum(t.numel() for name, t in tensors.items() if name.startswith(WEIGHTS))
        print(f"{file}: {size:,} weights")
        print(json.dumps(about, indent=2, ensure_ascii=False))

    if options.file:
        show(find(options.file))
        return
    print(f"armt_mini {armt_mini.__version__}, Python {sys.version.split()[0]}, ", end="")
    print(f"PyTorch {torch.__version__}, NumPy {numpy.__version__}")
    devices = [f"{name} ({describe_device(name)})" for name in present_devices()]
    print(f"Devices: {', '.join(devices)}")
    shipped = shipped_checkpoints()
    print(f"Shipped checkpoints: {', '.join(shipped) or 'none'}")
    for file in shipped.values():
        print()
        show(file)
