"""γ correction: count a key in the normaliser only as far as it is not counted yet.

The delta rule takes the old value out of A but leaves φ(k) in z. If z = φ(k) already, then
zᵀφ(k) = ‖φ(k)‖² and nothing must be added; if z is orthogonal to φ(k), all of it. In between,

    γ = 1 − zᵀφ(k) / ‖φ(k)‖²        (ARMT eq. 2)

is the part that is missing, and z + γ φ(k) has exactly the overlap ‖φ(k)‖² with φ(k) that one
stored copy should have: (z + γ φ)ᵀφ = zᵀφ + ‖φ‖² − zᵀφ.

What γ does not promise: A gains β φ(k) ⊗ (v − v̄) whatever γ is. A key that overlaps with what z
holds and has a feature that z lacks can get γ = 0; then A has a row that z does not count, and a
query for that feature alone is divided by ε (tests/test_gamma_correction.py works a case by hand).
"""

from __future__ import annotations

import torch
from torch import Tensor

from armt_mini.checks import check_alike, check_at_least, check_shape
from armt_mini.delta_rule import delta_write
from armt_mini.linear_attention import divide
from armt_mini.memory_state import MemoryState
from armt_mini.shapes import Float


def gamma(
    normaliser: Float[Tensor, "batch d_key"],
    keys: Float[Tensor, "batch memory_tokens d_key"],
    eps: float = 1e-5,
    clip: bool = True,
) -> Float[Tensor, "batch memory_tokens"]:
    """The part of each key that z does not hold yet: γ = 1 − (zᵀφ(k) + ε) / (‖φ(k)‖² + ε).

    keys: already feature-mapped. clip keeps γ in [0, 1] as the released code does; the paper does
    not, and then γ is negative where z holds more than one copy of a key. Where z is all zero,
    γ is 1: this is how the first segment needs no flag.

    Raises ValueError for sizes and TypeError for dtypes or devices that do not fit.
    """
    check_shape("keys", keys, ("batch", "memory_tokens", "d_key"))
    check_shape("normaliser", normaliser, (keys.shape[0], keys.shape[2]))
    check_alike("normaliser", normaliser, keys.dtype, keys.device)
    check_at_least(0, eps=eps)
    return missing_share(normaliser, keys, eps, clip)


def missing_share(normaliser: Tensor, keys: Tensor, eps: float, clip: bool) -> Tensor:
    """`gamma` without its checks, for inner loops."""
    overlap = (keys * normaliser.unsqueeze(-2)).sum(dim=-1)  # (..., memory_tokens)
    missing = 1 - divide(overlap + eps, keys.square().sum(dim=-1) + eps)
    missing = missing.clamp(0, 1) if clip else missing
    is_empty = (normaliser == 0).all(dim=-1, keepdim=True)
    return torch.where(is_empty, 1, missing)


def gamma_write(
    state: MemoryState,
    keys: Tensor,
    values: Tensor,
    strengths: Tensor,
    eps: float,
    clip: bool = True,
    detach: bool = True,
    erase_all: bool = True,
) -> MemoryState:
    """The delta rule, with only what is missing counted: z + Σᵢ γᵢ φ(kᵢ). Unchecked; see `write`.

    detach treats γ as a constant in training, as the authors do because it converges better.
    erase_all: False takes out the share 1 − γ of the old value only, as much as there is of the key
    (not in the paper).
    """
    missing = missing_share(state.normaliser, keys, eps, clip).unsqueeze(-1)
    counted = missing.detach() if detach else missing
    erased = 1 if erase_all else 1 - counted
    return delta_write(state, keys, values, strengths, eps, counted, erased)
