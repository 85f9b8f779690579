"""How fast a text is read: ARMT in each of its orders, full attention on the same block, Mamba.

Every system takes all tokens through all layers and computes logits for the last segment only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from armt_mini.armt import ARMT
from armt_mini.baselines.mamba import library
from armt_mini.checks import check_at_least, check_one_of
from armt_mini.configuration import ARMTConfig
from armt_mini.device import wait_for
from armt_mini.training.streaming import Stream
from armt_mini.transformer_block import transformer_block

SIZES = {
    "pocket": ARMTConfig(
        vocab_size=256, d_model=128, n_layers=4, n_heads=4, segment_length=1024,
        n_memory_tokens=10, d_memory=32, value_std=0.02,
    ),
    "gpt2": ARMTConfig(
        vocab_size=50257, d_model=768, n_layers=12, n_heads=12, segment_length=512,
        n_memory_tokens=10, d_memory=64, value_std=0.02,
    ),
}  # fmt: skip
DEFAULT_SIZES = {"cuda": tuple(SIZES), "cpu": ("pocket",)}
DEFAULT_TOKENS = {
    "cuda": (4_096, 16_384, 32_768, 131_072, 524_288, 1_048_576),
    "cpu": (1_024, 2_048, 4_096),
}
SYSTEMS = ("sequential", "diagonal", "compiled", "captured", "attention", "mamba")
BLOCK = 16  # segments that a stream is given at once
LONG = 10.0  # seconds: a longer run is timed once, a shorter one several times
REPEATS = 5
NO_KERNELS = "without its fast kernels"  # a remark about Mamba
MAMBA_LIMIT = 32_768  # tokens, without those: they go through it one by one

Reader = Callable[..., Tensor]  # reads so many tokens, and returns logits


def benchmark(
    size: str,
    tokens: Sequence[int],
    systems: Sequence[str],
    device: torch.device,
    tell: Callable[[dict[str, Any]], Any] = lambda found: None,
) -> dict[str, Any]:
    """Time each system at each number of tokens, in bfloat16 on CUDA and in float32 elsewhere.

    Returns the rows, the rate of a large matrix product on this device (multiply-adds count as two
    operations a second), and for each system the seconds of its very first call, in which it may
    compile, and the exponent p of time ~ tokensᵖ. tell: called with what is there so far after each
    new row. Raises ValueError for a name that is not known and for fewer tokens than a segment.
    """
    check_one_of("size", size, tuple(SIZES))
    for system in systems:
        check_one_of("systems", system, SYSTEMS)
    check_at_least(SIZES[size].segment_length, tokens=min(tokens))
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    rate, rows, first_calls = matrix_rate(device, dtype), [], {}
    found = {
        "size": size,
        "dtype": str(dtype).removeprefix("torch."),
        "matrix_rate": rate,
        "first_call_seconds": first_calls,
        "rows": rows,
    }
    for system in systems:
        try:
            read, per_token, note = reader(system, SIZES[size], device, dtype)
        except (ImportError, ValueError) as error:
            rows.append({"system": system, "note": f"not timed: {error}"})
            tell(found)
            continue
        timed = [n for n in tokens if n <= MAMBA_LIMIT or NO_KERNELS not in note]
        if timed:
            first_calls[system], _ = seconds(read, min(timed), device)
        for n_tokens in sorted(tokens):
            row = {"system": system, "tokens": n_tokens, "note": note}
            if n_tokens not in timed:
                row["note"] = f"not timed above {MAMBA_LIMIT} tokens {NO_KERNELS}"
            else:
                try:
                    row |= measure(read, n_tokens, device)
                except torch.OutOfMemoryError:
                    row["note"] = f"not timed: out of memory. {note}".rstrip()
            if "seconds" in row:
                row["tokens_per_s"] = n_tokens / row["seconds"]
                if per_token is not None:
                    row["share_of_matrix_rate"] = row["tokens_per_s"] * per_token(n_tokens) / rate
            rows.append(row)
            tell(found)
        del read
    return found | {"exponents": {system: exponent(rows, system) for system in systems}}


def reader(
    system: str, config: ARMTConfig, device: torch.device, dtype: torch.dtype
) -> tuple[Reader, Callable[[int], float] | None, str]:
    """What reads, how many operations a token costs it (None: not counted), and a remark."""
    if system == "mamba":
        read, note = mamba_reader(config, device, dtype)
        return read, None, note
    model = ARMT(config).to(device, dtype).requires_grad_(False)
    if system == "attention":
        compiled = torch.compile(transformer_block, dynamic=True) if on_cuda(device) else None
        block, note = compiled or transformer_block, "compiled" if compiled else ""
        return attention_reader(model, block), lambda n: operations(config, n, None), note
    if system in ("compiled", "captured") and not on_cuda(device):
        raise ValueError(f"needs an NVIDIA GPU, and this runs on {device.type}")

    def read(n_tokens: int) -> Tensor:
        stream = Stream(model, schedule=system)
        stream.read(blocks(n_tokens, config))
        return stream.finish().logits

    return read, lambda n: operations(config, config.segment_length, config), ""


def blocks(n_tokens: int, config: ARMTConfig) -> Iterator[Tensor]:
    """So many tokens in blocks of BLOCK segments, one block again and again."""
    size = BLOCK * config.segment_length
    block = draw(min(size, n_tokens), config)
    for start in range(0, n_tokens, size):
        yield block[:, : n_tokens - start]


def draw(n_tokens: int, config: ARMTConfig) -> Tensor:
    """Tokens of a text that is the same every time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(config.vocab_size, (1, n_tokens), generator=generator)


def attention_reader(model: ARMT, block: Callable[..., Tensor]) -> Reader:
    """The layers of the model over the whole text at once, without memory.

    There are no more positions than a segment has, so they are repeated; the cost is the same.
    """
    length, layers = model.config.segment_length, model.unstacked()

    @torch.no_grad()
    def read(n_tokens: int) -> Tensor:
        tokens = draw(n_tokens, model.config).to(model.token_embedding.device)
        positions = torch.arange(n_tokens, device=tokens.device) % length
        hidden = model.token_embedding[tokens] + model.position_embedding[positions]
        for weights in layers:
            hidden = block(weights, hidden, model.config.n_heads)
        return model.logits(hidden[:, -length:])

    return read


def mamba_reader(
    config: ARMTConfig, device: torch.device, dtype: torch.dtype
) -> tuple[Reader, str]:
    """Mamba from `transformers`: as wide, and with two layers for one, about as large."""
    transformers = library()
    sizes = {"vocab_size": config.vocab_size, "hidden_size": config.d_model}
    layers = 2 * config.n_layers
    mamba = transformers.MambaForCausalLM(
        transformers.MambaConfig(**sizes, num_hidden_layers=layers)
    )
    mamba = mamba.to(device, dtype).eval()

    @torch.no_grad()
    def read(n_tokens: int) -> Tensor:
        tokens = draw(n_tokens, config).to(device)
        return mamba(tokens, logits_to_keep=config.segment_length, use_cache=False).logits

    n_weights = sum(weight.numel() for weight in mamba.parameters())
    has_kernels = transformers.utils.import_utils.is_mamba_ssm_available()
    kernels = "fast kernels" if has_kernels else NO_KERNELS
    return read, f"{n_weights / 1e6:.1f}M weights, {kernels}"


HEADING = (
    f"{'system':>10}  {'tokens':>9}  {'tokens/s':>11}  {'seconds':>8}  {'fastest':>8}  "
    f"{'slowest':>8}  {'matrix rate':>11}  {'peak MiB':>8}"
)


def in_words(row: dict[str, Any]) -> str:
    """A row of the table under HEADING."""
    line = f"{row['system']:>10}  {row.get('tokens', ''):>9}"
    if "seconds" in row:
        times = "  ".join(f"{row[name]:8.3f}" for name in ("seconds", "fastest", "slowest"))
        share, peak = row.get("share_of_matrix_rate"), row["peak_bytes"]
        line += f"  {row['tokens_per_s']:11,.0f}  {times}"
        line += f"  {share:11.1%}" if share is not None else f"  {'':11}"
        line += f"  {peak / 2**20:8,.0f}" if peak is not None else f"  {'':8}"
    return f"{line}  {row['note']}".rstrip()


def measure(read: Reader, n_tokens: int, device: torch.device) -> dict[str, Any]:
    """Seconds that a reading takes (the median, after a first one), and the most memory in it.

    A first reading of more than LONG seconds is the only one.
    """
    if on_cuda(device):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    first, logits = seconds(read, n_tokens, device)
    if not logits.isfinite().all():
        raise FloatingPointError(f"logits: expected finite numbers after {n_tokens} tokens.")
    repeats = 0 if first > LONG else REPEATS
    times = [seconds(read, n_tokens, device)[0] for _ in range(repeats)] or [first]
    peak = torch.cuda.max_memory_allocated(device) if on_cuda(device) else None
    return {
        "seconds": statistics.median(times),
        "fastest": min(times),
        "slowest": max(times),
        "timings": len(times),
        "peak_bytes": peak,
    }


def seconds(read: Reader, n_tokens: int, device: torch.device) -> tuple[float, Tensor]:
    """The time of one reading: on CUDA between two events on the device, else on the clock.

    And what the reading returned.
    """
    if not on_cuda(device):
        start = time.perf_counter()
        logits = read(n_tokens)
        wait_for(device)
        return time.perf_counter() - start, logits
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    logits = read(n_tokens)
    end.record()
    torch.cuda.synchronize(device)
    return begin.elapsed_time(end) / 1000, logits


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second in a large product of two random matrices: the device's own limit."""
    n = 8192 if on_cuda(device) else 1024
    one, other = torch.randn(2, n, n, device=device, dtype=dtype)
    times = [seconds(lambda _: one @ other, 0, device)[0] for _ in range(10)]
    return 2 * n**3 / statistics.median(times[3:])


def operations(config: ARMTConfig, context: int, memory: ARMTConfig | None) -> float:
    """Operations a token costs: matrix products only, two for each multiply-add.

    context: tokens in reach of attention, half of which a token sees in the mean. memory: whether
    the matrices are read and written, by memory tokens that are computed as well.
    """
    d, d_mlp = config.d_model, int(config.d_mlp or 0)
    more = config.n_memory_tokens if memory else 0
    position = 2 * (4 * d * d + 2 * d * d_mlp) + 2 * d * (context + more)
    if memory is None:
        return config.n_layers * position
    position += 2 * d * config.d_memory + 2 * config.d_key * d
    write = 2 * d * (config.d_memory + d + 1) + 4 * config.d_key * d
    segment = (context + more) * position + more * write
    return config.n_layers * segment / context


def exponent(rows: Sequence[dict[str, Any]], system: str) -> float | None:
    """p of time ~ tokensᵖ, by least squares on logarithms; None for fewer than two lengths."""
    timed = [row for row in rows if row["system"] == system and "seconds" in row]
    if len(timed) < 2:
        return None
    x, y = (np.log([row[name] for row in timed]) for name in ("tokens", "seconds"))
    return float(np.polyfit(x, y, 1)[0])


def agreement(device: torch.device) -> dict[str, float]:
    """How far the orders are from each other in float64: the largest relative differences.

    A small model with a short last segment and states handed in: logits, states and gradients. On
    the CPU where the device has no float64.
    """
    device = torch.device("cpu") if device.type == "mps" else device
    bounded = {"unit_features": True, "memory_norm": True, "eps": 1e-3, "value_std": 0.1}
    scales = {"embedding_std": 0.5, "attention_std": 0.25, "n_memory_tokens": 2}
    sizes = {"vocab_size": 23, "d_model": 16, "n_heads": 2, "segment_length": 5, "d_memory": 4}
    config = replace(SIZES["pocket"], **sizes, n_positions=5, d_mlp=64, **scales, **bounded)
    model, tokens = ARMT(config).to(device).double(), draw(43, config).to(device)
    found = {}
    for schedule in ("sequential", "diagonal", *(["compiled"] if on_cuda(device) else [])):
        out = model(tokens, model(tokens[:, :10], schedule=schedule).states, schedule=schedule)
        loss = out.logits.square().mean() + sum(p.square().mean() for p in chain(*out.states))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        found[schedule] = [out.logits, *chain(*out.states)], list(gradients)
    values, gradients = found.pop("sequential")
    differences = {}
    for schedule, (other_values, other_gradients) in found.items():
        differences[f"{schedule}_values"] = difference(other_values, values)
        differences[f"{schedule}_gradients"] = difference(other_gradients, gradients)
    if on_cuda(device):
        with torch.no_grad():
            states = model(tokens[:, :10], schedule="captured").states
            out = model(tokens, states, schedule="captured")
        differences["captured_values"] = difference([out.logits, *chain(*out.states)], values)
    return differences


def difference(tensors: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference, relative to the largest entry of each tensor."""
    return max(
        float((one - other).detach().abs().max() / other.detach().abs().max())
        for one, other in zip(tensors, expected, strict=True)
    )


def on_cuda(device: torch.device) -> bool:
    return device.type == "cuda"
