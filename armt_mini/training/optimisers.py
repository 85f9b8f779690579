"""AdamW, and Muon for the matrices of layers (Jordan 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from armt_mini.segment_recurrence import SegmentRecurrence

OPTIMISERS = ("adamw", "muon")


def optimisers_for(model: nn.Module, name: str, **settings: Any) -> list[torch.optim.Optimizer]:
    """One of OPTIMISERS. settings: of AdamW; Muon has its learning rate and weight decay.

    "muon" is Muon for the matrices of layers, and AdamW for all other weights. Raises ValueError
    for a model without stacked matrices.
    """
    weights, is_muon = list(model.parameters()), name == "muon"
    if is_muon and not isinstance(model, SegmentRecurrence):
        raise ValueError(
            f"optimiser: muon needs the stacked layers of ARMT, RMT or PRMT, got "
            f"{type(model).__name__}; use adamw."
        )
    others = [weight for weight in weights if not is_muon or weight.ndim < 3]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, fused=weights[0].is_cuda, **settings)
    ]
    if is_muon:
        stacks = [weight for weight in weights if weight.ndim == 3]
        found.append(Muon(stacks, settings["lr"], settings["weight_decay"]))
    return found


class Muon(torch.optim.Muon):
    """PyTorch's, for matrices that are stacked: (layers, inputs, outputs).

    Its steps are about as long as AdamW's, so that both can have the same learning rate.
    """

    def __init__(self, stacks: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.stacks = stacks
        matrices = [nn.Parameter(matrix) for stack in stacks for matrix in stack.detach()]
        super().__init__(matrices, lr, weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Any = None) -> Any:
        """Update the matrices, which lie in the stacks, by their parts of the stacks' gradients."""
        stacked = (stack.grad for stack in self.stacks if stack.grad is not None)
        gradients = (gradient for stack in stacked for gradient in stack)
        for matrix, gradient in zip(self.param_groups[0]["params"], gradients, strict=True):
            matrix.grad = gradient
        return super().step(closure)
