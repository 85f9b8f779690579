"""Reading a long text segment by segment: what ARMT, RMT and PRMT have in common.

A model cuts its tokens into segments and reads one after another. Between segments only `states`
pass; what they are and how a segment changes them is each model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from armt_mini.captured_schedule import read_in_diagonals
from armt_mini.checks import check_one_of, check_type, states_to_begin
from armt_mini.configuration import RecurrentConfig
from armt_mini.shapes import Float, Int
from armt_mini.transformer_block import Initial, block_weights

Layer = dict[str, Tensor]  # the weights of one layer, by name


class Output(NamedTuple):
    """logits: (batch, length, vocab_size). states: hand them to the next call to go on reading."""

    logits: Tensor
    states: list


class SegmentRecurrence(nn.Module):
    """Embeddings, stacked layers, head and the loop over segments.

    Each entry of `layers` holds one weight of all layers: (n_layers, ...). seed: of the initial
    weights; the same seed gives the same model everywhere.
    """

    config_type: type = RecurrentConfig
    schedules: tuple[str, ...] = ("sequential",)
    memory_places = 1  # how often the memory tokens stand in a segment

    def __init__(self, config: Any, seed: int = 0) -> None:
        super().__init__()
        check_type("config", config, self.config_type)
        self.config = config
        generator = torch.Generator().manual_seed(seed)

        def parameter(shape: tuple[int, ...], std: float, mean: float = 0.0) -> nn.Parameter:
            return nn.Parameter(mean + std * torch.randn(shape, generator=generator))

        vocab, width, std = config.vocab_size, config.d_model, config.embedding_std
        # Tokens take the first rows of the position table, memory tokens the last ones.
        n_rows = config.n_positions + self.memory_places * config.n_memory_tokens
        self.token_embedding = parameter((vocab, width), std)
        self.position_embedding = parameter((n_rows, width), std)
        self.memory_embedding = parameter((config.n_memory_tokens, width), std)
        weights = self.layer_weights(config).items()
        self.layers = nn.ParameterDict(
            {name: parameter((config.n_layers, *w.shape), w.std, w.mean) for name, w in weights}
        )
        self.final_norm = nn.LayerNorm(width)
        nn.init.constant_(self.final_norm.weight, config.final_gain)
        self.head = None if config.tied_head else parameter((vocab, width), 0.02)

    @staticmethod
    def layer_weights(config: Any) -> dict[str, Initial]:
        """The weights of one layer. This and the next two methods are each model's own."""
        return block_weights(config)

    def empty_states(self, batch: int) -> list:
        """What the first segment is handed."""
        raise NotImplementedError

    def read_segment(
        self, layers: list[Layer], tokens: Tensor, states: list
    ) -> tuple[Tensor, list]:
        """One segment through all layers: what leaves the last one, and the states after it."""
        raise NotImplementedError

    def read_segments(
        self,
        segments: Iterable[Tensor],
        states: list,
        use: Callable[[Tensor], Any],
        schedule: str = "sequential",
    ) -> list:
        """Read token segments, of which only the last may be short; the states after them.

        use: called with what leaves the last layer, segment by segment. Arguments are not checked.
        """
        if schedule != "sequential":
            return read_in_diagonals(self, segments, states, use, schedule)
        layers = self.unstacked()
        for segment in segments:
            hidden, states = self.read_segment(layers, segment, states)
            use(hidden)
        return states

    def forward(
        self,
        tokens: Int[Tensor, "batch length"],
        states: list | None = None,
        schedule: str = "sequential",
    ) -> Output:
        """Read tokens and predict the next one after each of them.

        tokens: any length; cut into segments of segment_length, the last may be shorter. states:
        what an earlier call returned, None for a fresh start. A call begins a new segment, so
        pieces that are cut at segment boundaries give what one call gives. schedule: the order in
        which segments and layers are visited: "sequential" or (ARMT) "diagonal", and on a GPU the
        diagonal one "compiled" or "captured"; see diagonal_schedule and captured_schedule.
        Raises ValueError or TypeError for arguments that do not fit, and changes nothing.
        """
        logits: list[Tensor] = []
        states = self.read(tokens, states, lambda h: logits.append(self.logits(h)), schedule)
        return Output(torch.cat(logits, dim=1), states)

    def memorise(
        self,
        tokens: Int[Tensor, "batch length"],
        states: list | None = None,
        schedule: str = "sequential",
    ) -> list:
        """Read tokens for the states alone, without logits. Arguments and errors as `forward`."""
        return self.read(tokens, states, lambda hidden: None, schedule)

    def read(
        self, tokens: Tensor, states: list | None, use: Callable[[Tensor], Any], schedule: str
    ) -> list:
        """Check what comes in, cut the tokens, and read the segments."""
        check_one_of("schedule", schedule, self.schedules)
        states = states_to_begin(self, "tokens", tokens, ("batch", "length"), states)
        segments = tokens.split(self.config.segment_length, dim=1)
        return self.read_segments(segments, states, use, schedule)

    def ask(
        self, questions: Int[Tensor, "batch questions length"], states: list
    ) -> Float[Tensor, "batch questions length vocab_size"]:
        """Logits of every question, each as if it were the one segment that follows the states.

        Raises ValueError or TypeError for questions or states that do not fit.
        """
        shape = ("batch", "questions", "length")
        states = states_to_begin(self, "questions", questions, shape, states)
        if questions.shape[2] > self.config.segment_length:
            raise ValueError(
                f"questions: expected at most segment_length {self.config.segment_length} tokens "
                f"each, got {questions.shape[2]}; read what is longer with `memorise` first."
            )
        return self.logits(self.read_questions(self.unstacked(), questions, states))

    def read_questions(self, layers: list[Layer], questions: Tensor, states: list) -> Tensor:
        """What leaves the last layer for each question: (batch, questions, length, d_model)."""
        copies = [state.repeat_interleave(questions.shape[1], dim=0) for state in states]
        hidden, _ = self.read_segment(layers, questions.flatten(0, 1), copies)
        return hidden.unflatten(0, questions.shape[:2])

    def unstacked(self) -> list[Layer]:
        """The weights layer by layer, as views of the stacked ones."""
        by_layer = zip(*(stacked.unbind() for stacked in self.layers.values()), strict=True)
        return [dict(zip(self.layers, weights, strict=True)) for weights in by_layer]

    def embed(self, tokens: Int[Tensor, "*rest length"]) -> Float[Tensor, "*rest length d_model"]:
        """Token and position embeddings; every segment counts positions from zero."""
        positions = self.position_embedding[: tokens.shape[-1]]
        return F.embedding(tokens, self.token_embedding) + positions

    def logits(self, hidden: Float[Tensor, "*rest d_model"]) -> Float[Tensor, "*rest vocab_size"]:
        """Scores of the next token, from what leaves the last layer."""
        head = self.token_embedding if self.head is None else self.head
        return self.final_norm(hidden) @ head.T
