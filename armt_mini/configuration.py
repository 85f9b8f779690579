"""What a model looks like: sizes and choices, checked once, never changed."""

from __future__ import annotations

from dataclasses import dataclass, fields

from armt_mini.checks import check_at_least, check_one_of
from armt_mini.feature_maps import FEATURE_MAPS, feature_size
from armt_mini.update_rules import RULES


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """A GPT-2 that reads a long text in segments. Raises ValueError where sizes do not fit.

    segment_length: tokens in a segment. n_memory_tokens: learned tokens that follow them.
    n_positions: rows of the position table for tokens (at least segment_length, its default).
    d_mlp: hidden size of the MLP (default 4·d_model). embedding_std: initial scale of token,
    position and memory embeddings. attention_std: of the maps into and out of attention; None is
    GPT-2's, tuned to its width: a narrow model learns sooner with 1/√d_model. tied_head: the
    output weights are the token embeddings.
    """

    vocab_size: int
    d_model: int
    n_layers: int
    n_heads: int
    segment_length: int
    n_memory_tokens: int
    n_positions: int | None = None
    d_mlp: int | None = None
    embedding_std: float = 0.02
    attention_std: float | None = None
    tied_head: bool = True

    def __post_init__(self) -> None:
        n_positions = self.segment_length if self.n_positions is None else self.n_positions
        d_mlp = 4 * self.d_model if self.d_mlp is None else self.d_mlp
        object.__setattr__(self, "n_positions", n_positions)
        object.__setattr__(self, "d_mlp", d_mlp)
        sizes = {f.name: getattr(self, f.name) for f in fields(self) if "int" in str(f.type)}
        for name, size in sizes.items():
            if not isinstance(size, int):
                raise TypeError(f"{name}: expected an int, got {size!r}.")
        check_at_least(1, **sizes)
        check_at_least(0, embedding_std=self.embedding_std, attention_std=self.attention_std or 0)
        if self.d_model % self.n_heads:
            raise ValueError(
                f"n_heads: expected a divisor of d_model {self.d_model}, got {self.n_heads}."
            )
        if n_positions < self.segment_length:
            raise ValueError(
                f"n_positions: expected at least segment_length {self.segment_length}, "
                f"got {n_positions}."
            )


@dataclass(frozen=True, kw_only=True)
class ARMTConfig(RecurrentConfig):
    """A `RecurrentConfig` with an associative memory in every layer. The defaults are the paper's.

    d_memory: size of keys and queries before the feature map. nu, feature_map: φ. rule: how to
    write ("gamma"; "delta" is γ off; "additive"). clip_gamma, detach_gamma, eps: see `write`.
    Away from the paper, for training from scratch: unit_features scales φ to length one;
    memory_norm puts a LayerNorm without parameters before the memory projections; value_std is
    the initial scale of W_V, which starts at zero in the released code.
    """

    d_memory: int
    nu: int = 3
    feature_map: str = "dpfp"
    rule: str = "gamma"
    clip_gamma: bool = True
    detach_gamma: bool = True
    eps: float = 1e-5
    unit_features: bool = False
    memory_norm: bool = False
    value_std: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("feature_map", self.feature_map, FEATURE_MAPS)
        check_one_of("rule", self.rule, RULES)
        check_at_least(0, eps=self.eps, value_std=self.value_std)
        if self.feature_map == "dpfp" and self.nu >= 2 * self.d_memory:
            raise ValueError(
                f"nu: expected less than 2·d_memory = {2 * self.d_memory}, got {self.nu}."
            )

    @property
    def d_key(self) -> int:
        """Size of a key after the feature map: rows of the association matrix."""
        return feature_size(self.feature_map, self.d_memory, self.nu)
