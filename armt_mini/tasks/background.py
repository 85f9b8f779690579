"""Natural text, in which a story can be hidden, as tokens.

A novel lies in data/texts: Moby Dick, chapters 1 to 100 for training, the rest for tests. A
byte-pair encoding was made from the first part and from the words of `babi`, which are one token
each.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from armt_mini.checks import check_one_of
from armt_mini.shapes import Int
from armt_mini.tasks.babi import words_of_stories

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLITS = ("train", "test")
VOCAB_SIZE = 4096
PADDING = 0  # a token that no text has
# In an installed package they lie inside it, in a checkout in its data folder.
PACKAGE = Path(__file__).parents[1]
TEXTS = PACKAGE / "texts" if (PACKAGE / "texts").is_dir() else PACKAGE.parent / "data" / "texts"
SENTENCE_ENDS = re.compile(r"[.!?][\"'”’)_]*(?=\s)")


class Background(NamedTuple):
    """Tokens of a text, and where its sentences begin (the first at 0)."""

    tokens: Int[Tensor, " length"]
    sentences: Int[Tensor, " sentences"]


@cache
def background(split: str) -> Background:
    """The shipped novel, its part for "train" or for "test". Raises ValueError for another."""
    return read_background(novel(split))


def novel(split: str) -> Path:
    """The file of one of SPLITS."""
    check_one_of("split", split, SPLITS)
    return TEXTS / f"moby-dick-{split}.txt"


def read_background(path: str | Path) -> Background:
    """A text file (UTF-8) as tokens. Raises ValueError for another one, or without a sentence."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"path: expected a text in UTF-8, got {path} ({error}).") from error
    encoded = tokenizer().encode(text)
    starts = torch.tensor([start for start, _ in encoded.offsets])
    ends = torch.tensor([0, *(match.end() for match in SENTENCE_ENDS.finditer(text))])
    sentences = torch.searchsorted(starts, ends).unique()
    sentences = sentences[sentences < len(starts)]  # nothing begins where the text ends
    if not len(sentences):
        raise ValueError(f"path: expected a text with at least one sentence, got {path}.")
    return Background(torch.tensor(encoded.ids), sentences)


@cache
def tokenizer() -> Tokenizer:
    """The shipped byte-pair encoding, of the `tokenizers` library: its `encode` and `decode`.

    Raises ImportError where the library is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(
            "the package tokenizers is not installed; pip install 'armt-mini[babilong]'."
        ) from error
    return Tokenizer.from_file(str(TEXTS / "tokenizer.json"))


@lru_cache(maxsize=2**16)  # stories repeat their sentences
def tokens_of(sentence: str) -> tuple[int, ...]:
    """A sentence (or a word) as it is encoded inside a text, after a space."""
    return tuple(tokenizer().encode(f" {sentence}").ids)


def train_tokenizer() -> Tokenizer:
    """The encoding anew: from the novel's part for training, and the words of the stories."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    encoding = Tokenizer(models.BPE())
    encoding.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoding.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<padding>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # As frequent as a common word of the novel: one token each.
    words = "".join(f" {word}" for word in words_of_stories()) * 500
    encoding.train_from_iterator([novel("train").read_text(encoding="utf-8"), words], trainer)
    return encoding


if __name__ == "__main__":
    train_tokenizer().save(str(TEXTS / "tokenizer.json"))
