"""Mamba from any state: against the library's own forward, and against reading at once."""

import pytest
import torch

from armt_mini.baselines import mamba
from armt_mini.baselines.mamba import Mamba, MambaConfig

SIZES = dict(vocab_size=23, d_model=14, n_layers=3, d_state=5)


@pytest.fixture
def model(device, dtype) -> Mamba:
    made = Mamba(MambaConfig(**SIZES), seed=3).to(device, dtype)
    for weight in made.parameters():  # nothing is zero or one
        weight.data += 0.1 * torch.sin(torch.arange(weight.numel()) + 1.0).view_as(weight).to(
            weight
        )
    return made


@pytest.mark.dtypes("float32")
@pytest.mark.filterwarnings("ignore")  # the library recommends its kernels
def test_logits_and_gradients_are_those_of_the_library(model, draw_tokens, close, close_gradients):
    tokens = draw_tokens(2, 17)
    out, expected = model(tokens).logits, model.model(tokens, use_cache=False).logits
    assert expected.abs().max() > 0.1
    close(out, expected)
    found, theirs = (
        torch.autograd.grad(logits.square().mean(), list(model.parameters()))
        for logits in (out, expected)
    )
    close_gradients(found, theirs)


@pytest.mark.dtypes("float32")
def test_the_state_of_a_bfloat16_model_is_float32(model, draw_tokens):
    tokens = draw_tokens(2, 100)
    expected = model.memorise(tokens)
    low = model.bfloat16()
    for state, exact in zip(low.memorise(tokens), expected, strict=True):
        assert (state.recent.dtype, state.scanned.dtype) == (torch.bfloat16, torch.float32)
        assert (state.scanned - exact.scanned).norm() < 0.05 * exact.scanned.norm()
    assert low(tokens).logits.dtype == torch.bfloat16


def test_reading_in_pieces_is_reading_at_once(model, draw_tokens, close, monkeypatch):
    tokens = draw_tokens(2, 17)
    whole = model(tokens)
    for cut in (1, 2, 9):  # the convolution sees four tokens
        first = model(tokens[:, :cut])
        second = model(tokens[:, cut:], first.states)
        close(torch.cat([first.logits, second.logits], dim=1), whole.logits)
        close(second.states, whole.states)
    monkeypatch.setattr(mamba, "CHUNK", 3)
    close(model(tokens), whole)
    close(model.memorise(tokens), whole.states)


def test_each_question_is_asked_alone_after_the_states(model, draw_tokens, close):
    tokens, questions = draw_tokens(2, 9), draw_tokens(2, 3, 4)
    states = model.memorise(tokens)
    asked = model.ask(questions, states)
    for number in range(3):
        close(asked[:, number], model(questions[:, number], states).logits)
    close(model(questions[:, 0], states), model(questions[:, 0], model.memorise(tokens)))


def test_gradients_flow_back_through_the_states(model, draw_tokens, close, close_gradients):
    tokens, weights = draw_tokens(2, 9), list(model.parameters())
    halves = model(tokens[:, 5:], model.memorise(tokens[:, :5])).logits
    found, expected = (
        torch.autograd.grad(logits.square().mean(), weights)
        for logits in (halves, model(tokens).logits[:, 5:])
    )
    close_gradients(found, expected)


def test_each_sample_alone_gives_what_its_batch_gives(model, draw_tokens, close):
    tokens = draw_tokens(3, 9)
    together = model(tokens).logits
    for number in range(3):
        close(model(tokens[number : number + 1]).logits[0], together[number])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.dtypes("float32")
def test_what_does_not_fit_is_an_error_that_names_it(model, draw_tokens):
    tokens = draw_tokens(2, 9)
    with pytest.raises(ValueError, match=r"^tokens: expected 0 to 22, got"):
        model(tokens + 23)
    with pytest.raises(ValueError, match=r"^questions: expected shape"):
        model.ask(tokens, model.empty_states(2))
    with pytest.raises(ValueError, match=r"^states\[0\]\.recent: expected shape \(2, 28, 3\)"):
        model(tokens, model.empty_states(1))
    with pytest.raises(ValueError, match=r"^d_state: expected at least 1, got 0"):
        MambaConfig(**(SIZES | {"d_state": 0}))
    with pytest.raises(TypeError, match=r"^config: expected a MambaConfig, got dict"):
        Mamba(SIZES)  # pyright: ignore[reportArgumentType]


def test_the_seed_is_that_of_the_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (Mamba(MambaConfig(**SIZES), seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(
        one["model.backbone.embeddings.weight"], other["model.backbone.embeddings.weight"]
    )


def test_without_the_library_an_error_says_what_to_install(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(mamba, "import_module", missing)
    with pytest.raises(ImportError, match="transformers is not installed; pip install"):
        Mamba(MambaConfig(**SIZES))
