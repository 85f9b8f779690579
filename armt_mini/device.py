"""One place that picks the device to run on, says which, and what a run costs there."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from armt_mini.checks import check_one_of

DEVICES = ("cuda", "mps", "cpu")  # in the order in which "auto" tries them


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`: "cuda", "mps", "cpu", or "auto" for the first of these present.

    Prints what it picked. Raises ValueError for another name, and for a device that this machine
    or this build of PyTorch does not have.
    """
    check_one_of("name", name, ("auto", *DEVICES))
    present = present_devices()
    if name == "auto":
        name = next(iter(present))
    elif name not in present:
        raise ValueError(
            f"name: {name!r} is not available here with PyTorch {torch.__version__}; "
            f"use 'cpu', or install a build of PyTorch for this device."
        )
    device = torch.device(name)
    print(f"Running on {name} ({describe_device(device)}).")
    return device


def present_devices() -> list[str]:
    """The names of the devices that PyTorch can use here, the fastest first."""
    is_present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    return [name for name in DEVICES if is_present[name]]


def describe_device(device: torch.device | str) -> str:
    """What hides behind the name: "NVIDIA H100", "Apple GPU" or "CPU, 2 threads"."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return "Apple GPU" if kind == "mps" else f"CPU, {threads} thread{'s' if threads > 1 else ''}"


@contextmanager
def measured(device: torch.device) -> Iterator[dict[str, float]]:
    """What the work inside has cost when it has ended: "seconds".

    On an NVIDIA GPU with the package nvidia-ml-py also "joules", of all that the GPU did meanwhile.
    """
    cost: dict[str, float] = {}
    before, start = joules(device), time.perf_counter()
    yield cost
    wait_for(device)
    cost["seconds"] = time.perf_counter() - start
    if before is not None and (after := joules(device)) is not None:
        cost["joules"] = after - before


def wait_for(device: torch.device) -> None:
    """Go on when the device has done all that it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def joules(device: torch.device) -> float | None:
    """The energy that a GPU has used since its driver was loaded; None where nobody counts it."""
    if device.type != "cuda":
        return None
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByUUID(name)) / 1000
    except nvml.NVMLError:
        return None
