"""Checkpoints: weights, what they belong to and where they come from, in one safetensors file."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from armt_mini.armt import ARMT
from armt_mini.baselines.layer_alone import LayerAlone, LayerAloneConfig
from armt_mini.baselines.mamba import Mamba, MambaConfig
from armt_mini.baselines.prmt import PRMT
from armt_mini.baselines.rmt import RMT
from armt_mini.configuration import ARMTConfig, RecurrentConfig
from armt_mini.device import describe_device

SYSTEMS: dict[str, tuple[type, type]] = {
    "armt": (ARMT, ARMTConfig),
    "rmt": (RMT, RecurrentConfig),
    "prmt": (PRMT, RecurrentConfig),
    "mamba": (Mamba, MambaConfig),
    "layer-alone": (LayerAlone, LayerAloneConfig),
}
WEIGHTS = "model."  # the weights' names in a file begin so; what a training run adds does not
PACKAGE = Path(__file__).parents[1]


class Checkpoint(NamedTuple):
    """The content of a file: tensors by name, and a dictionary about them."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    about: Mapping[str, Any] | None = None,
    extra_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model to a file, all or nothing: an interruption leaves the old file whole.

    Only one process may write to a file.

    about: anything JSON can hold; system, configuration and provenance are added to it.
    extra_tensors: stored beside the weights; their names must not begin with "model.".
    Raises ValueError for such a name, and for a model that is none of SYSTEMS.
    """
    device = next(model.parameters()).device
    about = {**(about or {}), **describe_model(model), "provenance": provenance(device)}
    extra_tensors = extra_tensors or {}
    if clash := [name for name in extra_tensors if name.startswith(WEIGHTS)]:
        raise ValueError(f"extra_tensors: expected no name in {WEIGHTS}…, got {clash[0]!r}.")
    weights = {WEIGHTS + name: tensor for name, tensor in model.state_dict().items()}
    write_tensors(path, {**weights, **extra_tensors}, about)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]
) -> None:
    """Write a file that `read_checkpoint` reads, all or nothing; `save_checkpoint` says more."""
    from safetensors.torch import save

    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(contiguous, {"about": json.dumps(about)}))


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, all or nothing, and the folders above it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a power cut could leave the new name without its content
    unfinished.replace(path)  # at once: whoever looks finds the old file or the new one


def read_checkpoint(path: str | Path) -> Checkpoint:
    """The content of a file of `save_checkpoint` or `write_tensors`, on the CPU.

    Raises FileNotFoundError, and ValueError for a file that is broken or of something else.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"path: expected a checkpoint, found no file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            # Copies: what the file gives are views of it, which change or break when it does.
            return Checkpoint({name: file.get_tensor(name).clone() for name in file.keys()}, about)
    except SafetensorError as error:
        raise ValueError(f"path: {path} is broken or not a safetensors file ({error}).") from error
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"path: {path} was not written by armt_mini (no 'about' in it).") from None


def halve_checkpoint(path: str | Path, out: str | Path) -> None:
    """Write a checkpoint once more, its weights as float16: about half the size.

    So is what was measured in each step; all other tensors become float32. What it says of itself
    and where it comes from stays as it is. Raises FileNotFoundError, and ValueError for a file that
    is broken or of something else.
    """
    tensors, about = read_checkpoint(path)
    halved = WEIGHTS, *(f"history.{name}" for name in ("loss", "accuracy", "seconds"))
    halves = {n: t.half() if n.startswith(halved) else t.float() for n, t in tensors.items()}
    write_tensors(out, halves, about)


def load_model(path: str | Path) -> nn.Module:
    """The model in a file of `save_checkpoint`, on the CPU, in the precision of its weights.

    But float16, in which files are small, becomes float32. Raises FileNotFoundError, and ValueError
    for a file that holds no model of this version.
    """
    tensors, about = read_checkpoint(path)
    weights = {
        name.removeprefix(WEIGHTS): tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in tensors.items()
        if name.startswith(WEIGHTS)
    }
    try:
        model_type, _ = SYSTEMS[about["system"]]
        model = model_type(config_of(about))
        model.load_state_dict(weights, assign=True)  # assign: keeps the file's precision
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())  # PyTorch's message has several lines
        raise ValueError(
            f"path: {path} holds no model of this version of armt_mini ({what})."
        ) from error
    return model


def config_of(about: Mapping[str, Any]) -> Any:
    """The configuration that a file speaks of; a setting that came later has its default.

    Raises KeyError, TypeError or ValueError if this version has no such system or setting.
    """
    _, config_type = SYSTEMS[about["system"]]
    return config_type(**about["config"])


def shipped_checkpoints() -> dict[str, Path]:
    """Name and file of every checkpoint that comes with the package."""
    # In an installed package they lie inside it, in a checkout in its data folder.
    for folder in (PACKAGE / "checkpoints", PACKAGE.parent / "data" / "checkpoints"):
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}
    return {}


def from_pretrained(name: str) -> Any:
    """A shipped model by name; `python -m armt_mini info` lists them.

    Where it comes from: `read_checkpoint(shipped_checkpoints()[name]).about`.
    Raises ValueError for a name that is not shipped.
    """
    files = shipped_checkpoints()
    if name not in files:
        raise ValueError(f"name: expected one of {', '.join(files) or '(none)'}; got {name!r}.")
    return load_model(files[name])


def describe_model(model: nn.Module) -> dict[str, Any]:
    """System and configuration: what a file says of its model, and what a resumed run compares."""
    for system, (kind, _) in SYSTEMS.items():
        if type(model) is kind:
            return {"system": system, "config": asdict(model.config)}  # pyright: ignore[reportArgumentType]
    raise ValueError(
        f"model: expected one of {', '.join(SYSTEMS)}, got {type(model).__name__}; a new kind of "
        f"model needs an entry in SYSTEMS."
    )


def provenance(device: torch.device | str = "cpu") -> dict[str, str | None]:
    """What produced a result on this device: versions, date, command and, in a checkout, commit."""
    from armt_mini import __version__

    program = Path(sys.argv[0])
    command = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return {
        "armt_mini": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": describe_device(device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([command, *map(shlex.quote, sys.argv[1:])]),
        "commit": commit(),
    }


@cache  # of the code as it was when first asked
def commit() -> str | None:
    """The commit of this checkout; None outside of one.

    "-dirty" is added if files differ from it, or if the package has files that are not in it.
    """
    if not (PACKAGE.parent / ".git").exists() or shutil.which("git") is None:
        return None  # installed, maybe inside a repository that is not ours

    def git(*command: str) -> str:
        words = ["git", "-C", str(PACKAGE), *command]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()

    name = git("describe", "--always", "--dirty")
    is_new = name and not name.endswith("-dirty") and git("status", "--porcelain", "--", ".")
    return (f"{name}-dirty" if is_new else name) or None
