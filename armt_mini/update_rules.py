"""The three ways to write into a memory, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from armt_mini.checks import check_alike, check_at_least, check_one_of, check_shape, check_state
from armt_mini.delta_rule import delta_write
from armt_mini.gamma_correction import gamma_write
from armt_mini.linear_attention import additive_write
from armt_mini.memory_state import MemoryState

if TYPE_CHECKING:
    from jaxtyping import Float

RULES = ("additive", "delta", "gamma")
Writer = Callable[[MemoryState, Tensor, Tensor, Tensor], MemoryState]


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
    what is added to z. rule: "additive" (linear attention), "delta" (ARMT without γ) or "gamma"
    (ARMT). All memory tokens of one call see the state before it. eps: at least 0, the ε of
    `read`. clip_gamma, detach_gamma: see `gamma_write`; they matter to rule "gamma" only.

    Raises ValueError for an unknown rule or sizes, TypeError for dtypes or devices that do not fit.
    """
    check_shape("keys", keys, ("batch", "memory_tokens", "d_key"))
    batch, memory_tokens, d_key = keys.shape
    check_shape("values", values, (batch, memory_tokens, "d_value"))
    check_shape("strengths", strengths, (batch, memory_tokens))
    check_state(state, batch, d_key, values.shape[2], keys.dtype, keys.device)
    check_alike("values", values, keys.dtype, keys.device)
    check_alike("strengths", strengths, keys.dtype, keys.device)
    check_at_least(0, eps=eps)
    return writer(rule, eps, clip_gamma, detach_gamma)(state, keys, values, strengths)


def writer(rule: str, eps: float, clip_gamma: bool, detach_gamma: bool) -> Writer:
    """The rule of this name with its options set, without checks of tensors, for inner loops."""
    check_one_of("rule", rule, RULES)
    rules: dict[str, Writer] = {
        "additive": additive_write,
        "delta": partial(delta_write, eps=eps),
        "gamma": partial(gamma_write, eps=eps, clip=clip_gamma, detach=detach_gamma),
    }
    return rules[rule]
