"""Training on a task: a curriculum of stages, resumable at any moment.

Step i of a run with seed s always sees the same batch, so a run that was stopped (even killed)
goes on from its checkpoint to the same losses as one that was not.
"""

from __future__ import annotations

import math
import os
import signal
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from armt_mini.checks import check_at_least, check_count, check_one_of, check_share, check_type
from armt_mini.gpu import check_gpu, tensor_float_32
from armt_mini.tasks import AssociativeRetrieval, Batch, Task
from armt_mini.training.answers import Answers
from armt_mini.training.gradients import CapturedGradients, Gradients, Measures
from armt_mini.training.optimisers import OPTIMISERS, optimisers_for
from armt_mini.training.progress import interrupt_between_steps, progress_bar
from armt_mini.training.resume import resume, save_run
from armt_mini.training.workers import Workers

ALONE = Workers()
DRAWERS = 8  # at most, where nobody says how many
WINDOW = 50  # steps over which accuracy is averaged before a stage may end


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Train on n_pairs = (fewest, most) pairs, drawn anew each step, both ends included.

    In BABILong, which has no pairs, they are tokens.
    Ends after max_steps, or as soon as the mean accuracy of its last 50 steps reaches `until`
    (0 … 1; its default is above 1, so never). settings: what holds from this stage on, by name, of
    the model's configuration and of the task, such as {"min_strength": 0.1, "decoys": 0.01}.
    Raises ValueError for numbers out of range.
    """

    n_pairs: tuple[int, int]
    max_steps: int
    until: float = 1.01
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_type("n_pairs", self.n_pairs, tuple)
        fewest, most = self.n_pairs
        for name, number in (("n_pairs", fewest), ("n_pairs", most), ("max_steps", self.max_steps)):
            check_type(name, number, int)
        check_at_least(1, fewest_pairs=fewest, max_steps=self.max_steps)
        check_at_least(fewest, most_pairs=most)
        check_at_least(0, until=self.until)

    def set_up(self, config: Any, task: Task) -> tuple[Any, Task]:
        """Configuration and task as they are from this stage on, given those before it.

        Raises ValueError for a setting that neither of them has, and for values that do not fit.
        """
        names = [{each.name for each in fields(owner)} for owner in (config, task)]
        for name in self.settings:
            if not any(name in own for own in names):
                raise ValueError(
                    f"settings: neither the model nor the task has a setting {name!r}; leave it "
                    f"out."
                )
        own, asked = ({n: v for n, v in self.settings.items() if n in some} for some in names)
        return replace(config, **own), replace(task, **asked)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A recipe. The gradient's norm is clipped.

    optimiser: "adamw", or "muon", see `optimisers_for`. warmup: steps of the first stage over which
    the learning rate rises to its full size. final_lr: it falls on a straight line towards this
    part of itself in the last stage. average: what is kept at the end is an exponential moving mean
    of the weights over about so many steps of the last stage; 1 keeps the last weights. most_read:
    pairs (or tokens) that a step reads at most, in all its samples together; samples so long that
    batch_size of them have more are fewer. n_questions: asked of each memory, at most as many as
    there are (None: all). seed: of the samples; the model has its own. checkpoint_every: steps
    between two checkpoints. schedule, precision, recompute, backprop: see `Answers`; with schedule
    "captured" a step is played from CUDA graphs; but for precision "float32", products of float32
    matrices are taken in TF32. Raises ValueError for numbers out of range.
    """

    stages: Sequence[Stage]
    batch_size: int = 64
    most_read: int | None = None
    optimiser: str = "adamw"
    learning_rate: float = 1e-3
    warmup: int = 0
    final_lr: float = 1.0
    average: int = 1
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    n_questions: int | None = None
    seed: int = 0
    checkpoint_every: int = 200
    schedule: str = "sequential"
    precision: str = "float32"
    recompute: int | None = None
    backprop: int | None = None

    def __post_init__(self) -> None:
        check_at_least(1, stages=len(self.stages))
        check_one_of("optimiser", self.optimiser, OPTIMISERS)
        check_count(batch_size=self.batch_size, checkpoint_every=self.checkpoint_every)
        if not (isinstance(self.betas, Sequence) and len(self.betas) == 2):
            raise ValueError(f"betas: expected two numbers, got {self.betas!r}.")
        for beta in self.betas:
            check_share(betas=beta)
        check_at_least(0, learning_rate=self.learning_rate, final_lr=self.final_lr)
        check_at_least(0, warmup=self.warmup)
        check_at_least(0, weight_decay=self.weight_decay, clip_norm=self.clip_norm, seed=self.seed)
        check_count(n_questions=self.n_questions, most_read=self.most_read, average=self.average)

    def batch_of(self, n_pairs: int) -> int:
        """Samples in a step, if each has so many pairs."""
        most = self.batch_size if self.most_read is None else self.most_read // n_pairs
        return max(1, min(self.batch_size, most))

    def stage_learning_rate(self, index: int, steps: int) -> float:
        """The learning rate after so many steps of stage number `index`."""
        rate = self.learning_rate
        if index == 0 and steps < self.warmup:
            rate *= (steps + 1) / self.warmup
        if index == len(self.stages) - 1:
            rate *= 1 - steps / self.stages[index].max_steps * (1 - self.final_lr)
        return rate


@dataclass
class History:
    """What happened, step by step; also where a run stands.

    stage: number of the stage, from 0. n_pairs, loss, accuracy: of the step's batch, before its
    update. seconds: that the step took (older checkpoints have none); two histories that differ
    in it alone are equal.
    """

    stage: list[int] = field(default_factory=list)
    n_pairs: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, compare=False)

    def __len__(self) -> int:
        return len(self.loss)

    def steps_of(self, index: int) -> range:
        """The steps of stage number `index`: stages follow one another, so they are a range."""
        return range(bisect_left(self.stage, index), bisect_right(self.stage, index))

    def is_finished(self, index: int, stage: Stage) -> bool:
        """Whether stage number `index` has come to its end."""
        steps = self.steps_of(index)
        recent = self.accuracy[steps.start : steps.stop][-WINDOW:]
        reached = len(recent) == WINDOW and sum(recent) / WINDOW >= stage.until
        return reached or len(steps) >= stage.max_steps

    def latest(self, unit: str) -> str:
        """The last step in words. unit: what n_pairs counts."""
        size, loss, accuracy = self.n_pairs[-1], self.loss[-1], self.accuracy[-1]
        return f"{unit}={size}, loss={loss:.3f}, accuracy={accuracy:.3f}"

    def steps_left(self, stages: Sequence[Stage]) -> int:
        """Steps of the present stage and of those after it, if none of them ends early."""
        now = self.stage[-1] if self.stage else 0
        now += self.is_finished(now, stages[now])
        return sum(stage.max_steps for stage in stages[now:]) - len(self.steps_of(now))


def train(
    model: Any,
    task: Task,
    config: TrainingConfig,
    *,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    after_step: Callable[[int], None] | None = None,
    workers: Workers = ALONE,
    drawers: int | None = None,
) -> History:
    """Train the model in place and return what happened.

    checkpoint: a file to write every `checkpoint_every` steps and at the end. If it exists, the
    run goes on from it. Ctrl-C (in a notebook: interrupt) ends the run after the step it is in,
    and saves it. progress: show a progress bar on standard output. after_step: called after every
    step with the number of steps that are done, to watch the model. workers: the processes that
    train together; the first of them saves and shows. batch_size is that of all together. drawers:
    processes of each that draw samples while a GPU is at work, 0 to draw them in between; the
    samples are the same. None is up to 8, one a core, on an NVIDIA GPU, and elsewhere 0.

    Raises ValueError if the task has fewer keys than a stage asks for, or if the checkpoint belongs
    to another run or model, or is broken; it is left as it is. Raises FloatingPointError if a loss
    or a gradient is not finite: the weights are those before that step, and are saved.
    """
    generator = torch.Generator()
    recipe = {"task": asdict(task), "training": asdict(config)}
    plan, own = [], model.config
    for stage in config.stages:  # what does not fit raises now, not when the stage comes
        own, task = stage.set_up(own, task)
        fewest, most = stage.n_pairs
        for size in {fewest, most}:
            task.sample(1, size, generator)
        for size in {whole(task, size) for size in range(fewest, most + 1)}:
            workers.check_batch_size(config.batch_of(size))
        plan.append((stage, own, task))
    check_at_least(0, drawers=drawers or 0)
    names = "schedule", "precision", "recompute", "backprop"
    answers = Answers(model, **{name: getattr(config, name) for name in names})
    device, is_first = next(answers.parameters()).device, workers.rank == 0
    if is_captured := config.schedule == "captured":
        check_gpu(config.schedule, device)
        workers.check_alone("schedule 'captured'")
    optimisers = optimisers_for(
        model,
        config.optimiser,
        lr=config.learning_rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
    )
    history = History()
    average: dict[str, Tensor] = {}

    def save(is_finished: bool = False) -> None:
        if checkpoint is not None and is_first:
            to_go_on = () if is_finished else optimisers
            save_run(checkpoint, model, recipe, vars(history), to_go_on, average)

    exists = checkpoint is not None and Path(checkpoint).exists()
    workers.wait()  # all have looked before the first one saves
    if checkpoint is not None and exists:
        history = History(**resume(checkpoint, model, recipe, optimisers, average))
    else:
        save()  # a place that cannot be written to is found out now, not after hours
    workers.check_same(len(history), device)

    plain = Gradients(workers.spread(answers), config.clip_norm)
    gradients = CapturedGradients(plain) if is_captured else plain
    if drawers is None:
        drawers = min(DRAWERS, os.cpu_count() or 1) if device.type == "cuda" else 0
    steps = len(history) + history.steps_left(config.stages)
    index, before = 0, model.config
    with (
        tensor_float_32(config.precision != "float32"),
        interrupt_between_steps() as is_interrupted,
        progress_bar(progress and is_first, len(history), steps) as show,
    ):
        try:
            for index, (stage, own, task) in enumerate(plan):
                before, model.config = model.config, own
                if history.is_finished(index, stage):
                    continue
                if is_captured and own != before:
                    gradients = CapturedGradients(plain)  # graphs know a model as it was recorded
                n_left = stage.max_steps - len(history.steps_of(index))
                numbers = range(len(history), len(history) + n_left)
                draws = Draws(task, config, stage)
                start = time.perf_counter()
                for drawn in DataLoader(
                    draws,
                    sampler=numbers,
                    batch_size=None,
                    collate_fn=tuple,
                    num_workers=drawers,
                    worker_init_fn=ignore_ctrl_c,
                    prefetch_factor=1 if drawers else None,  # texts are large, /dev/shm may not be
                    pin_memory=device.type == "cuda",  # copied to the GPU from there at once
                    generator=generator,  # not PyTorch's own, which stays as it is
                ):
                    step(gradients, drawn, config, optimisers, history, index, task.unit, workers)
                    if index == len(plan) - 1 and config.average > 1:
                        n_averaged = min(len(history.steps_of(index)), config.average)
                        move_average(average, model, 1 / n_averaged)
                    history.seconds.append(time.perf_counter() - start)
                    if after_step is not None:
                        after_step(len(history))
                    show(
                        len(history) + history.steps_left(config.stages), history.latest(task.unit)
                    )
                    stop = workers.any(is_interrupted(), device)
                    if stop or len(history) % config.checkpoint_every == 0:
                        save()
                    if stop:
                        raise KeyboardInterrupt
                    if history.is_finished(index, stage):
                        break
                    start = time.perf_counter()
        except FloatingPointError:
            if not history.steps_of(index):  # a file is of the stage of its last step
                model.config = before
            save()
            raise
    if any(optimiser.state for optimiser in optimisers):
        model.load_state_dict(average, strict=False)
        average.clear()
        save(is_finished=True)  # a run that was finished has none, and stays the file that it is
    return history


def step(
    gradients: Callable[[Batch], Measures],
    drawn: tuple[int, Batch],
    config: TrainingConfig,
    optimisers: Sequence[torch.optim.Optimizer],
    history: History,
    index: int,
    unit: str,
    workers: Workers = ALONE,
) -> None:
    """One step of stage number `index`, with what was drawn for it: read, ask, update, record.

    unit: what the task counts. Raises FloatingPointError for a loss or gradient that is not finite.
    """
    n_pairs, batch = drawn
    device = optimisers[0].param_groups[0]["params"][0].device
    measures = gradients(workers.part(batch).to(device))
    mean_loss, mean_norm, mean_accuracy = workers.mean(*measures)
    for name, quantity in (("loss", mean_loss), ("gradient norm", mean_norm)):
        if not math.isfinite(quantity):
            raise FloatingPointError(
                f"{name}: expected a finite number, got {quantity} at step {len(history)} "
                f"({n_pairs} {unit}); the weights are those before this step. Try a lower "
                f"learning_rate, or a model with a larger eps."
            )
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = config.stage_learning_rate(index, len(history.steps_of(index)))
        optimiser.step()

    history.stage.append(index)
    history.n_pairs.append(n_pairs)
    history.loss.append(mean_loss)
    history.accuracy.append(mean_accuracy)


def move_average(average: dict[str, Tensor], model: nn.Module, share: float) -> None:
    """Move an average of the weights towards the present ones by this share of the way, 1 at first.

    average: by the weights' names, empty at first; it is changed in place.
    """
    if not average:
        average.update((name, weight.detach().clone()) for name, weight in model.named_parameters())
    for name, mean in average.items():
        mean.lerp_(model.get_parameter(name).detach(), share)


def ignore_ctrl_c(_: int) -> None:
    """For those who draw: the training decides when it ends, after the step that it is in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def whole(task: Task, size: int) -> int:
    """As many pairs, or as many tokens as fill segments, where there is more than one."""
    if isinstance(task, AssociativeRetrieval) or size <= task.segment_length:
        return size
    return size - size % task.segment_length


class Draws(Dataset):
    """The samples of each step of a run, by the step's number."""

    def __init__(self, task: Task, config: TrainingConfig, stage: Stage) -> None:
        self.task, self.config, self.stage = task, config, stage

    def __getitem__(self, number: int) -> tuple[int, Batch]:
        """How many pairs, and the samples."""
        # Hashed together, since PyTorch's CPU generator looks at 32 bits of a seed only.
        mixed = np.random.SeedSequence([self.config.seed, number]).generate_state(1).item()
        generator = torch.Generator().manual_seed(mixed)
        fewest, most = self.stage.n_pairs
        n_pairs = int(torch.randint(fewest, most + 1, (), generator=generator))
        n_questions = self.config.n_questions
        if isinstance(self.task, AssociativeRetrieval):  # which has one for every pair
            n_questions = min(n_pairs, n_questions or n_pairs)
        n_pairs = whole(self.task, n_pairs)
        batch = self.config.batch_of(n_pairs)
        return n_pairs, self.task.sample(batch, n_pairs, generator, n_questions)
