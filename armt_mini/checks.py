"""Checks of what comes in from outside, with messages that say what was expected and what to do.

They stand at the boundary (public functions, a model's call), never in an inner loop.
"""

from __future__ import annotations

import math
from dataclasses import fields
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from armt_mini.memory_state import MemoryState


def check_type(name: str, value: Any, expected: type) -> None:
    """Raise TypeError unless the value is of this type."""
    if not isinstance(value, expected):
        article = "an" if expected is int else "a"
        raise TypeError(
            f"{name}: expected {article} {expected.__name__}, got {type(value).__name__}."
        )


def check_count(**counts: int | None) -> None:
    """Raise TypeError or ValueError unless each is a whole number of at least 1, or None."""
    for name, count in counts.items():
        if count is not None:
            check_type(name, count, int)
            check_at_least(1, **{name: count})


def check_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise ValueError unless the tensor has this shape; a word stands for any size above zero."""
    check_type(name, tensor, Tensor)
    fits = tensor.ndim == len(expected) and all(
        size == want or (isinstance(want, str) and size > 0)
        for size, want in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        shape = ", ".join(map(str, expected))
        raise ValueError(
            f"{name}: expected shape ({shape}), no size zero, got {tuple(tensor.shape)}."
        )


def check_alike(name: str, tensor: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    """Raise TypeError unless the tensor has this dtype and lies on this device."""
    if tensor.dtype != dtype or tensor.device != device:
        raise TypeError(
            f"{name}: expected {dtype} on {device}, got {tensor.dtype} on {tensor.device}; "
            f"convert it with .to(device, dtype)."
        )


def check_state(
    state: MemoryState, batch: int, d_key: int, d_value: int | str, dtype: torch.dtype, device
) -> None:
    """Raise ValueError or TypeError unless the state holds `batch` memories of this kind."""
    for name, shape in (("associations", (batch, d_key, d_value)), ("normaliser", (batch, d_key))):
        tensor = getattr(state, name, None)
        if tensor is None:
            raise TypeError(f"state: expected a MemoryState, got {type(state).__name__}.")
        check_shape(f"state.{name}", tensor, shape)
        check_alike(f"state.{name}", tensor, dtype, device)


def check_written(
    state: MemoryState, keys: Tensor, values: Tensor, strengths: Tensor, eps: float
) -> None:
    """Raise ValueError or TypeError unless these can be written into this state; see `write`."""
    check_shape("keys", keys, ("batch", "memory_tokens", "d_key"))
    batch, memory_tokens, d_key = keys.shape
    check_shape("values", values, (batch, memory_tokens, "d_value"))
    check_shape("strengths", strengths, (batch, memory_tokens))
    check_state(state, batch, d_key, values.shape[2], keys.dtype, keys.device)
    check_alike("values", values, keys.dtype, keys.device)
    check_alike("strengths", strengths, keys.dtype, keys.device)
    check_at_least(0, eps=eps)


def check_like(name: str, value: Any, pattern: Any, batch: int) -> None:
    """Raise ValueError or TypeError unless the value is built as the pattern, but for its batch.

    The pattern is a tensor, or a list or named tuple of patterns.
    """
    if isinstance(pattern, Tensor):
        check_shape(name, value, (batch, *pattern.shape[1:]))
        check_alike(name, value, pattern.dtype, pattern.device)
        return
    check_type(name, value, type(pattern))
    if len(value) != len(pattern):
        raise ValueError(
            f"{name}: expected length {len(pattern)}, got {len(value)}; pass back what an earlier "
            f"call returned, or None."
        )
    parts = [f".{field}" for field in getattr(pattern, "_fields", ())]
    parts = parts or [f"[{index}]" for index in range(len(pattern))]
    for part, inner_value, inner_pattern in zip(parts, value, pattern, strict=True):
        check_like(name + part, inner_value, inner_pattern, batch)


def check_at_least(least: float, **named: float | None) -> None:
    """Raise ValueError for the first of the named numbers that is not finite or below `least`."""
    for name, number in named.items():
        if not (isinstance(number, Real) and -math.inf < number < math.inf):
            raise ValueError(
                f"{name}: expected at least {least}, got {number!r}; use a finite number."
            )
        if number < least:
            raise ValueError(f"{name}: expected at least {least}, got {number!r}.")


def check_share(**named: float) -> None:
    """Raise ValueError for the first of the named numbers that is not in 0 … 1."""
    for name, number in named.items():
        if not (isinstance(number, Real) and 0 <= number <= 1):
            raise ValueError(f"{name}: expected 0 to 1, got {number!r}.")


def check_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the known names."""
    if value not in known:
        raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}.")


def check_fields(config: Any) -> None:
    """Raise TypeError or ValueError unless a dataclass holds what its annotations say.

    Each int is a size, at least 1; each float a scale, finite and at least 0.
    """
    for field in fields(config):
        value: Any = getattr(config, field.name)
        kind, *or_none = str(field.type).split(" | ")
        if value is None and or_none:
            continue
        kinds = {"int": int, "float": (int, float), "bool": bool, "str": str}
        is_bool = type(value) is bool  # a bool is an int to Python
        if not isinstance(value, kinds[kind]) or is_bool != (kind == "bool"):
            raise TypeError(f"{field.name}: expected {field.type}, got {value!r}.")
        if kind in ("int", "float"):
            check_at_least(int(kind == "int"), **{field.name: value})


def check_tokens(
    name: str, tokens: Tensor, shape: tuple, vocab_size: int, device: torch.device
) -> None:
    """Raise unless tokens are integers in 0 … vocab_size − 1, of this shape and on this device."""
    check_shape(name, tokens, shape)
    if tokens.dtype not in (torch.int32, torch.int64):  # PyTorch takes no other for an index
        raise TypeError(f"{name}: expected int64 or int32, got {tokens.dtype}; use .long().")
    if tokens.device != device:
        raise TypeError(
            f"{name}: expected device {device}, as the model, got {tokens.device}; use .to(device)."
        )
    if torch.compiler.is_compiling() or (
        tokens.is_cuda and torch.cuda.is_current_stream_capturing()
    ):
        return  # compiled code and graphs must not wait for the numbers themselves
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{name}: expected 0 to {vocab_size - 1}, got {low} to {high}; check what made the "
            f"tokens, or make the model with a larger vocab_size."
        )


def states_to_begin(
    model: Any, name: str, tokens: Tensor, shape: tuple, states: list[Any] | None
) -> list[Any]:
    """The states to begin reading with: those given, or empty ones for None.

    Raises ValueError or TypeError for tokens or states that do not fit the model.
    """
    device = next(model.parameters()).device
    check_tokens(name, tokens, shape, model.config.vocab_size, device)
    to_begin: list[Any] = model.empty_states(len(tokens)) if states is None else states
    check_like("states", to_begin, model.empty_states(1), len(tokens))
    return to_begin
