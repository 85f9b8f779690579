"""What holds for every rule of writing, through the public `write` and `read`."""

import pytest
import torch

import armt_mini as am

pytestmark = pytest.mark.parametrize("rule", am.RULES)


def empty(like, batch=2, d_key=7, d_value=5):
    return am.MemoryState.empty(batch, d_key, d_value, dtype=like.dtype, device=like.device)


def keys_for(rule, keys):
    """Rule "deltanet" is made for keys of length one."""
    return am.unit_length(keys) if rule == "deltanet" else keys


def read(state, queries, rule, eps=1e-5):
    return am.read(state, queries, eps, normalise=rule != "deltanet")


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("in_one_call", [True, False])
def test_orthogonal_keys_recall_each_its_own_value(draw, close, rule, in_one_call):
    keys = keys_for(rule, torch.diag_embed(draw(2, 7).abs() + 0.5))  # seven, no feature shared
    values, ones = draw(2, 7, 5), torch.ones_like(draw(2, 7))
    state = empty(keys)
    for part in [slice(0, 7)] if in_one_call else [slice(i, i + 1) for i in range(7)]:
        chosen = keys[:, part], values[:, part], ones[:, part]
        state = am.write(state, *chosen, rule=rule, eps=0.0)
    close(read(state, keys, rule, eps=0.0), values)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e2, 1e4])
@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_a_single_pair_is_recalled_as_beta_n_over_n_plus_epsilon_of_its_value(
    draw, dtype, rule, scale, strength
):
    key = am.dpfp(scale * draw(2, 1, 5))
    value, strengths = draw(2, 1, 3), torch.full_like(draw(2, 1), strength)
    state = am.write(empty(key, d_key=30, d_value=3), key, value, strengths, rule)
    recalled = read(state, key, rule)
    n = key.double().square().sum(-1, keepdim=True)
    share = n if rule == "deltanet" else n / (n + 1e-5)
    expected = strengths.double().unsqueeze(-1) * share * value.double()
    # Only relative: for the smallest keys the figure is 1e-11, for the largest N is 1e17.
    rtol = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2}[dtype]
    torch.testing.assert_close(recalled.double(), expected, rtol=rtol, atol=0.0)


def test_each_sample_alone_equals_its_batch_in_values_and_gradients(
    memory, pairs, draw, close, rule
):
    inputs = [*memory(3), *pairs(3), draw(3, 2, 7).abs()]

    def run(*inputs):
        inputs = [x.detach().clone().requires_grad_() for x in inputs]
        state = am.write(am.MemoryState(*inputs[:2]), *inputs[2:5], rule=rule)
        recalled = read(state, inputs[5], rule)
        (recalled.square().sum() + state.normaliser.square().sum()).backward()
        return [*state, recalled, *(x.grad for x in inputs)]

    together = run(*inputs)
    for sample in range(3):
        alone = run(*(x[sample : sample + 1] for x in inputs))
        for one, all_of_them in zip(alone, together, strict=True):
            close(one[0], all_of_them[sample])


def test_the_order_of_memory_tokens_in_a_call_does_not_matter(memory, pairs, close, rule):
    state, inputs, order = memory(), pairs(tokens=5), [3, 0, 4, 1, 2]
    written = am.write(state, *inputs, rule=rule)
    close(am.write(state, *(x[:, order] for x in inputs), rule=rule), written)
    # It does matter which value stands under which key:
    mixed = am.write(state, inputs[0][:, order], *inputs[1:], rule=rule)
    assert (mixed.associations - written.associations).abs().max() > 1e-3


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_strengths_scale_what_is_written_into_a_and_never_the_normaliser(
    memory, pairs, close, rule
):
    state, (keys, values, strengths) = memory(), pairs()
    weak, strong = (am.write(state, keys, values, s, rule) for s in (strengths / 4, strengths))
    assert torch.equal(weak.normaliser, strong.normaliser)
    counted = (strong.normaliser - state.normaliser).abs()
    assert counted.max() == 0 if rule == "deltanet" else counted.min() > 1e-2
    change = strong.associations - state.associations
    close(4 * (weak.associations - state.associations), change)
    assert change.abs().max() > 0.1


def test_writing_leaves_the_state_and_what_is_written_alone(memory, pairs, rule):
    state, inputs = memory(), pairs()
    before = [x.clone() for x in (*state, *inputs)]
    new = am.write(state, *inputs, rule=rule)
    assert all(torch.equal(x, y) for x, y in zip(before, (*state, *inputs), strict=True))
    assert (new.associations != state.associations).all()
    assert ((new.normaliser != state.normaliser) == (rule != "deltanet")).all()


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_keys_without_features_write_nothing_and_their_gradients_are_finite(
    memory, pairs, rule, eps
):
    state, (_, values, strengths) = memory(), pairs()
    keys = torch.zeros_like(pairs()[0]).requires_grad_()
    new = am.write(state, keys, values, strengths, rule, eps)
    assert all(torch.equal(x, y) for x, y in zip(new, state, strict=True))
    sum(part.sum() for part in new).backward()
    assert torch.isfinite(keys.grad).all()


@pytest.mark.slow
@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.usefixtures("unchecked")
def test_10_000_writes_of_repeated_keys_stay_finite_in_value_and_gradient(draw, dtype, rule):
    """16 keys written over and over; gradients go back through the last 100 writes.

    float64 only confirms what float32 and bfloat16 must also do: it takes a tenth.
    """
    n = 1_000 if dtype == torch.float64 else 10_000
    keys = keys_for(rule, am.dpfp(draw(16, 1, 1, 3))).requires_grad_()
    values = draw(n, 1, 1, 2).requires_grad_()
    one, state = torch.ones_like(draw(1, 1)), empty(keys, 1, 18, 2)
    rows = torch.randint(16, (n,), generator=torch.Generator().manual_seed(0)).tolist()
    for step, (row, value) in enumerate(zip(rows, values.unbind(), strict=True)):
        with torch.set_grad_enabled(step >= n - 100):
            state = am.write(state, keys[row], value, one, rule)
    recalled = read(state, keys[:, 0, 0][None], rule)
    recalled.square().sum().backward()
    for x in (*state, recalled, keys.grad, values.grad):
        assert torch.isfinite(x).all()
    assert keys.grad.abs().amax(dim=(1, 2, 3)).min() > 0  # every key was asked
    assert values.grad[-100:].count_nonzero() > 100
    assert recalled.abs().max() < 10 * values.abs().max()


@pytest.mark.dtypes("float64")
def test_gradients_of_writing_equal_finite_differences(memory, pairs, rule):
    """γ is detached by default, so the finite differences are of the write with γ held fixed."""
    state, (keys, values, strengths) = memory(), pairs()
    fixed = am.gamma(state.normaliser, keys).detach()
    assert fixed.min() < 0.9  # not all alike: γ matters here
    inputs = [x.requires_grad_() for x in (*state, keys, values, strengths)]

    def held_fixed(a, z, k, v, s):
        """As the rule has it, in the plainest of ways."""
        old = (k @ a) / ((k * z[:, None]).sum(-1, keepdim=True) + 1e-5)
        missing = fixed if "gamma" in rule else torch.full_like(fixed, rule != "deltanet")
        if rule == "additive":
            old = torch.zeros_like(old)
        if rule == "gamma_erase":
            old = (1 - missing).unsqueeze(-1) * old
        if rule == "deltanet":
            old = k @ a
        new_a = a + torch.einsum("bi,bik,biv->bkv", s, k, v - old)
        return new_a, z + torch.einsum("bi,bik->bk", missing, k)

    assert torch.autograd.gradcheck(held_fixed, inputs)
    expected, actual = (
        torch.autograd.grad(sum(part.square().sum() for part in new), inputs)
        for new in (
            held_fixed(*inputs),
            am.write(am.MemoryState(*inputs[:2]), *inputs[2:], rule=rule),
        )
    )
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


# What does not fit. Each message begins with the name of the argument.

WRONG = {
    "keys of wrong rank": ({"keys": (3, 7)}, r"keys: .*\(3, 7\)"),
    "no memory token": ({"keys": (2, 0, 7)}, r"keys: .*\(2, 0, 7\)"),
    "values of wrong rank": ({"values": (2, 3)}, r"values: .*\(2, 3\)"),
    "values of another batch": ({"values": (1, 3, 5)}, r"values: .*\(1, 3, 5\)"),
    "values of fewer tokens": ({"values": (2, 2, 5)}, r"values: .*\(2, 2, 5\)"),
    "strengths of wrong rank": ({"strengths": (2, 3, 1)}, r"strengths: .*\(2, 3, 1\)"),
    "strengths of fewer tokens": ({"strengths": (2, 2)}, r"strengths: .*\(2, 2\)"),
    "a state of another batch": (
        {"a": (1, 7, 5), "z": (1, 7)},
        r"state\.associations: .*\(1, 7, 5\)",
    ),
    "a state of another key size": ({"a": (2, 11, 5)}, r"state\.associations: .*\(2, 11, 5\)"),
    "a state of another value size": ({"a": (2, 7, 3)}, r"state\.associations: .*\(2, 7, 3\)"),
    "a normaliser of another size": ({"z": (2, 11)}, r"state\.normaliser: .*\(2, 11\)"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("sizes", "message"), WRONG.values(), ids=WRONG)
def test_shapes_that_do_not_fit_are_an_error_that_names_the_argument(draw, rule, sizes, message):
    shapes = {
        "a": (2, 7, 5),
        "z": (2, 7),
        "keys": (2, 3, 7),
        "values": (2, 3, 5),
        "strengths": (2, 3),
    }
    a, z, *inputs = (draw(*shape) for shape in (shapes | sizes).values())
    with pytest.raises(ValueError, match=f"^{message}"):
        am.write(am.MemoryState(a, z), *inputs, rule=rule)


@pytest.mark.usefixtures("unchecked")
def test_another_dtype_or_device_is_an_error_that_names_the_argument(memory, pairs, rule):
    names = ["state.associations", "state.normaliser", "keys", "values", "strengths"]
    inputs = [*memory(), *pairs()]
    for i, name in enumerate(names):
        # Keys say what is expected, so the first complaint about other keys is of the state.
        named = "state.associations" if name == "keys" else name
        for other in (inputs[i].half(), inputs[i].to("meta")):
            changed = [*inputs[:i], other, *inputs[i + 1 :]]
            with pytest.raises(TypeError, match=f"^{named}: expected .*, got "):
                am.write(am.MemoryState(*changed[:2]), *changed[2:], rule=rule)


def test_an_unknown_rule_is_an_error_that_lists_the_known_ones(memory, pairs, rule):
    with pytest.raises(
        ValueError, match=r"^rule: .*additive, delta, gamma, gamma_erase, deltanet; got"
    ):
        am.write(memory(), *pairs(), rule=rule.upper())


@pytest.mark.parametrize("eps", [-1e-9, float("nan")])
def test_a_negative_epsilon_is_an_error_that_names_it(memory, pairs, rule, eps):
    with pytest.raises(ValueError, match=r"^eps: expected at least 0, got"):
        am.write(memory(), *pairs(), rule=rule, eps=eps)
