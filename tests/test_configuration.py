"""Configurations: defaults, what is refused, and that nothing changes them."""

import dataclasses

import pytest

import armt_mini as am

SIZES = {
    "vocab_size": 23,
    "d_model": 14,
    "n_layers": 3,
    "n_heads": 2,
    "segment_length": 5,
    "n_memory_tokens": 2,
}


def test_defaults_are_the_papers():
    config = am.ARMTConfig(**SIZES, d_memory=3)
    assert config.n_positions == config.segment_length
    assert config.d_mlp == 4 * config.d_model
    assert (config.nu, config.feature_map, config.rule, config.eps) == (3, "dpfp", "gamma", 1e-5)
    assert (config.clip_gamma, config.detach_gamma) == (True, True)
    assert (config.unit_features, config.memory_norm, config.value_std) == (False, False, 0.0)
    assert config.tied_head
    assert (config.retention, config.min_strength) == (1, 0)


@pytest.mark.parametrize(("feature_map", "d_key"), [("dpfp", 42), ("elu_plus_one", 7), ("relu", 7)])
def test_d_key_is_the_size_after_the_feature_map(feature_map, d_key):
    assert am.ARMTConfig(**SIZES, d_memory=7, feature_map=feature_map).d_key == d_key


def test_a_configuration_cannot_be_changed_but_copied_with_changes():
    config = am.ARMTConfig(**SIZES, d_memory=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.n_layers = 5
    assert dataclasses.replace(config, n_layers=5).n_layers == 5
    assert config.n_layers == 3
    assert config == am.ARMTConfig(**SIZES, d_memory=3)
    assert hash(config) == hash(am.ARMTConfig(**SIZES, d_memory=3))


WRONG = [
    *((name, value) for name in (*SIZES, "d_memory", "nu", "d_mlp") for value in (0, -3)),
    ("n_positions", 4),  # fewer than segment_length
    ("n_heads", 3),  # no divisor of d_model
    ("nu", 6),  # 2·d_memory
    ("feature_map", "softmax"),
    ("rule", "hebbian"),
    ("retention", 1.01),
    ("retention", -0.1),
    ("min_strength", 1.01),
    ("min_strength", -0.1),
    ("eps", -1e-9),
    ("eps", float("nan")),
    ("eps", float("inf")),
    ("value_std", -0.1),
    ("embedding_std", -0.1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_impossible_configuration_is_an_error_that_names_the_argument(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected .*got '?{value}"):
        am.ARMTConfig(**(SIZES | {"d_memory": 3} | {name: value}))
    if name in SIZES or name in ("d_mlp", "n_positions", "embedding_std"):
        with pytest.raises(ValueError, match=rf"^{name}: expected .*got {value}"):
            am.RecurrentConfig(**(SIZES | {name: value}))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", [*SIZES, "d_memory", "nu", "d_mlp", "n_positions"])
@pytest.mark.parametrize("value", [14.0, "14"])
def test_a_size_that_is_no_integer_is_an_error_that_names_the_argument(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: expected int.*, got '?14"):
        am.ARMTConfig(**(SIZES | {"d_memory": 3} | {name: value}))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value"),
    [("n_layers", True), ("tied_head", 1), ("clip_gamma", "no"), ("eps", "a"), ("rule", 3)],
)
def test_a_value_of_another_type_is_an_error_that_names_the_argument(name, value):
    with pytest.raises(TypeError, match=rf"^{name}: expected .*, got '?{value}"):
        am.ARMTConfig(**(SIZES | {"d_memory": 3} | {name: value}))


def test_feature_maps_without_neighbours_take_any_nu():
    assert am.ARMTConfig(**SIZES, d_memory=3, nu=7, feature_map="relu").d_key == 3
