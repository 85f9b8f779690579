"""Muon for stacked matrices beside AdamW: what a step is, and a run that is stopped."""

import math

import pytest
import torch
from small_runs import TASK, recipe, run, small

import armt_mini as am
from armt_mini.training import loop
from armt_mini.training.checkpoints import read_checkpoint
from armt_mini.training.optimisers import optimisers_for

ARMT = am.ARMTConfig(
    vocab_size=19, d_model=8, d_mlp=12, n_layers=2, n_heads=2, segment_length=2,
    n_memory_tokens=1, d_memory=3,
)  # fmt: skip
SETTINGS = dict(lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """UVᵀ of the singular value decomposition, which Muon comes near to."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


def test_muon_turns_the_gradient_of_each_matrix_into_its_nearest_orthogonal_one():
    model = am.ARMT(ARMT)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=generator)
    for optimiser in optimisers_for(model, "muon", **SETTINGS):
        optimiser.step()
    n_stacks = 0
    for name, weight in model.named_parameters():
        moved = (before[name] * (1 - 0.1 * 0.5) - weight.detach()) / 0.1  # less what decays
        if weight.ndim < 3 or weight.shape[2] == 1:  # AdamW's first step: the sign of each entry
            torch.testing.assert_close(moved, weight.grad.sign(), atol=1e-3, rtol=0)
            continue
        n_stacks += 1
        for ours, gradient in zip(moved, weight.grad, strict=True):
            ours = ours / (0.2 * math.sqrt(max(gradient.shape)))
            assert torch.linalg.svdvals(ours).sub(1).abs().max() < 0.5, "five steps of Newton's"
            cosine = (ours * orthogonal(gradient)).sum() / ours.norm() / orthogonal(gradient).norm()
            assert cosine > 0.97
    assert n_stacks >= 6


def test_a_run_with_muon_goes_on_where_it_was_stopped(tmp_path):
    config, whole = recipe(optimiser="muon", checkpoint_every=1), am.ARMT(ARMT)
    history = run(whole, config=config)
    assert history != run(am.ARMT(ARMT)), "it is not AdamW"

    def stop(done):
        if done == 9:
            raise RuntimeError

    file = tmp_path / "stopped"
    with pytest.raises(RuntimeError):
        loop.train(am.ARMT(ARMT), TASK, config, checkpoint=file, progress=False, after_step=stop)
    names = read_checkpoint(file).tensors
    assert any(name.endswith(".momentum_buffer") for name in names)
    model = am.ARMT(ARMT, seed=1)
    assert run(model, config=config, checkpoint=file) == history
    for ours, theirs in zip(model.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any("optimiser" in name for name in read_checkpoint(file).tensors)


def test_every_weight_has_one_optimiser_and_one_without_a_gradient_stays_as_it_is():
    model = am.ARMT(ARMT)
    adamw, muon = optimisers_for(model, "muon", **SETTINGS)
    counts = [sum(w.numel() for w in some.param_groups[0]["params"]) for some in (adamw, muon)]
    assert sum(counts) == sum(weight.numel() for weight in model.parameters())
    skipped, before = model.layers["mlp_in_weight"], model.layers["mlp_in_weight"].clone()
    for weight in model.parameters():
        weight.grad = None if weight is skipped else torch.ones_like(weight)
    other = model.layers["mlp_out_weight"].clone()
    muon.step()
    assert torch.equal(skipped, before)
    assert not torch.equal(model.layers["mlp_out_weight"], other)


def test_muon_asks_for_stacked_layers_and_a_known_name():
    with pytest.raises(ValueError, match=r"^optimiser: muon needs the stacked layers of ARMT"):
        run(small(), config=recipe(optimiser="muon"))
    with pytest.raises(ValueError, match=r"^optimiser: expected one of adamw, muon; got 'sgd'"):
        recipe(optimiser="sgd")
