"""γ correction. Cases worked by hand in the paper's notation, with ε = 0 unless stated."""

import pytest
import torch

import armt_mini as am


@pytest.fixture
def key(draw):
    return draw(1, 1, 7).abs() + 0.1


def write(state, key, value, strength=1.0, eps=0.0, **options):
    """One segment, whose memory tokens all have this key, value and strength."""
    if state is None:
        state = am.MemoryState.empty(1, 7, 5, dtype=key.dtype, device=key.device)
    strengths = torch.full_like(key[..., 0], strength)
    return am.write(state, key, value, strengths, rule="gamma", eps=eps, **options)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_rewriting_a_key_with_gamma_recalls_the_new_value(key, draw, close):
    v1, v2 = draw(2, 1, 1, 5)
    state = write(write(None, key, v1), key, v2)
    close(am.read(state, key, eps=0.0), v2)
    close(state.normaliser, key[:, 0])


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("n", [3, 100])
def test_with_gamma_n_writes_of_a_key_recall_the_newest_value(key, draw, close, n, clip):
    state, values = None, draw(n, 1, 1, 5)
    for value in values:
        state = write(state, key, value, clip_gamma=clip)
    close(am.read(state, key, eps=0.0), values[-1], rtol=1e-10 if key.dtype.itemsize == 8 else 1e-3)


def test_with_gamma_the_same_value_again_and_again_recalls_it(key, draw, close):
    state, value = None, draw(1, 1, 5)
    for _ in range(5):
        state = write(state, key, value)
    close(am.read(state, key, eps=0.0), value)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_a_first_write_with_strength_beta_recalls_beta_times_the_value(key, draw, close, strength):
    value = draw(1, 1, 5)
    state = write(None, key, value, strength)
    close(am.read(state, key, eps=0.0), strength * value)
    assert torch.equal(state.normaliser, key[:, 0])  # β scales A, not z


def test_two_memory_tokens_of_one_later_segment_with_a_known_key_overshoot(key, draw, close):
    v1, v2 = draw(2, 1, 1, 5)
    state = write(write(None, key, v1), key.expand(1, 2, 7), v2.expand(1, 2, 5))
    close(am.read(state, key, eps=0.0), 2 * v2 - v1)
    close(state.normaliser, key[:, 0])


def test_the_same_key_twice_in_a_first_segment_recalls_the_mean_and_counts_twice(key, draw, close):
    values = draw(1, 2, 5)
    state = write(None, key.expand(1, 2, 7), values)
    close(am.read(state, key, eps=0.0), values.mean(dim=1, keepdim=True))
    close(state.normaliser, 2 * key[:, 0])


def test_a_rewrite_after_that_has_gamma_minus_one_unclipped_and_zero_clipped(key, draw, close):
    values, new = draw(1, 2, 5), draw(1, 1, 5)
    old = values.mean(dim=1, keepdim=True)
    state = write(None, key.expand(1, 2, 7), values)
    close(am.gamma(state.normaliser, key, eps=0.0, clip=False), [[-1]])
    close(am.gamma(state.normaliser, key, eps=0.0, clip=True), [[0]])
    clipped = write(state, key, new)
    close(clipped.normaliser, 2 * key[:, 0])
    close(am.read(clipped, key, eps=0.0), (old + new) / 2)
    unclipped = write(state, key, new, clip_gamma=False)
    close(unclipped.normaliser, key[:, 0])  # one copy too many is taken out again
    close(am.read(unclipped, key, eps=0.0), old + new)


def test_a_feature_that_z_does_not_count_is_recalled_far_too_large(numbers, close):
    """Not a wish but a fact about the paper's rule: with γ = 0, A gains a row that z lacks.

    Key (1, 0) twice in a first segment: A = (2, 0), z = (2, 0). Key (1, 0.1) then recalls 1, so
    value 3 adds 2·(1, 0.1) to A, and γ is clipped to 0. Query (0, 1) recalls 0.2 / ε.
    """
    known, near, query = (numbers([[k]]) for k in ([1, 0], [1, 0.1], [0, 1]))
    one, three, strength = numbers([[[1]]]), numbers([[[3]]]), numbers([[1]])
    state = am.MemoryState.empty(1, 2, 1, dtype=one.dtype, device=one.device)
    state = am.write(state, known.expand(1, 2, 2), one.expand(1, 2, 1), strength.expand(1, 2))
    state = am.write(state, near, three, strength)
    close(state.associations[0, :, 0], [4, 0.2], rtol=1e-4)
    close(state.normaliser, [[2, 0]])
    close(am.read(state, query), [[[20_000]]], rtol=1e-4)
    close(am.read(state, query, eps=0.0), [[[0]]])  # what z does not count at all recalls zero


def test_gamma_by_hand(numbers, close):
    z, keys = numbers([[3, 1]]), numbers([[[2, 0], [0, 2], [4, 4], [10, 0]]])
    # zᵀφ = 6, 2, 16, 30; ‖φ‖² = 4, 4, 32, 100
    close(am.gamma(z, keys, eps=0.0, clip=False), [[-0.5, 0.5, 0.5, 0.7]])
    close(am.gamma(z, keys, eps=0.0), [[0, 0.5, 0.5, 0.7]])
    close(am.gamma(z, keys, eps=1.0), [[0, 1 - 3 / 5, 1 - 17 / 33, 1 - 31 / 101]])
    close(
        am.gamma(z, keys)[:, 1:],
        [[1 - 2.00001 / 4.00001, 1 - 16.00001 / 32.00001, 1 - 30.00001 / 100.00001]],
    )


def test_what_gamma_adds_leaves_exactly_one_copy_of_a_key(memory, draw, close):
    z, key = memory().normaliser, draw(2, 1, 7).abs()
    missing = am.gamma(z, key, eps=0.0, clip=False)
    overlap = ((z + missing * key[:, 0]) * key[:, 0]).sum(-1)
    close(overlap, key[:, 0].square().sum(-1))


def test_gamma_is_clipped_to_0_to_1_unless_told(draw, close):
    z, keys = 3 * draw(2, 7), draw(2, 31, 7).abs()
    unclipped = am.gamma(z, keys, clip=False)
    assert unclipped.min() < -0.1
    assert unclipped.max() > 1.1
    close(am.gamma(z, keys), unclipped.clamp(0, 1))


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("eps", [1e-5, 0.0, 10.0])
@pytest.mark.parametrize("clip", [True, False])
def test_gamma_is_exactly_one_where_a_samples_memory_is_empty_and_only_there(draw, eps, clip):
    z, keys = draw(3, 7).abs(), draw(3, 5, 7).abs()
    z[1] = 0
    missing = am.gamma(z, keys, eps, clip)
    assert torch.equal(missing[1], torch.ones_like(missing[1]))
    assert (missing[[0, 2]] < 0.999).all()


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_gamma_of_a_key_without_features_is_finite_in_value_and_gradient(memory, eps):
    z = memory().normaliser.requires_grad_()
    keys = torch.zeros_like(z)[:, None].requires_grad_()
    missing = am.gamma(z, keys, eps)
    missing.sum().backward()
    assert torch.isfinite(missing).all()
    assert torch.isfinite(z.grad).all()
    assert torch.isfinite(keys.grad).all()


def gradients(state, keys, values, strengths, **options):
    inputs = [x.clone().requires_grad_() for x in (*state, keys, values, strengths)]
    new = am.write(am.MemoryState(*inputs[:2]), *inputs[2:], rule="gamma", **options)
    weights = [torch.linspace(-1, 2, part.numel()).view_as(part).to(part) for part in new]
    sum((part * weight).sum() for part, weight in zip(new, weights, strict=True)).backward()
    return [x.grad for x in inputs]


def test_gamma_is_a_constant_in_training_unless_told(memory, pairs):
    state, (keys, values, strengths) = memory(), pairs()
    keys = 2 * keys  # γ well inside 0 … 1, where clipping has a gradient
    assert ((am.gamma(state.normaliser, keys) > 0.05).float().mean()) > 0.5
    fixed = gradients(state, keys, values, strengths)
    for detached, flowing in zip(
        fixed[1:3], gradients(state, keys, values, strengths, detach_gamma=False)[1:3], strict=True
    ):
        assert (detached - flowing).abs().max() > 1e-3  # z and keys


def test_a_gamma_held_fixed_lets_z_pass_unchanged(memory, pairs, close):
    state, (keys, values, strengths) = memory(), pairs()
    z = state.normaliser.requires_grad_()
    am.write(state, keys, values, strengths).normaliser.sum().backward()
    close(z.grad, torch.ones_like(z))


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("clip", [True, False])
def test_gradients_with_gamma_not_detached_equal_finite_differences(memory, pairs, clip):
    state, (keys, values, strengths) = memory(), pairs()

    def write(*inputs):
        new = am.MemoryState(*inputs[:2])
        return am.write(new, *inputs[2:], clip_gamma=clip, detach_gamma=False)

    inputs = [x.requires_grad_() for x in (*state, 2 * keys, values, strengths)]
    assert torch.autograd.gradcheck(write, inputs)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_erasing_only_what_is_there_takes_the_share_one_minus_gamma_of_the_old_value(
    numbers, draw, close
):
    """z = (1, 0). The key (0.6, 0.8) is there to 0.6: γ = 0.4, and it recalls v₁ whole."""
    one, (v1, v2, v3) = numbers([[1]]), draw(3, 1, 1, 5)
    first, second = numbers([[[1, 0]]]), numbers([[[0.6, 0.8]]])
    state = am.MemoryState.empty(1, 2, 5, dtype=one.dtype, device=one.device)
    for rule, share in (("gamma", 1), ("gamma_erase", 0.6)):
        stored = am.write(state, first, v1, one, rule, eps=0.0)
        close(stored.associations, first.mT @ v1)
        new = am.write(stored, second, v2, one, rule, eps=0.0)
        close(new.associations, first.mT @ v1 + second.mT @ (v2 - share * v1))
        close(new.normaliser, first[:, 0] + 0.4 * second[:, 0])
    # A key that is all there is overwritten: as with the paper's rule.
    again = am.write(stored, first, v3, one, "gamma_erase", eps=0.0)
    close(am.read(again, first, eps=0.0), v3)
