"""Reading, and storing by adding."""

import pytest
import torch

import armt_mini as am


def test_linear_attention_equals_the_explicit_sum_over_stored_pairs(pairs, draw, close):
    keys, values, strengths = pairs()
    queries = draw(2, 11, 7).abs()
    empty = am.MemoryState(torch.zeros_like(draw(2, 7, 5)), torch.zeros_like(draw(2, 7)))
    state = am.write(empty, keys, values, torch.ones_like(strengths), rule="additive")
    recalled = am.read(state, queries, eps=0.0)
    for b in range(2):
        for t in range(11):
            overlaps = [float(queries[b, t] @ keys[b, i]) for i in range(3)]
            weighted = sum(overlap * values[b, i] for i, overlap in enumerate(overlaps))
            close(recalled[b, t], weighted / sum(overlaps))


def test_reading_equals_the_formula_query_by_query(memory, draw, close):
    state, queries = memory(), draw(2, 3, 7).abs()
    recalled = am.read(state, queries, eps=0.25)
    for b in range(2):
        for t in range(3):
            numerator = [
                sum(float(queries[b, t, f]) * float(state.associations[b, f, v]) for f in range(7))
                for v in range(5)
            ]
            overlap = sum(float(queries[b, t, f] * state.normaliser[b, f]) for f in range(7))
            close(recalled[b, t], [n / (overlap + 0.25) for n in numerator])


def test_reading_adds_an_epsilon_of_1e_5_unless_told(memory, draw, close):
    state, queries = memory(), 1e-3 * draw(2, 3, 7).abs()
    numerator = queries @ state.associations
    overlap = (queries * state.normaliser[:, None]).sum(-1, keepdim=True)
    close(am.read(state, queries), numerator / (overlap + 1e-5))
    assert (am.read(state, queries) - numerator / overlap).abs().max() > 1e-3


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_a_key_stored_twice_by_adding_recalls_the_mean_of_its_values(draw, close):
    key, v1, v2 = draw(1, 1, 7).abs(), draw(1, 1, 5), draw(1, 1, 5)
    state = am.MemoryState(torch.zeros_like(draw(1, 7, 5)), torch.zeros_like(draw(1, 7)))
    for value in (v1, v2):
        state = am.write(state, key, value, torch.ones_like(value[..., 0]), "additive", eps=0.0)
    close(am.read(state, key, eps=0.0), (v1 + v2) / 2)


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_an_empty_memory_recalls_zero(draw, eps):
    empty = am.MemoryState(torch.zeros_like(draw(2, 7, 5)), torch.zeros_like(draw(2, 7)))
    recalled = am.read(empty, draw(2, 3, 7).abs(), eps=eps)
    assert recalled.shape == (2, 3, 5)
    assert torch.equal(recalled, torch.zeros_like(recalled))


@pytest.mark.dtypes("float64", "float32", "bfloat16")
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_a_query_without_features_recalls_zero_with_finite_gradients(memory, draw, eps):
    state = am.MemoryState(*(part.requires_grad_() for part in memory()))
    queries = torch.zeros_like(draw(2, 3, 7)).requires_grad_()
    recalled = am.read(state, queries, eps=eps)
    assert torch.equal(recalled, torch.zeros_like(recalled))
    recalled.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (queries, *state))


def test_reading_leaves_the_memory_alone(memory, draw):
    state = memory()
    before = [part.clone() for part in state]
    am.read(state, draw(2, 3, 7).abs())
    assert all(torch.equal(old, new) for old, new in zip(before, state, strict=True))


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_gradients_of_reading_equal_finite_differences(memory, draw, eps):
    inputs = [part.requires_grad_() for part in (*memory(), draw(2, 3, 7).abs())]
    assert torch.autograd.gradcheck(
        lambda a, z, q: am.read(am.MemoryState(a, z), q, eps=eps), inputs
    )


# What does not fit. Each message begins with the name of the argument.

WRONG = {
    "queries of wrong rank": ({"queries": (3, 7)}, ValueError, r"queries: .*\(3, 7\)"),
    "no queries": ({"queries": (2, 0, 7)}, ValueError, r"queries: .*\(2, 0, 7\)"),
    "another batch": ({"queries": (3, 3, 7)}, ValueError, r"state\.associations: .*\(2, 7, 5\)"),
    "another key size": ({"queries": (2, 3, 11)}, ValueError, r"state\.associations: .*11"),
    "associations of wrong rank": ({"a": (2, 7)}, ValueError, r"state\.associations: "),
    "normaliser of wrong rank": ({"z": (2, 7, 1)}, ValueError, r"state\.normaliser: "),
    "normaliser of another size": ({"z": (2, 5)}, ValueError, r"state\.normaliser: .*\(2, 5\)"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("sizes", "error", "message"), WRONG.values(), ids=WRONG)
def test_shapes_that_do_not_fit_are_an_error_that_names_the_argument(draw, sizes, error, message):
    shapes = {"queries": (2, 3, 7), "a": (2, 7, 5), "z": (2, 7)} | sizes
    state = am.MemoryState(draw(*shapes["a"]), draw(*shapes["z"]))
    with pytest.raises(error, match=f"^{message}"):
        am.read(state, draw(*shapes["queries"]))


@pytest.mark.usefixtures("unchecked")
def test_another_dtype_or_device_of_the_state_is_an_error_that_names_it(memory, draw, dtype):
    state, queries = memory(), draw(2, 3, 7)
    for part in ("associations", "normaliser"):
        half = state._replace(**{part: getattr(state, part).half()})
        with pytest.raises(TypeError, match=rf"^state\.{part}: expected {dtype} .*torch.float16"):
            am.read(half, queries)
        elsewhere = state._replace(**{part: getattr(state, part).to("meta")})
        with pytest.raises(TypeError, match=rf"^state\.{part}: expected .*got {dtype} on meta"):
            am.read(elsewhere, queries)


@pytest.mark.usefixtures("unchecked")
def test_queries_that_are_no_tensor_are_an_error_that_names_them(memory):
    with pytest.raises(TypeError, match=r"^queries: expected a Tensor, got list"):
        am.read(memory(), [[1.0]])


@pytest.mark.parametrize("eps", [-1e-9, float("nan")])
def test_a_negative_epsilon_is_an_error_that_names_it(memory, draw, eps):
    with pytest.raises(ValueError, match=r"^eps: expected at least 0, got"):
        am.read(memory(), draw(2, 3, 7), eps=eps)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("state", [None, (torch.ones(2, 7, 5), torch.ones(2, 7))])
def test_what_is_no_memory_state_is_an_error_that_says_so(draw, state):
    with pytest.raises(TypeError, match=r"^state: expected a MemoryState, got (NoneType|tuple)"):
        am.read(state, draw(2, 3, 7))
