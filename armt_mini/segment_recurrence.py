"""Reading a long text segment by segment: what ARMT, RMT and PRMT have in common.

A model cuts its tokens into segments and reads one after another. Between segments only `states`
pass; what they are and how a segment changes them is each model's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from armt_mini.checks import check_like, check_tokens
from armt_mini.configuration import RecurrentConfig
from armt_mini.transformer_block import Initial, block_weights

if TYPE_CHECKING:
    from jaxtyping import Float, Int

ConfigT = TypeVar("ConfigT", bound=RecurrentConfig)


class Output(NamedTuple):
    """logits: (batch, length, vocab_size). states: hand them to the next call to go on reading."""

    logits: Tensor
    states: list


class SegmentRecurrence(nn.Module, Generic[ConfigT]):
    """Embeddings, stacked layers, head and the loop over segments.

    Each entry of `layers` holds one weight of all layers: (n_layers, ...). seed: of the initial
    weights; the same seed gives the same model everywhere.
    """

    memory_places = 1  # how often the memory tokens stand in a segment

    def __init__(self, config: ConfigT, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)

        def parameter(initial: Initial) -> nn.Parameter:
            noise = torch.randn(initial.shape, generator=generator)
            return nn.Parameter(initial.mean + initial.std * noise)

        d_model, std = config.d_model, config.embedding_std
        # Tokens take the first rows of the position table, memory tokens the last ones.
        n_rows = (config.n_positions or 0) + self.memory_places * config.n_memory_tokens
        self.token_embedding = parameter(Initial((config.vocab_size, d_model), std))
        self.position_embedding = parameter(Initial((n_rows, d_model), std))
        self.memory_embedding = parameter(Initial((config.n_memory_tokens, d_model), std))
        stacked = {
            name: initial._replace(shape=(config.n_layers, *initial.shape))
            for name, initial in self.layer_weights(config).items()
        }
        self.layers = nn.ParameterDict({name: parameter(w) for name, w in stacked.items()})
        self.final_norm = nn.LayerNorm(d_model)
        self.head = (
            None if config.tied_head else parameter(Initial((config.vocab_size, d_model), 0.02))
        )

    # What each model says for itself

    @staticmethod
    def layer_weights(config: ConfigT) -> dict[str, Initial]:
        """The weights of one layer."""
        return block_weights(config)

    def empty_states(self, batch: int) -> list:
        """What the first segment is handed."""
        raise NotImplementedError

    def read_segment(
        self, layers: list[dict[str, Tensor]], tokens: Int[Tensor, "batch length"], states: list
    ) -> tuple[Float[Tensor, "batch length d_model"], list]:
        """One segment through all layers: what leaves the last one, and the states after it."""
        raise NotImplementedError

    # What they share

    def forward(self, tokens: Int[Tensor, "batch length"], states: list | None = None) -> Output:
        """Read tokens and predict the next one after each of them.

        tokens: any length; cut into segments of segment_length, the last may be shorter. states:
        what an earlier call returned, None for a fresh start. A call begins a new segment, so
        pieces that are cut at segment boundaries give what one call gives.
        Raises ValueError or TypeError for tokens or states that do not fit, and changes nothing.
        """
        layers, states = self.begin(tokens, states)
        logits = []
        for segment in tokens.split(self.config.segment_length, dim=1):
            hidden, states = self.read_segment(layers, segment, states)
            logits.append(self.logits(hidden))
        return Output(torch.cat(logits, dim=1), states)

    def memorise(self, tokens: Int[Tensor, "batch length"], states: list | None = None) -> list:
        """Read tokens for the states alone, without logits. Arguments and errors as `forward`."""
        layers, states = self.begin(tokens, states)
        for segment in tokens.split(self.config.segment_length, dim=1):
            _, states = self.read_segment(layers, segment, states)
        return states

    def ask(
        self, questions: Int[Tensor, "batch questions length"], states: list
    ) -> Float[Tensor, "batch questions length vocab_size"]:
        """Logits of every question, each as if it were the one segment that follows the states.

        Raises ValueError or TypeError for questions or states that do not fit.
        """
        raise NotImplementedError

    def begin(self, tokens: Tensor, states: list | None) -> tuple[list[dict[str, Tensor]], list]:
        """Check what comes in. The weights layer by layer, and the states to begin with."""
        check_tokens(tokens, self.config.vocab_size, self.device, ("batch", "length"))
        states = self.empty_states(len(tokens)) if states is None else states
        check_like("states", states, self.empty_states(1), len(tokens))
        return self.unstacked(), states

    def check_questions(self, questions: Tensor, states: list) -> None:
        """Raise ValueError or TypeError unless `ask` can take these."""
        shape = ("batch", "questions", "length")
        check_tokens(questions, self.config.vocab_size, self.device, shape, "questions")
        if questions.shape[2] > self.config.segment_length:
            raise ValueError(
                f"questions: expected at most segment_length {self.config.segment_length} tokens "
                f"each, got {questions.shape[2]}; read what is longer with `memorise` first."
            )
        check_like("states", states, self.empty_states(1), len(questions))

    def unstacked(self) -> list[dict[str, Tensor]]:
        """The weights layer by layer, as views of the stacked ones."""
        by_layer = zip(*(stacked.unbind() for stacked in self.layers.values()), strict=True)
        return [dict(zip(self.layers, weights, strict=True)) for weights in by_layer]

    def embed(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length d_model"]:
        """Token and position embeddings; every segment counts positions from zero."""
        return self.token_embedding[tokens] + self.position_embedding[: tokens.shape[1]]

    def logits(self, hidden: Float[Tensor, "*rest d_model"]) -> Float[Tensor, "*rest vocab_size"]:
        head = self.token_embedding if self.head is None else self.head
        return self.final_norm(hidden) @ head.T

    @property
    def device(self) -> torch.device:
        return self.token_embedding.device
