"""Checks of what comes in that no test of a public function reaches."""

import runpy
import sys

import numpy as np
import pytest
import torch

from armt_mini import checks, shapes


@pytest.mark.usefixtures("unchecked")
def test_compiled_code_looks_at_the_kind_of_tokens_but_waits_for_no_number(monkeypatch):
    def check(dtype: torch.dtype) -> None:
        # On this device a tensor has a shape and a dtype, but no numbers to wait for.
        device = torch.device("meta")
        checks.check_tokens(
            "tokens", torch.empty(2, 3, dtype=dtype, device=device), (2, 3), 5, device
        )

    with pytest.raises(RuntimeError, match="meta"):
        check(torch.long)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    check(torch.long)
    with pytest.raises(TypeError, match=r"^tokens: expected int64 or int32, got torch\.float32"):
        check(torch.float32)


def test_names_of_shapes_are_there_without_jaxtyping(monkeypatch):
    monkeypatch.setitem(sys.modules, "jaxtyping", None)
    found = runpy.run_path(shapes.__file__)
    assert {name: found[name] for name in shapes.__all__} == dict.fromkeys(("Bool", "Float", "Int"))


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_are_numbers():
    checks.check_at_least(1, n_pairs=np.int64(5), eps=np.float32(1.5), large=10**400)
    with pytest.raises(ValueError, match=r"^n_pairs: expected at least 1, got np.int64\(0\)"):
        checks.check_at_least(1, n_pairs=np.int64(0))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [float("inf"), float("nan"), "2", None])
def test_what_is_no_finite_number_is_told_so(value):
    with pytest.raises(ValueError, match=r"^eps: expected at least 0, got .*; use a finite number"):
        checks.check_at_least(0, eps=value)
