"""Reading a text of any length in constant memory: block by block, with a halt anywhere."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from armt_mini.checks import check_at_least, check_count, check_one_of, check_tokens, check_type
from armt_mini.memory_state import MemoryState
from armt_mini.segment_recurrence import Output, SegmentRecurrence
from armt_mini.training.checkpoints import describe_model, read_checkpoint, write_tensors
from armt_mini.training.progress import interrupt_between_steps, progress_bar


class Stream:
    """A text that a model is reading: its states, and the tokens of an unfinished segment.

    Whatever the sizes of the blocks, `read` and then `finish` give what one call of the model gives
    with all tokens at once, in the memory that one segment takes.

    batch: how many texts are read side by side. schedule: see the model; "captured" is the fastest
    where it is possible. positions: of tokens, from 0; `found` then holds the logits after each of
    them, (batch, vocab_size), by position. Raises ValueError for numbers out of range or an unknown
    schedule. Nothing here computes gradients.
    """

    def __init__(
        self,
        model: Any,
        batch: int = 1,
        schedule: str = "sequential",
        positions: Sequence[int] = (),
    ) -> None:
        check_type("model", model, SegmentRecurrence)
        check_count(batch=batch)
        check_one_of("schedule", schedule, model.schedules)
        for position in positions:
            check_type("positions", position, Integral)
            check_at_least(0, positions=position)
        self.model, self.schedule = model, schedule
        self.positions = sorted({int(position) for position in positions})
        with torch.no_grad():
            self.states = model.empty_states(batch)
        self.found: dict[int, Tensor] = {}
        self.n_read = 0  # tokens that the states have seen
        like = model.token_embedding
        self.unfinished = torch.zeros(batch, 0, dtype=torch.long, device=like.device)
        self.last = like.new_zeros(batch, 0, like.shape[1])  # what left the last layer last

    @torch.no_grad()
    def read(
        self,
        blocks: Iterable[Tensor],
        is_end: bool = False,
        *,
        progress: bool = False,
        n_tokens: int | None = None,
    ) -> None:
        """Read blocks of tokens, (batch, any length) each, on any device.

        is_end: the text ends with them, also inside a segment; what is read later begins a new one.
        progress: show a bar; n_tokens: in all blocks, if known, for the time that is left. Ctrl-C,
        an error in the blocks and one that they raise end the reading between two segments: what
        came before is read, and the stream can go on or be saved. After any other error, and after
        a second Ctrl-C while the model computes, it is as it was before the call: give it the same
        blocks again. `n_read` and `unfinished` say which. Raises ValueError or TypeError for a
        block that does not fit.
        """
        config, found, failures = self.model.config, {}, []
        start, rest, last = self.n_read, self.unfinished, self.last
        batch, length, vocab_size = len(rest), config.segment_length, config.vocab_size
        n_segments = None if n_tokens is None else (rest.shape[1] + n_tokens) // length

        def segments() -> Iterator[Tensor]:
            nonlocal rest
            try:
                for block in chain([rest[:, :0]], blocks):  # an interruption may leave segments
                    check_type("block", block, Tensor)
                    if block.shape != (batch, 0):
                        check_tokens("block", block, (batch, "length"), vocab_size, block.device)
                        rest = torch.cat([rest, block.to(rest.device)], dim=1)
                    while rest.shape[1] >= length:
                        if is_interrupted():
                            return
                        show(n_segments, "")
                        segment, rest = rest[:, :length], rest[:, length:]
                        yield segment
                if is_end and rest.shape[1]:
                    segment, rest = rest, rest[:, :0]
                    yield segment
            except (Exception, KeyboardInterrupt) as error:  # raised again when all is finished
                failures.append(error)

        def use(hidden: Tensor) -> None:
            nonlocal start, last
            last, end = hidden, start + hidden.shape[1]
            first, after = (bisect_left(self.positions, place) for place in (start, end))
            for position in self.positions[first:after]:
                found[position] = self.model.logits(hidden[:, position - start])
            start = end

        with (
            interrupt_between_steps() as is_interrupted,
            progress_bar(progress, 0, n_segments, "reading", "tokens", length) as show,
        ):
            states = self.model.read_segments(segments(), self.states, use, self.schedule)
            # Copies: what they are cut from would be kept, or overwritten.
            self.n_read, self.unfinished, self.last = start, rest.clone(), last.clone()
            self.states, self.found = states, self.found | found
            if failures or is_interrupted():
                raise failures.pop() if failures else KeyboardInterrupt

    @torch.no_grad()
    def finish(self) -> Output:
        """Read the tokens of an unfinished segment, as the end of the text.

        Returns the logits of the last segment, (batch, its length, vocab_size), and the states
        after it. A stream that is read further begins a new segment, as another call would.
        """
        self.read([], is_end=True)
        return Output(self.model.logits(self.last), self.states)

    def save(self, path: str | Path) -> None:
        """Write all that is needed to go on to a safetensors file, all or nothing."""
        tensors = {"unfinished": self.unfinished, "last": self.last}
        tensors |= {f"found.{position}": logits for position, logits in self.found.items()}
        parts = chain(*(state if isinstance(state, tuple) else [state] for state in self.states))
        # Copies: the layers of an empty memory share one.
        tensors |= {f"states.{i}": part.clone() for i, part in enumerate(parts)}
        about = {"n_read": self.n_read, "positions": self.positions, **fingerprint(self.model)}
        write_tensors(path, tensors, about)

    @classmethod
    def load(cls, path: str | Path, model: Any, schedule: str = "sequential") -> Stream:
        """The stream in a file of `save`, to go on reading with the same model.

        Raises FileNotFoundError, and ValueError if the file holds no stream of this model.
        """
        tensors, about = read_checkpoint(path)
        for name, mine in fingerprint(model).items():
            if about.get(name) != mine:
                raise ValueError(
                    f"path: {path} holds no stream of this model, but of another {name}; use the "
                    f"model that it was read with."
                )
        stream = cls(model, len(tensors["unfinished"]), schedule, about["positions"])
        tensors = {name: tensor.to(stream.last.device) for name, tensor in tensors.items()}
        parts = (tensors[f"states.{i}"] for i in count())
        stream.states = [
            MemoryState(next(parts), next(parts)) if isinstance(state, tuple) else next(parts)
            for state in stream.states
        ]
        stream.unfinished, stream.last = tensors["unfinished"], tensors["last"]
        stream.n_read = about["n_read"]
        stream.found = {p: tensors[f"found.{p}"] for p in stream.positions if p < stream.n_read}
        return stream


def fingerprint(model: Any) -> dict[str, Any]:
    """What a stream depends on: system, configuration and weights."""
    digest = hashlib.sha256()
    for weight in model.state_dict().values():
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy())
    return {**describe_model(model), "weights": digest.hexdigest()}
