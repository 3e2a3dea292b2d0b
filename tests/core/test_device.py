"""The choice of device and dtype, and its reason."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harrier_core import DeviceError, Encoder
from harrier_core.device import choose, memory_of

NO_CUDA = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there")


@NO_CUDA
def test_a_cpu_computes_in_float32() -> None:
    """The checkpoint's dtype is ignored, because bfloat16 is slower on most CPUs; the reason is given."""
    placement = choose("gemma3_text")
    assert (placement.device, placement.dtype) == ("cpu", "float32")
    assert str(placement).startswith(f"cpu, float32: no GPU that torch {torch.__version__} can use; float32 is")


@NO_CUDA
def test_a_cpu_with_units_for_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes in float32 too, and the reason names the alternative."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "bf16", "avx2": True, "amx_bf16": True})
    placement = choose("gemma3_text")
    assert placement.dtype == "float32"
    assert "this CPU also multiplies bfloat16" in placement.reason
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": "bf16", "avx512_bf16": False})
    assert "multiplies bfloat16" not in choose("gemma3_text").reason


def test_explicit_device_and_dtype() -> None:
    """The reason says that they were requested."""
    assert str(choose("qwen3", "cpu", "bfloat16")) == "cpu, bfloat16: device as asked; as asked"


def test_float16_overflows_in_gemma() -> None:
    """float16 is refused for Gemma, and allowed for other models."""
    with pytest.raises(DeviceError, match=r"float16 overflows in gemma3_text models.*use bfloat16 or float32"):
        choose("gemma3_text", "cpu", "float16")
    assert choose("qwen3", "cpu", "float16").dtype == "float16"


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps", "xpu"])
@NO_CUDA
def test_an_unavailable_device(name: str) -> None:
    """The error has torch's reason, its version and the remedy."""
    with pytest.raises(DeviceError, match=rf"device '{name}' is not available: .*\(torch .*\); use device='cpu', or"):
        choose("qwen3", name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "vulkan"])
def test_an_unknown_device(name: str) -> None:
    """A misspelt name is distinguished from a missing device."""
    with pytest.raises(DeviceError, match=re.escape(f"unknown device {name!r}; use one of cpu, cuda, mps, xpu")):
        choose("qwen3", name)


def test_an_unknown_dtype() -> None:
    """The error lists the known ones."""
    with pytest.raises(DeviceError, match="unknown dtype 'half'; this kit computes in float32, bfloat16, float16"):
        choose("qwen3", "cpu", "half")


def test_torch_objects_are_accepted(built: Callable[..., Path]) -> None:
    """torch.device and torch.dtype are converted to their names."""
    encoder = Encoder(str(built()), device=torch.device("cpu"), dtype=torch.bfloat16)  # type: ignore[arg-type]
    assert (encoder.placement.device, encoder.placement.dtype) == ("cpu", "bfloat16")
    assert "torch" not in repr(encoder.__getstate__())


def test_the_memory_of_a_cpu() -> None:
    """It is the machine's or the container's memory; it is None for unknown device types."""
    memory = memory_of("cpu")
    assert memory is not None
    assert 2**28 < memory < 2**45
    assert memory_of("xpu") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_memory_of_a_gpu() -> None:
    assert memory_of("cuda") == torch.cuda.get_device_properties("cuda").total_memory
