"""Mamba: a recurrence without segments, whose state is faded and added to token by token (Gu 2023).

Weights, their initial values and their names are those of the `transformers` library, which is
asked for only here (`pip install armt-mini[baselines]`). Its own plain form reads a text from an
empty state, or one token from another state. Here a call can begin with any state, as in all other
models of this package, and gradients flow; from an empty state the logits are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armt_mini.checks import check_fields, check_type, states_to_begin
from armt_mini.segment_recurrence import Output
from armt_mini.shapes import Float, Int

CHUNK = 32  # tokens that are read at once: few enough that what a layer computes stays in a cache


@dataclass(frozen=True, kw_only=True)
class MambaConfig:
    """Sizes of a `Mamba`. Raises ValueError for any below one.

    d_state: numbers that each of the 2·d_model channels of a layer remembers. d_conv: tokens that
    its convolution sees, the present one included.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    d_state: int = 32
    d_conv: int = 4

    def __post_init__(self) -> None:
        check_fields(self)


class MambaState(NamedTuple):
    """What one layer remembers of a text.

    recent: the last inputs of its convolution, (batch, channels, d_conv − 1). scanned: what is
    faded and added to, (batch, channels, d_state).
    """

    recent: Float[Tensor, "batch channels d_recent"]
    scanned: Float[Tensor, "batch channels d_state"]


def library() -> Any:
    """The package `transformers`. Raises ImportError that says how to install it."""
    try:
        return import_module("transformers")
    except ImportError:
        raise ImportError(
            "the package transformers is not installed; pip install 'armt-mini[baselines]'."
        ) from None


class Mamba(nn.Module):
    """`model(tokens, states=None)` -> logits and one `MambaState` a layer. seed: of the weights."""

    def __init__(self, config: MambaConfig, seed: int = 0) -> None:
        super().__init__()
        check_type("config", config, MambaConfig)
        self.config = config
        transformers = library()
        sizes = transformers.MambaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.d_model,
            num_hidden_layers=config.n_layers,
            state_size=config.d_state,
            conv_kernel=config.d_conv,
            residual_in_fp32=False,  # weights are float32 already, or float64
            tie_word_embeddings=False,  # as in the other systems that are trained from scratch
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # the library draws from the global generator
            self.model: Any = transformers.MambaForCausalLM(sizes)

    def forward(self, tokens: Int[Tensor, "batch length"], states: list | None = None) -> Output:
        """Read tokens and predict the next one after each of them.

        tokens: any length. states: what an earlier call returned, None for a fresh start. Raises
        ValueError or TypeError for tokens or states that do not fit.
        """
        states = states_to_begin(self, "tokens", tokens, ("batch", "length"), states)
        logits = []
        for chunk in tokens.split(CHUNK, dim=1):
            hidden, states = self.read(chunk, states)
            logits.append(self.logits(hidden))
        return Output(torch.cat(logits, dim=1), states)

    def memorise(self, tokens: Int[Tensor, "batch length"], states: list | None = None) -> list:
        """Read tokens for the states alone. Arguments and errors as `forward`."""
        states = states_to_begin(self, "tokens", tokens, ("batch", "length"), states)
        for chunk in tokens.split(CHUNK, dim=1):
            _, states = self.read(chunk, states)
        return states

    def ask(
        self, questions: Int[Tensor, "batch questions length"], states: list
    ) -> Float[Tensor, "batch questions length vocab_size"]:
        """Logits of every question, each as if it alone followed the states.

        Raises ValueError or TypeError for questions or states that do not fit.
        """
        shape = ("batch", "questions", "length")
        states = states_to_begin(self, "questions", questions, shape, states)
        n_questions = questions.shape[1]
        copies = [
            MambaState(*(part.repeat_interleave(n_questions, dim=0) for part in state))
            for state in states
        ]
        hidden, _ = self.read(questions.flatten(0, 1), copies)
        return self.logits(hidden).unflatten(0, questions.shape[:2])

    def empty_states(self, batch: int) -> list[MambaState]:
        """What a fresh start begins with: zeros."""
        config, weight = self.config, self.model.backbone.embeddings.weight
        channels = self.model.backbone.layers[0].mixer.intermediate_size
        wide = torch.promote_types(weight.dtype, torch.float32)  # many small steps add up here
        recent = weight.new_zeros(batch, channels, config.d_conv - 1)
        scanned = weight.new_zeros(batch, channels, config.d_state, dtype=wide)
        return [MambaState(recent, scanned)] * config.n_layers

    def read(self, tokens: Tensor, states: list[MambaState]) -> tuple[Tensor, list[MambaState]]:
        """All layers: what leaves the last one, and the states after the last token."""
        backbone, new_states = self.model.backbone, []
        hidden = backbone.embeddings(tokens)
        for layer, state in zip(backbone.layers, states, strict=True):
            change, new_state = mix(layer.mixer, layer.norm(hidden), state)
            hidden = hidden + change
            new_states.append(new_state)
        return hidden, new_states

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of the next token, from what leaves the last layer."""
        return self.model.lm_head(self.model.backbone.norm_f(hidden))


def mix(
    mixer: Any, x: Float[Tensor, "batch length d_model"], state: MambaState
) -> tuple[Float[Tensor, "batch length d_model"], MambaState]:
    """One layer: h ← exp(Δ A) ⊙ h + (Δ u) ⊗ b and y = h c + D u, token by token (Mamba, alg. 2).

    u is what comes in, projected and convolved; Δ, b and c are computed from it; A and D are fixed.
    """
    inner, gate = mixer.in_proj(x).chunk(2, dim=-1)  # (batch, length, channels) each
    seen = torch.cat([state.recent, inner.mT], dim=2)
    convolution = mixer.conv1d
    u = F.silu(F.conv1d(seen, convolution.weight, convolution.bias, groups=seen.shape[1])).mT
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    rank, b, c = mixer.x_proj(u).split(sizes, dim=-1)
    delta = F.softplus(mixer.dt_proj(rank)).to(state.scanned.dtype)  # (batch, length, channels)
    rates = -mixer.A_log.to(delta.dtype).exp()  # A, (channels, d_state)
    kept = torch.exp(delta.unsqueeze(-1) * rates)  # (batch, length, channels, d_state)
    added = (delta * u).unsqueeze(-1) * b.unsqueeze(2)
    h, after_each = state.scanned, []
    for keep, add in zip(kept.unbind(1), added.unbind(1), strict=True):
        h = keep * h + add
        after_each.append(h)
    scanned = torch.einsum("blcs,bls->blc", torch.stack(after_each, dim=1), c.to(h.dtype))
    y = scanned.to(u.dtype) + mixer.D * u
    recent = seen[:, :, seen.shape[2] - state.recent.shape[2] :]
    return mixer.out_proj(y * F.silu(gate)), MambaState(recent, h)
