"""Devices and memory: what is asked for, what is there."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from rsunfold.errors import DeviceError, RsunfoldError, UsageError, decimal_hint
from rsunfold.infer.cgroups import left_in_groups
from rsunfold.progress import from_listener

if TYPE_CHECKING:
    import torch

LATER_BYTES = 2**27
"""Bytes that come with the first input and are none of it: one block of a file, libraries loaded when needed."""
GPU_SHARE = 0.8
"""Share of a GPU's free memory that is planned with."""
SMALLER_TILES, FREE_GPU = "lower --memory, so that smaller tiles are used", "free the GPU"
"""What makes less memory be needed, or more be there."""
_EXHAUSTED = re.compile("allocate memory|out of memory")
_OF_GPU = re.compile(r"\b(CUDA|HIP|cuDNN|MPS)\b.*(error|out of memory|driver)", re.IGNORECASE)
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
LEAST = 10**6
"""Smallest --memory that a plain number can mean: nobody has less, but many think in megabytes."""


def parse_memory(text: str | int | None) -> int:
    """Bytes of ``2GB``, ``500 MB``, ``1.5GiB`` or a plain number, of which one below LEAST lacks its unit.

    None is what this process holds and half of what is free now, on the machine or within what a container or a batch
    system allows.
    """
    if text is None:
        return int(resident() + min(psutil.virtual_memory().available, left_in_groups()) // 2)
    m = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", str(text).lower())
    if not m or float(m[1]) <= 0:
        raise UsageError(
            f"--memory takes a size such as 500MB or 2GB, not {text!r}{decimal_hint(str(text), parse_memory)}."
        )
    if m[0].strip() == m[1] and float(m[1]) < LEAST:
        raise UsageError(f"--memory {m[1]} would be {m[1]} bytes; give it a unit, such as 500MB or 2GB.")
    return int(float(m[1]) * (1024 ** "kmgt".find(m[2]) * 1024 if m[3] and m[2] else UNITS[m[2]]))


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def pick_device(name: str, *, apple: bool = True) -> torch.device:
    """The torch device of ``auto`` (cuda, else mps, else cpu), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    apple : False for a model that needs what Apple's GPUs lack (float64, eigenvalues): ``auto`` leaves mps out then.
    Raises DeviceError for one that is not there, lacks that or fails a first computation (busy, full, or of a kind that
    this torch does not know), UsageError for one that is not known. Nothing else is taken instead.
    """
    device = _named(name, apple)
    if device.type != "cpu":
        try:
            _try(device)
        except RuntimeError as error:
            raise DeviceError(
                f"the GPU {device} cannot be used ({_first_line(error)}); free it, or use --device cpu."
            ) from error
    return device


def _named(name: str, apple: bool) -> torch.device:
    import torch

    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps and apple else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
        raise UsageError(f"unknown --device {name!r}; use auto, cpu, cuda, cuda:1 or mps.")
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if cuda else 0
        if int(name[5:] or 0) >= count:
            raise DeviceError(
                f"--device {name} is not available: this machine has {count} CUDA device(s); use --device cpu."
            )
    if name == "mps" and not apple:
        raise DeviceError(
            "this model needs float64 or eigenvalues, which --device mps does not have; use --device cpu."
        )
    if name == "mps" and not mps:
        raise DeviceError("--device mps is not available on this machine; use --device cpu.")
    return torch.device(name)


def _try(device: torch.device) -> None:
    """Compute something on a device; torch's RuntimeError says why that is not possible."""
    import torch

    float(torch.ones(1, device=device) + 1)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


@contextmanager
def device_failures(less: str = SMALLER_TILES) -> Iterator[None]:
    """Memory that runs out, or a GPU that fails, in the block is a DeviceError; not so what a listener raises.

    less : what helps where memory runs out.
    """
    try:
        yield
    except RsunfoldError:
        raise
    except (MemoryError, RuntimeError) as error:
        if from_listener(error):
            raise
        of_gpu = bool(_OF_GPU.search(str(error)))
        if isinstance(error, MemoryError) or _EXHAUSTED.search(str(error)):
            raise DeviceError(f"out of memory; {less}{', or use --device cpu' if of_gpu else ''}.") from error
        if of_gpu:
            raise DeviceError(f"the GPU failed ({_first_line(error)}); free it, or use --device cpu.") from error
        raise


def held() -> int:
    """Bytes that this process holds beside the images, once a model is loaded.

    To be asked before any image: what images have freed may still count as resident, but is used again.
    """
    return resident() + LATER_BYTES


class Budgeted(ABC):
    """What runs within a budget. memory : bytes for the whole process. held : see :func:`held`."""

    memory: int
    held: int

    @property
    def room(self) -> int:
        """Bytes of the budget beside the program itself; negative where it is larger than the budget."""
        return int(self.memory - self.held)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The model, its options or weights, and the device, for the JSON summary."""


def free_on(device: torch.device, budget: int) -> int:
    """``budget``, or what is free on a GPU where that is less."""
    if device.type != "cuda":
        return budget
    import torch

    return min(budget, int(GPU_SHARE * torch.cuda.mem_get_info(device)[0]))


def refuse_gpu(model: str, device: str) -> None:
    """Raise UsageError for a classical method on another device than the CPU."""
    if device not in ("auto", "cpu"):
        raise UsageError(f"{model} is a classical method and runs only on the CPU, not on {device}.")
