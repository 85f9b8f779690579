"""The memory as a value."""

import pytest
import torch

import armt_mini as am
from armt_mini.memory_state import fade


def test_an_empty_memory_is_all_zeros_of_the_asked_shape_dtype_and_device(device, dtype):
    state = am.MemoryState.empty(2, 3, 5, dtype=dtype, device=device)
    assert state.associations.shape == (2, 3, 5)
    assert state.normaliser.shape == (2, 3)
    for part in state:
        assert part.count_nonzero() == 0
        assert part.dtype == dtype
        assert part.device.type == device


def test_an_empty_memory_follows_torchs_default_dtype():
    assert am.MemoryState.empty(2, 3, 5).associations.dtype == torch.get_default_dtype()


def test_a_detached_memory_has_the_same_values_and_no_history(memory):
    state = am.MemoryState(*(part.requires_grad_() * 1 for part in memory()))
    assert state.associations.requires_grad
    detached = state.detach()
    for part, original in zip(detached, state, strict=True):
        assert not part.requires_grad
        assert torch.equal(part, original)
    assert state.associations.requires_grad  # the original keeps its own


def test_a_faded_memory_has_its_share_of_everything_and_recalls_what_it_did(memory, draw, close):
    state, queries = memory(), draw(2, 3, 7).abs()
    faded = fade(state, 0.25)
    for part, original in zip(faded, state, strict=True):
        close(part, original / 4)
    assert (state.normaliser != 0).any()
    close(am.read(faded, queries, eps=0.0), am.read(state, queries, eps=0.0))
    assert fade(state, 1.0) is state


def test_a_memory_cannot_be_changed_by_assignment(memory):
    with pytest.raises(AttributeError):
        memory().normaliser = None


@pytest.mark.parametrize("name", ["batch", "d_key", "d_value"])
def test_an_impossible_size_is_an_error_that_names_it(name):
    sizes = {"batch": 2, "d_key": 3, "d_value": 5} | {name: 0}
    with pytest.raises(ValueError, match=rf"^{name}: expected at least 1, got 0"):
        am.MemoryState.empty(**sizes)
