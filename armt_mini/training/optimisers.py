"""AdamW, and Muon for the matrices of layers (Jordan 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from armt_mini.checks import check_one_of
from armt_mini.segment_recurrence import SegmentRecurrence

OPTIMISERS = ("adamw", "muon")


def optimisers_for(model: nn.Module, name: str, **settings: Any) -> list[torch.optim.Optimizer]:
    """One of OPTIMISERS. settings: of AdamW; Muon has its learning rate and weight decay.

    "muon" is Muon for the matrices of layers (attention's three projections are one), and AdamW for
    all other weights. The model must be on its device already. Raises ValueError for another name,
    and for a model without stacked matrices.
    """
    check_one_of("optimiser", name, OPTIMISERS)
    weights, is_muon = list(model.parameters()), name == "muon"
    if is_muon and not isinstance(model, SegmentRecurrence):
        raise ValueError(
            f"optimiser: muon needs the stacked layers of ARMT, RMT or PRMT, got "
            f"{type(model).__name__}; use adamw."
        )

    def is_stack(weight: Tensor) -> bool:
        return is_muon and weight.ndim == 3 and min(weight.shape[1:]) > 1

    others = [weight for weight in weights if not is_stack(weight)]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, fused=weights[0].is_cuda, **settings)
    ]
    if is_muon:
        stacks = [weight for weight in weights if is_stack(weight)]
        found.append(Muon(stacks, settings["lr"], settings["weight_decay"]))
    return found


class Muon(torch.optim.Muon):
    """PyTorch's, for matrices that are stacked: (layers, inputs, outputs).

    Its steps are about as long as AdamW's, so that both can have the same learning rate.
    """

    def __init__(self, stacks: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.parts = [(stack, n) for stack in stacks for n in range(len(stack))]
        matrices = [nn.Parameter(stack.detach()[n]) for stack, n in self.parts]
        super().__init__(matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Any = None) -> Any:
        """Update the matrices, which lie in the stacks, by their parts of the stacks' gradients."""
        loss = None if closure is None else closure()
        for (stack, n), matrix in zip(self.parts, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if stack.grad is None else stack.grad[n]
        super().step()
        return loss
