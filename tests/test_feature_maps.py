"""Feature maps against loops over entries, and what each map promises."""

import math

import pytest
import torch

import armt_mini as am
from armt_mini.feature_maps import FEATURE_MAPS


@pytest.mark.dtypes("float64", "float32", "bfloat16")
def test_dpfp_equals_products_of_neighbours_taken_one_by_one(draw, close):
    x = draw(2, 5)
    features = am.dpfp(x, nu=3)
    for sample in range(2):
        rectified = [max(v, 0.0) for v in x[sample].tolist()]
        rectified += [max(-v, 0.0) for v in x[sample].tolist()]
        expected = [rectified[i] * rectified[i - j] for j in (1, 2, 3) for i in range(10)]
        close(features[sample], expected)


def test_dpfp_by_hand(numbers, close):
    x = numbers([2, 3, -5])
    # r = [2, 3, 0, 0, 0, 5]; neighbours one to the left, around the corner: [5, 2, 3, 0, 0, 0]
    close(am.dpfp(x, nu=1), [10, 6, 0, 0, 0, 0])
    close(am.dpfp(x, nu=2)[6:], [0, 15, 0, 0, 0, 0])


def test_dpfp_takes_any_leading_dimensions_and_multiplies_the_size_by_2_nu(draw):
    assert am.dpfp(draw(2, 3, 5), nu=7).shape == (2, 3, 70)
    assert am.dpfp(draw(5), nu=1).shape == (10,)
    assert am.dpfp(draw(5)).shape == (30,)  # ν is 3 unless told


def test_dpfp_has_degree_two(draw, close):
    x = draw(3, 5)
    close(am.dpfp(4 * x), 16 * am.dpfp(x))


def test_dpfp_tells_a_vector_from_its_negative(draw):
    x = draw(3, 5)
    overlap = (am.dpfp(x) * am.dpfp(-x)).sum(-1)
    assert (overlap < 0.5 * am.dpfp(x).square().sum(-1)).all()
    assert (am.dpfp(-x).sum(-1) > 0).all()


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_features_are_never_negative_and_have_the_stated_size(draw, name):
    features = am.feature_map(name, nu=2)(draw(31, 5))
    assert (features >= 0).all()
    assert features.shape == (31, 2 * 2 * 5 if name == "dpfp" else 5)
    assert features.count_nonzero() > 31


def test_elu_plus_one_and_relu_by_hand(numbers, close):
    x = numbers([-2, 0, 3])
    close(am.elu_plus_one(x), [math.exp(-2), 1, 4])
    close(am.relu(x), [0, 0, 3])


@pytest.mark.dtypes("float32")
def test_elu_plus_one_is_above_zero_far_below_zero(numbers):
    x = numbers([-12, -17, -20, -60]).requires_grad_()
    features = am.elu_plus_one(x)
    features.sum().backward()
    for found in (features, x.grad):
        torch.testing.assert_close(found, x.detach().exp(), rtol=1e-6, atol=0)


def test_unit_length_keeps_direction_and_leaves_zero_at_zero(draw, close):
    features = torch.cat([am.dpfp(draw(2, 5)), torch.zeros_like(am.dpfp(draw(1, 5)))])
    unit = am.unit_length(features)
    close(unit.norm(dim=-1), [1, 1, 0])
    close(unit * features.norm(dim=-1, keepdim=True), features)
    close(am.feature_map("dpfp", 3, unit=True)(draw(2, 5)).norm(dim=-1), [1, 1])


def test_features_shorter_than_the_floor_of_unit_length_stay_shorter_than_one(numbers, close):
    direction = numbers([0.6, 0.8])
    for length, expected in ((4e-12, 1), (1e-12, 1), (5e-13, 0.5), (1e-13, 0.1)):
        close(am.unit_length(direction * length), direction * expected)


@pytest.mark.dtypes("float64")
@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_gradients_of_feature_maps_equal_finite_differences(draw, name):
    x = draw(2, 5).requires_grad_()
    assert torch.autograd.gradcheck(am.feature_map(name, nu=3, unit=True), (x,))


def test_zero_input_has_finite_gradients(draw):
    x = torch.zeros_like(draw(2, 5)).requires_grad_()
    am.unit_length(am.dpfp(x)).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("nu", [0, -1, 10])
def test_dpfp_without_that_many_neighbours_is_an_error_that_names_nu(draw, nu):
    with pytest.raises(ValueError, match=r"^nu: expected 1 to 9 .*got"):
        am.dpfp(draw(2, 5), nu=nu)


def test_unknown_feature_map_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"^feature_map: .*dpfp, elu_plus_one, relu.*'softmax'"):
        am.feature_map("softmax")
