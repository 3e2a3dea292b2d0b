"""The choice of a device and a dtype for a model, with the reasons. This module must not load anything."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
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
    """A device or several of one kind, a dtype, and the reasons for them; `print` it to read them."""

    device: str  # several are separated by commas
    dtype: str
    reason: str
    layers: tuple[int, ...] = ()  # of the model, for each of several devices

    @property
    def devices(self) -> tuple[str, ...]:
        """Each device, in the order of the layers that it has."""
        return tuple(self.device.split(","))

    @property
    def kind(self) -> str:
        """The kind of the devices, such as "cuda"."""
        return self.devices[0].partition(":")[0]

    def __str__(self) -> str:
        return f"{self.device}, {self.dtype}: {self.reason}"


def choose(architecture: str, device: str | None = None, dtype: str | None = None) -> Placement:
    """Return the best placement of this architecture here, or the one asked for."""
    on_cpu = device is not None and device.startswith("cpu")
    if not on_cpu and torch.cuda._is_in_bad_fork():  # the check that torch itself makes before it refuses
        raise ForkedModel(FORKED)
    chosen, why_device = _asked_devices(device) if device is not None else _best_device()
    format_, why_format = (dtype, "as asked") if dtype is not None else _best_dtype(chosen)
    if format_ not in DTYPES:
        raise DeviceError(f"unknown dtype {format_!r}; this kit computes in {', '.join(DTYPES)}")
    if format_ == "float16" and architecture.startswith("gemma"):
        raise DeviceError(
            f"float16 overflows in {architecture} models, whose activations exceed 65,504; use bfloat16 or float32"
        )
    return Placement(",".join(map(str, chosen)), format_, f"{why_device}; {why_format}")


def _asked_devices(names: str) -> tuple[list[torch.device], str]:
    """Return the devices with these names, which are separated by commas."""
    devices = [_known(name.strip()) for name in names.split(",")]
    if kinds := sorted({device.type for device in devices} - {devices[0].type}):
        raise DeviceError(f"device must name devices of one kind, got {devices[0].type} and {kinds[0]} in {names!r}")
    for device in devices:
        _refuse_missing(device)
    if len(devices) == 1:
        return [_numbered(devices[0])], "device as asked"
    numbered = [torch.device(device.type, _numbered(device).index or 0) for device in devices]
    if repeated := next((device for device in numbered if numbered.count(device) > 1), None):
        raise DeviceError(f"device must name each device once, got {repeated} more than once in {names!r}")
    return numbered, "devices as asked"


def _known(name: str) -> torch.device:
    with suppress(RuntimeError):
        device = torch.device(name)
        if device.type in _KINDS:
            return device
    raise DeviceError(f"unknown device {name!r}; use one of {', '.join(_KINDS)}, or a numbered one such as cuda:1")


def _refuse_missing(device: torch.device) -> None:
    if device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) >= gpus():
        raise DeviceError(f"device must be one of the GPUs here, cuda:0 to cuda:{gpus() - 1}, got '{device}'")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise DeviceError(
            f"device '{device}' is not available: {why} (torch {torch.__version__}); use device='cpu', or install a "
            "torch build for that device"
        ) from None


def _best_device() -> tuple[list[torch.device], str]:
    if torch.cuda.is_available():
        device = _numbered(torch.device("cuda"))
        return [device], f"{torch.cuda.get_device_name(device)} is available"
    if torch.backends.mps.is_available():
        return [torch.device("mps")], "Apple's GPU is available"
    return [torch.device("cpu")], f"no GPU that torch {torch.__version__} can use"


def _numbered(device: torch.device) -> torch.device:
    """Return the device "cuda" with its number, so that it shares a model with "cuda:0"."""
    if str(device) == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _best_dtype(devices: Sequence[torch.device]) -> tuple[str, str]:
    kind, several = devices[0].type, len(devices) > 1
    if kind == "cuda":
        # Emulated bfloat16, as on GPUs before Ampere, is slower than float32.
        if torch.version.hip or all(torch.cuda.get_device_capability(device) >= (8, 0) for device in devices):
            return "bfloat16", "its GPUs compute in bfloat16" if several else "its GPU computes in bfloat16"
        return "float32", "not all of its GPUs have bfloat16" if several else "its GPU has no bfloat16"
    if kind == "cpu" and multiplies_bfloat16():
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


def current(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which kernels that do not look where their tensors are run on this device."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def release_memory(device: str) -> None:
    """Return freed memory to the driver, on all GPUs, or to the operating system.

    glibc would keep gigabytes of it for later use.
    """
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif sys.platform == "linux":
        with suppress(AttributeError):  # another C library, such as musl
            ctypes.CDLL(None).malloc_trim(0)
