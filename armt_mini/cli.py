"""The command line: train a memory, ask how much it remembers, and look into checkpoints."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from dataclasses import replace
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import numpy
import torch

import armt_mini
from armt_mini.armt import ARMT
from armt_mini.baselines.layer_alone import LayerAlone
from armt_mini.checks import check_count
from armt_mini.device import DEVICES, describe_device, measured, pick_device, present_devices
from armt_mini.gpu import tensor_float_32
from armt_mini.tasks import AssociativeRetrieval, Babilong, Task
from armt_mini.tasks.babi import TASKS
from armt_mini.tasks.background import background, read_background
from armt_mini.training import benchmark as speed
from armt_mini.training import checkpoints, loop
from armt_mini.training.answers import PRECISIONS
from armt_mini.training.evaluation import Score, exact_match, pairs_remembered
from armt_mini.training.hidden_facts import (
    by_distance,
    samples_of_folder,
    score_hidden,
    stopped_readings,
)
from armt_mini.training.optimisers import OPTIMISERS
from armt_mini.training.recipes import RECIPES, fits, new_run
from armt_mini.training.results import begin_results, save_results
from armt_mini.training.workers import Workers, workers

EXAMPLES = """
Start here (each takes less than a minute on a CPU):
  %(prog)s train rewrite --system layer-alone --out runs/first.safetensors
  %(prog)s evaluate runs/first.safetensors --pairs 16 50 200 1000
  %(prog)s info

The same without gamma correction, to compare:
  %(prog)s train rewrite --system layer-alone-no-gamma --out runs/no-gamma.safetensors

A whole model, which wants a GPU:
  %(prog)s train rewrite --system armt --out runs/armt.safetensors

One fact in a novel (to train this model takes minutes on a GPU):
  %(prog)s evaluate babilong --tokens 4k 16k --samples 32
  %(prog)s train babilong --task qa1 --schedule captured --precision tf32

How fast a text is read, in the sequential and in the diagonal order:
  %(prog)s benchmark

Stop a training with Ctrl-C: the same command goes on from where it was.
"""
# What `new_run` takes: name, type, and what it says.
STAGES = (
    ("steps", int, "most steps of a stage: one number for all stages, or one for each"),
    ("until", float, "accuracy, 0 to 1, at which a stage ends early: one for all, or one for each"),
)
TRAINING = (
    ("batch_size", int, "samples in a step"),
    ("learning_rate", float, "of the optimiser"),
    ("weight_decay", float, "of the optimiser"),
    ("final_lr", float, "part of the learning rate that is left after the last stage"),
    ("average", int, "keep the mean of the weights over about so many steps of the last stage"),
    ("recompute", int, "hold activations of so many segments only, and compute the others again"),
    ("backprop", int, "let gradients flow through so many of the last segments only"),
)
CHOICES = (
    ("optimiser", OPTIMISERS, "muon: for the matrices of layers, as in qa2 and qa3"),
    ("schedule", ARMT.schedules, "order of segments and layers"),
    ("precision", PRECISIONS, "of reading; weights are kept in float32"),
)
SIZES = (
    ("d_model", int, "width (default: 128; layer-alone: 32)"),
    (
        "d_mlp",
        int,
        "of a whole model (default: 128; rmt and prmt: 224; babilong: 512; qa2, qa3: 256)",
    ),
    ("d_memory", int, "keys of the memory before the feature map (default: 32; layer-alone: 8)"),
    ("n_layers", int, "of a whole model (default: 4; qa2, qa3: 6)"),
    ("n_heads", int, "of a whole model (default: 8)"),
    ("n_memory_tokens", int, "of a whole model (default: 1; babilong: 4; rmt and prmt: 16)"),
)
DEFAULT_PAIRS = (2, 4, 8, 16, 50, 100, 200)  # that `evaluate` asks
# An error of the package begins with an argument's name. Options have the same, but for these.
OPTION_NAMES = {
    "fewest_pairs": "pairs", "most_pairs": "pairs", "n_pairs": "pairs", "max_steps": "steps",
    "n_questions": "questions", "n_samples": "samples", "n_tokens": "tokens", "name": "device",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command (by default the program's own) and return its exit status.

    0: done. 1: the training failed. 2: arguments that do not fit. 130: interrupted. 141: whoever
    read the output has gone.
    """
    options = parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()  # so that a closed pipe is noticed here, not when Python ends
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # as in `... | head`: what is left to print goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        name, colon, rest = str(error).partition(":")
        name = OPTION_NAMES.get(name, name)
        if name == "pairs" and getattr(options, "tokens", None):
            name = "tokens"  # of which BABILong has stages
        if name == "checkpoint" and options.run is train:
            name = "out"
        said = f"--{name.replace('_', '-')}{colon}{rest}" if hasattr(options, name) else error
        print(f"armt-mini: {said}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    return 0


def program() -> str:
    """What starts this program here: the Python of an environment in this folder, or `python`."""
    python, here = Path(sys.executable), Path.cwd()
    return f"{python.relative_to(here) if python.is_relative_to(here) else 'python'} -m armt_mini"


def parser() -> ArgumentParser:
    """All commands and options."""
    top = ArgumentParser(
        prog=program(),
        description="A small Associative Recurrent Memory Transformer: train it, and see how much "
        "it remembers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(run: Callable[[Namespace], None]) -> ArgumentParser:
        added = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    add_train(command(train))
    add_evaluate(command(evaluate))
    add_benchmark(command(benchmark))
    file = "a checkpoint: a file, or the name of a shipped one"
    command(info).add_argument("file", nargs="?", help=file)
    halving = command(halve)
    halving.add_argument("file", type=Path, help="a checkpoint")
    halving.add_argument("out", type=Path, metavar="OUT", help="where to save the smaller one")
    return top


def add_train(command: ArgumentParser) -> None:
    command.add_argument(
        "kind",
        metavar="TASK",
        choices=("rewrite", "remember", "babilong"),
        help="rewrite: keys come again with new values, the latest one is asked; "
        "remember: every key comes once; babilong: stories hidden in a novel",
    )
    about = "what to train (default: layer-alone; babilong: armt)"
    command.add_argument("--system", choices=RECIPES, help=about)
    place = "where to save (default: runs/TASK-SYSTEM-seedSEED.safetensors, with what --set says)"
    command.add_argument("--out", type=Path, metavar="FILE", help=place)
    add_number(command, "seed", seed, "of weights and samples", 0)
    add_device(command)
    task = command.add_argument_group("task")
    add_number(task, "key_size", int, "digits in a key (default: 1; whole models, remember: 3)")
    add_number(task, "n_values", int, "different values (default: 16)")
    about = "of babilong (default: qa1)"
    task.add_argument("--task", choices=TASKS, help=about)
    training = command.add_argument_group("training (the defaults depend on the system)")
    stages = "curriculum: pairs in a sample, stage by stage, as 8 or as 4-8"
    training.add_argument("--pairs", type=span, nargs="+", metavar="N", help=stages)
    about = "the same for babilong: tokens of a text, as 128 or as 128-4096"
    training.add_argument("--tokens", type=span, nargs="+", metavar="N", help=about)
    for name, kind, about in STAGES:
        training.add_argument(f"--{name}", type=kind, nargs="+", metavar="N", help=about)
    for option in TRAINING:
        add_number(training, *option)
    for name, choices, about in CHOICES:
        about += f" (default: {choices[0]})"
        training.add_argument(f"--{name}", choices=choices, help=about)
    about = "processes that draw samples while a GPU is at work (default: up to 8 with one, else 0)"
    add_number(training, "drawers", int, about)
    add_number(
        training,
        "questions",
        int,
        "most asked of a sample (default: every pair's; babilong: 4 to 13)",
    )
    sizes = command.add_argument_group("sizes, where the system has them")
    for option in SIZES:
        add_number(sizes, *option)
    about = "any other setting of the recipe, such as nu=1 feature_map=relu clip_gamma=false"
    command.add_argument(
        "--set", type=setting, nargs="+", action="extend", metavar="NAME=VALUE", help=about
    )


def add_evaluate(command: ArgumentParser) -> None:
    about = "a checkpoint: a file, or the name of a shipped one; babilong: that of --task"
    command.add_argument("file", help=about)
    pairs = f"pairs in a sample (default: those of {DEFAULT_PAIRS} that the other options allow)"
    command.add_argument("--pairs", type=int, nargs="+", metavar="N", help=pairs)
    add_number(command, "samples", int, "how many samples", 256)
    about = "asked of each sample (default: 1; for more the interval is too narrow, as if answers "
    add_number(command, "questions", int, f"{about}were independent)")
    add_number(command, "batch_size", int, "samples at once; others are drawn with another", 64)
    add_number(command, "seed", seed, "of the samples", 0)
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    hidden = command.add_argument_group("stories hidden in a text, for a model of BABILong")
    about = "which shipped model `babilong` is (default: qa1)"
    hidden.add_argument("--task", choices=TASKS, help=about)
    about = "length of the texts, as 16k or 50M (default: 4k 16k)"
    hidden.add_argument("--tokens", type=length, nargs="+", metavar="N", help=about)
    about = "ask the questions of this folder's test file, in bAbI's format, not drawn ones"
    hidden.add_argument("--babi-folder", type=Path, metavar="DIR", help=about)
    about = "hide them in this text (UTF-8), not in the part of the novel that is for tests"
    hidden.add_argument("--background", type=Path, metavar="FILE", help=about)
    about = "of the products of matrices; tf32 is faster on a GPU (default: float32)"
    hidden.add_argument("--precision", choices=("float32", "tf32"), help=about)
    about = "a results file to add to: what the run was, its curve, and these answers"
    command.add_argument("--out", type=Path, metavar="FILE", help=about)
    add_device(command)


def add_benchmark(command: ArgumentParser) -> None:
    about = "of the models (default: all on cuda, pocket elsewhere)"
    command.add_argument("--sizes", choices=tuple(speed.SIZES), nargs="+", help=about)
    about = "lengths of the text (default: 4k to 1M on cuda, 1k to 4k elsewhere)"
    command.add_argument("--tokens", type=length, nargs="+", metavar="N", help=about)
    about = "what to time (default: all)"
    command.add_argument("--systems", choices=speed.SYSTEMS, nargs="+", help=about)
    place = "where to save (default: data/results/benchmark-DEVICE.json)"
    command.add_argument("--out", type=Path, metavar="FILE", help=place)
    add_device(command)


def add_number(
    group: Any, name: str, kind: Callable[[str], Any], about: str, default: int | None = None
) -> None:
    about += "" if default is None else f" (default: {default})"
    option = f"--{name.replace('_', '-')}"
    group.add_argument(option, type=kind, default=default, metavar="N", help=about)


def add_device(command: ArgumentParser) -> None:
    about = "auto takes the first of cuda, mps, cpu that is there (default: auto)"
    command.add_argument("--device", choices=("auto", *DEVICES), default="auto", help=about)


def seed(text: str) -> int:
    """A number that PyTorch takes for a seed."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"expected at least 0, got {text}")
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"expected a number below 2^63, got {text}")
    return number


def span(text: str) -> tuple[int, int]:
    """Pairs or tokens of a stage: "8" is (8, 8), "4-8" is (4, 8), "16k-32k" is (16000, 32000)."""
    fewest, _, most = text.partition("-")
    try:
        return length(fewest), length(most or fewest)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected a number or a range, got {text!r}") from None


def length(text: str) -> int:
    """Tokens: "16k" is 16,000, "50M" 50 million."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("k", "M") else (text, "")
    with suppress(ValueError, ZeroDivisionError):
        tokens = Fraction(number) * {"": 1, "k": 1_000, "M": 1_000_000}[unit]
        if tokens.denominator == 1:
            return int(tokens)
    raise argparse.ArgumentTypeError(f"expected a number as 16k or 50M, got {text!r}")


def setting(text: str) -> tuple[str, Any]:
    """A name and a value: a number, true, false, null, or else a word."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def train(options: Namespace) -> None:
    """Train a model and save it; go on where a file exists."""
    with (
        workers() as together,
        nullcontext() if together.rank == 0 else redirect_stdout(StringIO()),
    ):
        train_with(together, options)


def train_with(together: Workers, options: Namespace) -> None:
    """`train` in one of several processes, of which the first one speaks."""
    if options.system is None:
        options.system = "armt" if options.kind == "babilong" else "layer-alone"
    task = task_of(options)
    names = (name for name, *_ in (("pairs",), ("tokens",), *STAGES, *TRAINING, *CHOICES, *SIZES))
    settings = {name: getattr(options, name) for name in names}
    settings["n_questions"] = options.questions
    given = {name: value for name, value in settings.items() if value is not None}
    for name, value in options.set or ():
        if name in ("name", "task", "seed", "pairs", "tokens"):
            raise ValueError(f"set: expected a setting of the recipe, got {name!r}; leave it out.")
        given[name] = value
    try:
        model, config = new_run(options.system, task, options.seed, **given)
    except TypeError as error:  # a value of --set
        raise ValueError(str(error)) from error
    device = pick_device(options.device)
    if isinstance(model, LayerAlone) or device.type != "cpu":
        torch.set_num_threads(1)  # tensors here are small: two threads would wait for each other
    model.to(device)
    changes = "".join(f"-{name}={value}" for name, value in options.set or ())
    kind = f"babilong-{task.task}" if isinstance(task, Babilong) else options.kind
    name = f"{kind}-{options.system}{changes}-seed{options.seed}.safetensors"
    file = options.out or Path("runs", name)
    if file.is_dir():
        raise ValueError(f"out: expected a file, {file} is a folder; name a file in it.")
    if file.exists():
        print(f"{file} is there already: going on from it.")
    try:
        beside = {"workers": together, "drawers": options.drawers}
        history = loop.train(model, task, config, checkpoint=file, **beside)
    except KeyboardInterrupt:
        saved = checkpoints.read_checkpoint(file).tensors if file.exists() else {}
        n_steps = len(saved.get("history.loss", ()))
        print(f"\nStopped; {n_steps} steps are saved. The same command goes on from there.")
        raise
    recent = history.accuracy[-loop.WINDOW :]
    print(
        f"{len(history)} steps; accuracy of the last {len(recent)}: "
        f"{sum(recent) / len(recent):.2%}; saved to {file}.\n"
        f"See what it remembers: {program()} evaluate {file}"
    )


def task_of(options: Namespace) -> Task:
    """What to train on. Raises ValueError for options of another task."""
    if options.kind == "babilong":
        refuse(options, "babilong", "key_size", "n_values")
        return Babilong(task=options.task or "qa1")
    refuse(options, options.kind, "task")
    is_whole = RECIPES[options.system]["system"] != "layer-alone"
    rewrite = options.kind == "rewrite"
    default = 3 if is_whole and not rewrite else 1
    return AssociativeRetrieval(
        rewrite=rewrite,
        key_size=default if options.key_size is None else options.key_size,
        n_values=16 if options.n_values is None else options.n_values,
    )


def refuse(options: Namespace, kind: str, *names: str) -> None:
    """Raise ValueError for the first of these options that is given: the task has no such one."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"{name}: {kind} has no such option; leave it out.")


def evaluate(options: Namespace) -> None:
    """Ask a trained model, and print how much it knows."""
    if options.file == "babilong":
        options.file = f"babilong-{options.task or 'qa1'}"
    elif options.task:
        raise ValueError("task: a checkpoint has its own; leave it out.")
    file = find(options.file)
    about = checkpoints.read_checkpoint(file).about
    try:
        kind = Babilong if "split" in about["task"] else AssociativeRetrieval
        task = kind(**about["task"])
    except (KeyError, TypeError):
        raise ValueError(
            f"{file} does not say which task it was trained on, or names none of this version."
        ) from None
    if isinstance(task, Babilong):
        evaluate_hidden(options, file, about, task)
        return
    refuse(options, "a model of pairs", "tokens", "babi_folder", "background", "precision")
    counts = not task.rewrite and task.n_values > 1  # else there is no estimate of pairs remembered
    possible = [n_pairs for n_pairs in DEFAULT_PAIRS if fits(task, n_pairs)]
    options.questions = 1 if options.questions is None else options.questions
    if not options.pairs and options.questions > possible[-1]:
        raise ValueError(
            f"questions: expected at most {possible[-1]}, unless --pairs names larger numbers of "
            f"pairs, got {options.questions}."
        )
    found, model, device = begin_evaluation(options, file)
    rows = []
    for n_pairs in options.pairs or [n for n in possible if n >= options.questions]:
        numbers = {
            "n_samples": options.samples,
            "n_questions": options.questions,
            "batch_size": options.batch_size,
        }
        score = exact_match(model, task, n_pairs, **numbers, seed=options.seed)
        row = {"pairs": n_pairs, **score._asdict(), "exact_match": score.accuracy}
        row["interval"] = score.interval()
        if counts:
            ends = (score.accuracy, *score.interval())
            known, *interval = (pairs_remembered(end, n_pairs, task.n_values) for end in ends)
            row |= {"pairs_remembered": known, "pairs_remembered_interval": interval}
        rows.append(row)
    said = {"file": str(file), "task": about["task"]} | {
        name: getattr(options, name) for name in ("seed", "samples", "questions", "batch_size")
    }
    said |= {"results": rows, "provenance": checkpoints.provenance(device)}
    if found is not None:
        save_results(options.out, found, said)
    if options.json:
        print(json.dumps(said, indent=2))
        return
    heading = f"{'pairs':>6}  {'exact match':>11}  {'95 % interval':>15}"
    print(heading + (f"  {'pairs remembered':>16}  {'95 % interval':>15}" if counts else ""))
    for row in rows:
        low, high = row["interval"]
        line = f"{row['pairs']:6d}  {row['exact_match']:11.1%}  {low:6.1%} … {high:6.1%}"
        if counts:
            low, high = row["pairs_remembered_interval"]
            line += f"  {row['pairs_remembered']:16.1f}  {low:6.1f} … {high:6.1f}"
        print(line)


def begin_evaluation(options: Namespace, file: Path) -> tuple[Any, Any, torch.device]:
    """The results to add to (None: to none), the model, and the device that it is on."""
    # What cannot be added to is found out now, not after all answers.
    found = begin_results(options.out, file) if options.out else None
    model: Any = checkpoints.load_model(file)
    with redirect_stdout(sys.stderr) if options.json else nullcontext():
        model.to(device := pick_device(options.device))
    return found, model, device


def evaluate_hidden(
    options: Namespace, file: Path, about: dict[str, Any], trained: Babilong
) -> None:
    """`evaluate` for a model that reads stories hidden in long texts."""
    refuse(options, "a model of BABILong", "pairs", "questions")
    check_count(samples=options.samples)
    task = replace(trained, most_facts=None, density=1.0)
    found, model, device = begin_evaluation(options, file)
    if not hasattr(model, "schedules"):
        raise ValueError(
            f"expected a model that reads segments (ARMT, RMT or PRMT), got {file} of "
            f"{about['system']}; use another file."
        )
    text = read_background(options.background) if options.background else background("test")
    said = {"file": str(file), "task": about["task"], "results": []} | {
        name: getattr(options, name) for name in ("seed", "samples", "batch_size")
    }
    said["precision"] = options.precision or "float32"
    said |= {name: str(getattr(options, name) or "") for name in ("babi_folder", "background")}
    own = samples_of_folder(options.babi_folder, task.task) if options.babi_folder else None
    if not options.json:
        print(f"{'tokens':>13}  {'exact match':>11}  {'95 % interval':>15}  by quarter, last first")
    for n_tokens in options.tokens or (4_000, 16_000):
        if own is None:
            samples = task.draw_many(options.samples, n_tokens, options.seed)
        else:
            samples = own[: options.samples]
        was_stopped = bool(options.out and stopped_readings(options.out))
        try:
            with measured(device) as cost, tensor_float_32(options.precision == "tf32"):
                answered = score_hidden(
                    model, samples, text, n_tokens,
                    batch_size=options.batch_size, seed=options.seed,
                    schedule=fastest_schedule(model, device),
                    progress=not options.json, halt=options.out,
                )  # fmt: skip
        except KeyboardInterrupt:
            how = (
                "goes on from there" if options.out else "with --out FILE can be stopped like this"
            )
            print(f"\nStopped. The same command {how}.", file=sys.stderr)
            raise
        score = Score(int(answered.is_right.sum()), len(samples))
        quarters = by_distance(answered, n_tokens)
        row = {"tokens": n_tokens, **score._asdict(), "exact_match": score.accuracy}
        row |= {"interval": score.interval(), "quarters": [list(quarter) for quarter in quarters]}
        row |= {name: getattr(answered, name).mean(dim=0).tolist() for name in ("sizes", "gammas")}
        row |= {"seconds": None} if was_stopped else cost  # what came before is not known
        pairs = zip(samples, answered.is_right.tolist(), strict=True)
        row["wrong"] = [
            [n, sample.questions[0].text]
            for n, (sample, is_right) in enumerate(pairs)
            if not is_right
        ]
        said["results"].append(row)
        said["provenance"] = checkpoints.provenance(device)
        if found is not None:
            save_results(options.out, found, said)  # after each: what comes later may take hours
        if not options.json:
            low, high = row["interval"]
            shares = "  ".join(f"{q.accuracy:4.0%}" if q.total else "   –" for q in quarters)
            line = f"{n_tokens:13,d}  {score.accuracy:11.1%}  {low:6.1%} … {high:6.1%}  {shares}"
            print(line, flush=True)
    if options.json:
        print(json.dumps(said, indent=2))


def fastest_schedule(model: Any, device: torch.device) -> str:
    """The order in which a model reads long texts soonest."""
    has_graphs = device.type == "cuda" and "captured" in model.schedules
    return "captured" if has_graphs else "sequential"


def benchmark(options: Namespace) -> None:
    """Time how fast ARMT, full attention and Mamba read, and save a table of it."""
    device = pick_device(options.device)
    where = "cuda" if device.type == "cuda" else "cpu"
    sizes, systems = options.sizes or speed.DEFAULT_SIZES[where], options.systems or speed.SYSTEMS
    tokens = options.tokens or speed.DEFAULT_TOKENS[where]
    name = re.sub(r"\W+", "-", describe_device(device)).strip("-").lower()
    file = options.out or Path("data", "results", f"benchmark-{name}.json")
    file.parent.mkdir(parents=True, exist_ok=True)  # a place that cannot be written to is found now
    results: dict[str, Any] = {"agreement": speed.agreement(device), "sizes": {}}

    def save(found: dict[str, Any]) -> None:
        """Saved again and again: what comes later may be interrupted."""
        results["sizes"][found["size"]] = found
        said = json.dumps(results | {"provenance": checkpoints.provenance(device)}, indent=2)
        file.write_text(f"{said}\n")

    def tell(found: dict[str, Any]) -> None:
        save(found)
        print(speed.in_words(found["rows"][-1]), flush=True)

    print(f"Largest relative differences in float64: {results['agreement']}")
    for size in sizes:
        print(f"\n{size}\n{speed.HEADING}")
        save(speed.benchmark(size, tokens, systems, device, tell))
    print(f"\nSaved to {file}.")


def info(options: Namespace) -> None:
    """Versions, devices and checkpoints, or what a file holds."""
    if options.file:
        show(find(options.file))
        return
    print(f"armt_mini {armt_mini.__version__}, Python {sys.version.split()[0]}, ", end="")
    print(f"PyTorch {torch.__version__}, NumPy {numpy.__version__}")
    devices = [f"{name} ({describe_device(name)})" for name in present_devices()]
    print(f"Devices: {', '.join(devices)}")
    shipped = checkpoints.shipped_checkpoints()
    print(f"Shipped checkpoints: {', '.join(shipped) or 'none'}")
    for file in shipped.values():
        print()
        show(file)


def halve(options: Namespace) -> None:
    """Save a checkpoint once more, with weights in 16 bits."""
    if options.out.exists():
        raise ValueError(f"{options.out} is there already; use another file, or remove it.")
    checkpoints.halve_checkpoint(options.file, options.out)
    sizes = (f"{file.stat().st_size / 1e6:.2f} MB" for file in (options.file, options.out))
    print(f"{options.out}: {' -> '.join(sizes)}")


def show(file: Path) -> None:
    """Print what a checkpoint says of itself."""
    tensors, about = checkpoints.read_checkpoint(file)
    size = sum(t.numel() for n, t in tensors.items() if n.startswith(checkpoints.WEIGHTS))
    print(f"{file}: {size:,} weights")
    print(json.dumps(about, indent=2, ensure_ascii=False))


def find(name: str) -> Path:
    """The file of a checkpoint: a file's own name, or that of a shipped one."""
    shipped = checkpoints.shipped_checkpoints()
    if not Path(name).is_file() and name not in shipped:
        known = ", ".join(shipped) or "none is shipped"
        raise ValueError(f"no file and no shipped checkpoint is called {name!r} ({known}).")
    return Path(name) if Path(name).is_file() else shipped[name]
