"""The ways to write into a memory, by name: three of the paper, and two more."""

from __future__ import annotations

from torch import Tensor

from armt_mini.checks import check_one_of, check_written
from armt_mini.delta_rule import delta_write
from armt_mini.gamma_correction import gamma_write
from armt_mini.linear_attention import additive_write
from armt_mini.memory_state import MemoryState
from armt_mini.shapes import Float

RULES = ("additive", "delta", "gamma", "gamma_erase", "deltanet")


def write(
    state: MemoryState,
    keys: Float[Tensor, "batch memory_tokens d_key"],
    values: Float[Tensor, "batch memory_tokens d_value"],
    strengths: Float[Tensor, "batch memory_tokens"],
    rule: str = "gamma",
    eps: float = 1e-5,
    *,
    clip_gamma: bool = True,
    detach_gamma: bool = True,
) -> MemoryState:
    """Store values under keys and return the new memory (ARMT eqs. 2 and 3).

    keys: already feature-mapped. strengths: β in [0, 1]; they scale what is written into A, never
    what is added to z. rule: "additive" (linear attention), "delta" (ARMT without γ), "gamma"
    (ARMT), "gamma_erase" (γ says also how much of the old value is erased) or "deltanet" (without
    a normaliser: z stays as it is; read it with normalise=False). All memory tokens of one call
    see the state before it. eps: at least 0, the ε of `read`. clip_gamma, detach_gamma: see
    `gamma_write`; they matter to the two rules with γ only.

    Raises ValueError for an unknown rule or sizes, TypeError for dtypes or devices that do not fit.
    """
    check_written(state, keys, values, strengths, eps)
    check_one_of("rule", rule, RULES)
    return store(state, keys, values, strengths, rule, eps, clip_gamma, detach_gamma)


def store(
    state: MemoryState,
    keys: Tensor,
    values: Tensor,
    strengths: Tensor,
    rule: str,
    eps: float,
    clip_gamma: bool,
    detach_gamma: bool,
) -> MemoryState:
    """`write` without its checks, for inner loops."""
    if rule == "additive":
        return additive_write(state, keys, values, strengths)
    if rule == "delta":
        return delta_write(state, keys, values, strengths, eps)
    if rule == "deltanet":
        return delta_write(state, keys, values, strengths, eps, counted=0, normalise=False)
    erase_all = rule == "gamma"
    return gamma_write(state, keys, values, strengths, eps, clip_gamma, detach_gamma, erase_all)
