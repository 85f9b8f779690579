"""Feature maps: from a key or query vector x to non-negative features φ(x).

A memory finds a stored value by the overlap φ(k)ᵀφ(q) of features. The overlap must not be
negative, since a read divides by a sum of overlaps; and it should be small for different keys,
since what overlaps interferes. The maps below differ in how well they do the second.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from armt_mini.checks import check_one_of
from armt_mini.shapes import Float


def elu_plus_one(x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
    """φ(x) = elu(x) + 1, above zero everywhere: every two keys overlap (Katharopoulos 2020)."""
    return F.relu(x) + x.clamp(max=0).exp()  # F.elu(x) + 1 is rounded to zero far below zero


def relu(x: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest d"]:
    """φ(x) = max(x, 0): keys overlap less, and a key without a positive entry has no features."""
    return F.relu(x)


def dpfp(x: Float[Tensor, "*rest d"], nu: int = 3) -> Float[Tensor, "*rest d_key"]:
    """Deterministic parameter-free projection: products of neighbouring rectified entries.

    With r = [relu(x), relu(−x)] of size 2d, feature (j, i) is r_i · r_{i−j} for j = 1 … ν
    (indices wrap around): (..., d) -> (..., 2·ν·d). A feature is on only where two entries have
    the right signs at once, so different keys share few. Degree two: φ(c·x) = c² φ(x). Shift
    j = d pairs relu(x) with relu(−x) and is always zero; shifts above d repeat those below.

    Raises ValueError if ν is not in 1 … 2d − 1. Source: Schlag 2021, eq. 37; ARMT uses ν = 3.
    """
    size = x.shape[-1] if x.ndim else 0
    if not 1 <= nu < 2 * size:
        raise ValueError(
            f"nu: expected 1 to {2 * size - 1} for inputs of size {size} (2·size − 1), got {nu}; "
            f"choose a smaller nu or a larger input (d_memory)."
        )
    rectified = torch.cat([F.relu(x), F.relu(-x)], dim=-1)  # (..., d) -> (..., 2d)
    products = [rectified * rectified.roll(j, dims=-1) for j in range(1, nu + 1)]
    return torch.cat(products, dim=-1)  # (..., 2d) -> (..., 2·ν·d)


def unit_length(features: Float[Tensor, "*rest d_key"]) -> Float[Tensor, "*rest d_key"]:
    """φ/‖φ‖, so every key weighs the same; φ/1e-12 where that is shorter (not in the paper)."""
    return F.normalize(features, dim=-1)


FEATURE_MAPS = ("dpfp", "elu_plus_one", "relu")


def feature_map(name: str, nu: int = 3, unit: bool = False) -> Callable[[Tensor], Tensor]:
    """The map called `name`, one of FEATURE_MAPS; `unit` scales its features to length one.

    Raises ValueError for any other name.
    """
    check_one_of("feature_map", name, FEATURE_MAPS)
    maps = {"dpfp": partial(dpfp, nu=nu), "elu_plus_one": elu_plus_one, "relu": relu}
    return (lambda x: unit_length(maps[name](x))) if unit else maps[name]
