"""The delta rule: ARMT without γ. Cases worked by hand in the paper's notation, with ε = 0."""

import pytest
import torch

import armt_mini as am


def write_in_turn(key, values, eps=0.0):
    """Write each of `values` under one key, in a segment of its own and with strength 1."""
    state = am.MemoryState.empty(1, 7, 5, dtype=key.dtype, device=key.device)
    for value in values:
        state = am.write(state, key, value, torch.ones_like(key[..., 0]), rule="delta", eps=eps)
    return state


@pytest.fixture
def key(draw):
    return draw(1, 1, 7).abs() + 0.1


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_rewriting_a_key_without_gamma_recalls_half_of_the_new_value(key, draw, close):
    v1, v2 = draw(2, 1, 1, 5)
    state = write_in_turn(key, [v1, v2])
    close(am.read(state, key, eps=0.0), v2 / 2)
    close(state.normaliser, 2 * key[:, 0])


@pytest.mark.parametrize("n", [2, 3, 7])
def test_without_gamma_n_writes_recall_sum_of_j_minus_1_times_v_j_over_n_n_minus_1(
    key, draw, close, n
):
    values = list(draw(n, 1, 1, 5))
    expected = sum((j - 1) * v for j, v in enumerate(values, start=1)) / (n * (n - 1))
    state = write_in_turn(key, values)
    close(am.read(state, key, eps=0.0), expected)
    close(state.normaliser, n * key[:, 0])


@pytest.mark.parametrize("n", [2, 5, 100])
def test_without_gamma_the_same_value_again_and_again_recalls_half_of_it(key, draw, close, n):
    value = draw(1, 1, 5)
    close(am.read(write_in_turn(key, [value] * n), key, eps=0.0), value / 2)


def test_without_gamma_two_memory_tokens_with_a_known_key_recall_a_third_of_the_overshoot(
    key, draw, close
):
    v1, v2 = draw(2, 1, 1, 5)
    state, ones = write_in_turn(key, [v1]), torch.ones_like(key[..., 0]).expand(1, 2)
    twice = (key.expand(1, 2, 7), v2.expand(1, 2, 5), ones)
    state = am.write(state, *twice, rule="delta", eps=0.0)
    close(am.read(state, key, eps=0.0), (2 * v2 - v1) / 3)


def test_overwriting_leaves_what_an_orthogonal_key_recalls(numbers, draw, close):
    first, second = numbers([[[2, 0, 0.5]]]), numbers([[[0, 3, 0]]])
    one, (v1, v2, v3) = numbers([[1]]), draw(3, 1, 1, 5)
    state = am.MemoryState.empty(1, 3, 5, dtype=one.dtype, device=one.device)
    for key, value in ((first, v1), (second, v2), (second, v3)):
        state = am.write(state, key, value, one, rule="delta", eps=0.0)
    close(am.read(state, first, eps=0.0), v1)
    close(am.read(state, second, eps=0.0), v3 / 2)


def test_the_old_value_is_read_with_the_same_epsilon_as_a_read(key, draw, close):
    v1, v2 = draw(2, 1, 1, 5)
    key = 0.1 * key
    n = float(key.square().sum())
    state = write_in_turn(key, [v1, v2], eps=0.5)
    # A = φ ⊗ (v₁ + v₂ − v̄) with v̄ = v₁·N/(N + ε): worked by hand.
    close(state.associations, key.mT @ (v2 + v1 * 0.5 / (n + 0.5)))


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_without_a_normaliser_a_key_of_length_one_recalls_the_newest_value_exactly(draw, close):
    """Rule "deltanet". With β = 1/2 half of the old value stays."""
    key, other = am.unit_length(torch.tensor([[[3.0, 4, 0]], [[0, 0, 2]]]).to(draw(1))).split(1)
    ones, values = torch.ones_like(draw(1, 1)), draw(4, 1, 1, 5)
    state = am.MemoryState.empty(1, 3, 5, dtype=key.dtype, device=key.device)
    state = am.write(state, other, values[0], ones, rule="deltanet")
    for value in values[1:3]:
        state = am.write(state, key, value, ones, rule="deltanet")
        close(am.read(state, key, normalise=False), value)
    state = am.write(state, key, values[3], ones / 2, rule="deltanet")
    close(am.read(state, key, normalise=False), (values[2] + values[3]) / 2)
    close(am.read(state, other, normalise=False), values[0])
    assert not state.normaliser.any()
