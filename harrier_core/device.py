"""The choice of a device and a dtype for a model, with the reasons. This module must not load anything."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from harrier_core.errors import DeviceError, ForkedModel

FORKED = (
    "this process was forked from one that used the GPU, and GPU memory does not survive a fork; start processes with "
    "multiprocessing's 'spawn' method, or encode before forking on the CPU"
)
DTYPES = ("float32", "bfloat16", "float16")
_KINDS = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True, slots=True)
class Placement:
    """A device, a dtype, and the reasons for both; `print` it to read them."""

    device: str
    dtype: str
    reason: str

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}: {self.reason}"


def choose(architecture: str, device: str | None = None, dtype: str | None = None) -> Placement:
    """Return the best placement of this architecture here, or the one asked for."""
    if device != "cpu" and torch.cuda._is_in_bad_fork():  # the check that torch itself makes before it refuses
        raise ForkedModel(FORKED)
    chosen, why_device = _asked_device(device) if device is not None else _best_device()
    format_, why_format = (dtype, "as asked") if dtype is not None else _best_dtype(chosen)
    if format_ not in DTYPES:
        raise DeviceError(f"unknown dtype {format_!r}; this kit computes in {', '.join(DTYPES)}")
    if format_ == "float16" and architecture.startswith("gemma"):
        raise DeviceError(
            f"float16 overflows in {architecture} models, whose activations exceed 65,504; use bfloat16 or float32"
        )
    return Placement(str(chosen), format_, f"{why_device}; {why_format}")


def _asked_device(name: str) -> tuple[torch.device, str]:
    try:
        device = torch.device(name)
        known = device.type in _KINDS
    except RuntimeError:
        known = False
    if not known:
        raise DeviceError(f"unknown device {name!r}; this kit runs on {', '.join(_KINDS)}, and on cuda:1 and so on")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise DeviceError(
            f"device {name!r} is not available: {why} (torch {torch.__version__}); use device='cpu', or install a "
            "torch build for that device"
        ) from None
    return _numbered(device), "device as asked"


def _best_device() -> tuple[torch.device, str]:
    if torch.cuda.is_available():
        device = _numbered(torch.device("cuda"))
        return device, f"{torch.cuda.get_device_name(device)} is there"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "Apple's GPU is available"
    return torch.device("cpu"), f"no GPU that torch {torch.__version__} can use"


def _numbered(device: torch.device) -> torch.device:
    """Return the device "cuda" with its number, so that it shares a model with "cuda:0"."""
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _best_dtype(device: torch.device) -> tuple[str, str]:
    if device.type == "cuda":
        # Emulated bfloat16, as on GPUs before Ampere, is slower than float32.
        if torch.cuda.get_device_capability(device) >= (8, 0) or torch.version.hip:
            return "bfloat16", "its GPU computes in bfloat16"
        return "float32", "its GPU has no bfloat16"
    if device.type == "cpu" and multiplies_bfloat16():
        return "float32", "float32 is the exact format; this CPU also multiplies bfloat16, which may be faster"
    return "float32", "float32 is the exact format and usually the faster one on a CPU"


def multiplies_bfloat16() -> bool:
    """Return whether the CPU has instructions for it (AVX512-BF16, AMX, Arm's BF16), as far as this torch can tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any("bf16" in name and there is True for name, there in capabilities.items())


def gpus() -> int:
    """Return how many GPUs of NVIDIA or AMD this process may use."""
    return torch.cuda.device_count()


def memory_of(device: str) -> int | None:
    """Return how many bytes of memory a device has for this process, or None if that is unknown."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    if device == "mps":
        return int(torch.mps.recommended_max_memory())
    if device != "cpu":
        return None
    limits = [limit for limit in (_physical_memory(), _container_memory()) if limit is not None]
    return min(limits, default=None)


def _physical_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _container_memory() -> int | None:
    """Return the memory limit that Linux sets for a container, if there is one."""
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # another system; "max"
            return int(Path(file).read_text(encoding="ascii"))
    return None


def release_memory(device: str) -> None:
    """Return freed memory to the driver or the operating system. glibc would keep gigabytes of it for later use."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        with suppress(AttributeError):  # another C library, such as musl
            ctypes.CDLL(None).malloc_trim(0)
