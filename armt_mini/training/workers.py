"""Several processes train one model: each takes its part of every batch.

    torchrun --nproc-per-node=2 -m armt_mini train rewrite --system armt

`torchrun` starts the processes, on one machine or several, and ends all of them when one fails.
Where samples have different numbers of questions, as stories have, the mean loss is one of the
processes' means: a sample weighs a little more or less by the process that it falls to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from armt_mini.tasks import Batch


@dataclass(frozen=True)
class Workers:
    """The processes of a training, seen from one of them: its number, from 0, and how many."""

    rank: int = 0
    size: int = 1

    def check_batch_size(self, batch_size: int) -> None:
        """Raise ValueError unless every process gets as many samples as the others."""
        if batch_size % self.size:
            raise ValueError(
                f"batch_size: expected a multiple of the {self.size} processes, got {batch_size}."
            )

    def check_alone(self, what: str) -> None:
        """Raise ValueError unless there is one process."""
        if self.size > 1:
            raise ValueError(f"{what}: works in one process, got {self.size}; use 'sequential'.")

    def part(self, batch: Batch) -> Batch:
        """This process's samples of a batch that all have drawn."""
        return type(batch)(*(tensor[self.rank :: self.size] for tensor in batch))

    def spread(self, module: nn.Module) -> nn.Module:
        """The module; called in every process, its gradients are the mean over all of them."""
        return DistributedDataParallel(module) if self.size > 1 else module

    def mean(self, *numbers: Tensor) -> list[float]:
        """The mean of each number over all processes; every process must ask."""
        stacked = torch.stack([number.detach() for number in numbers])
        if self.size > 1:
            dist.all_reduce(stacked)
        return (stacked / self.size).tolist()

    def any(self, is_so: bool, device: torch.device) -> bool:
        """Whether it is so in any process; every process must ask."""
        if self.size == 1:
            return is_so
        return self.mean(torch.tensor(float(is_so), device=device))[0] > 0

    def check_same(self, n_steps: int, device: torch.device) -> None:
        """Raise ValueError, in all processes, unless all have done as many steps."""
        if self.size == 1:
            return
        ends = torch.tensor([n_steps, -n_steps], device=device)
        dist.all_reduce(ends, dist.ReduceOp.MIN)
        fewest, most = ends[0].item(), -ends[1].item()
        if fewest < most:
            raise ValueError(
                f"checkpoint: expected the same file for all processes, got one of {most} steps "
                f"and one of {fewest}; copy it to every machine, or use a folder that all share."
            )

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def workers() -> Iterator[Workers]:
    """Join the other processes that `torchrun` has started, if it has; leave them at the end."""
    if not dist.is_torchelastic_launched():
        yield Workers()
        return
    number, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if n_gpus:
        if number >= n_gpus:
            raise ValueError(
                f"nproc-per-node: expected at most {n_gpus} processes, one for each GPU, got one "
                f"with number {number}; set CUDA_VISIBLE_DEVICES='' to train on the CPU."
            )
        torch.cuda.set_device(number)
    dist.init_process_group("cpu:gloo,cuda:nccl" if n_gpus else "gloo")
    try:
        yield Workers(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
