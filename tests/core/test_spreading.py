"""A model's layers on several devices: the vectors of one device, and no tensor on a device that does not need it.

On a CPU every device is the same memory, and torch reports `cpu` for a tensor on `cpu:1`. So the vectors are compared
on `cpu:0,cpu:1`, and `Apart` remembers where tensors were put.
"""

from __future__ import annotations

import copy
import gc
import json
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import combinations
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from passes import some_rows
from rerankers import build_qwen_reranker
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from harrier_core import (
    CrossEncoderReranker,
    DeviceError,
    Encoder,
    OutOfMemory,
    QwenReranker,
    SettingError,
    attention,
    decoder,
)
from harrier_core.architecture import Architecture, Layer, read_architecture
from harrier_core.attention import Groups, Ragged, Varlen
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import Placement, choose
from harrier_core.spreading import divide, weights
from harrier_core.testing import ARCHITECTURES, PROSE

TEXTS = [*PROSE, "word " * 200, "a", "one two three " * 40]
INSTRUCTION = tuple(range(7, 27))


# -- the same vectors


@pytest.mark.parametrize(
    ("architecture", "devices"),
    [*((each, "cpu:0,cpu:1") for each in ARCHITECTURES), ("gemma3-sliding", "cpu:0,cpu:1,cpu:2")],
)
def test_vectors_equal_those_of_one_device(architecture: Any, devices: str, built: Callable[..., Path]) -> None:
    """They are bit-identical in batches, alone and from several threads, and in the same space."""
    folder = built(architecture)
    with Encoder(folder, device="cpu") as one, Encoder(folder, device=devices) as several:
        assert several.placement.devices == tuple(devices.split(","))
        assert np.array_equal(several.encode_documents(TEXTS), one.encode_documents(TEXTS))
        assert np.array_equal(several.encode_queries(PROSE), one.encode_queries(PROSE))
        for text in ("bread", "word " * 200):
            assert np.array_equal(several.encode_queries([text]), one.encode_queries([text]))
            assert np.array_equal(several.encode_documents([text]), one.encode_documents([text]))
        assert several.stats.passes == one.stats.passes  # of one size
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(several.encode_documents, [PROSE[begin:] for begin in range(4)]))
        for begin, vectors in enumerate(found):  # their texts share passes, so that sums differ in the last bits
            assert abs(vectors - one.encode_documents(PROSE[begin:])).max() < 1e-5
        assert several.space.digest == one.space.digest
        assert several.space == one.space


def test_a_precise_pass(built: Callable[..., Path]) -> None:
    """A bfloat16 pass that overflows is repeated in float32."""
    placement = choose("qwen3", "cpu", "bfloat16")
    one = loaded(built(), placement)
    several = loaded(built(), Placement("cpu:0,cpu:1", "bfloat16", "", (1, 2)))
    rows = [*some_rows([3, 40, 200], INSTRUCTION), *some_rows([5])]
    for precise in (False, True):
        assert torch.equal(several.launch(rows, precise=precise)(), one.launch(rows, precise=precise)())


def test_memory_that_runs_out_on_the_next_device(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass is halved, and a text that is still too large is reported."""
    to = Groups.to

    def full(layout: Groups, device: torch.device) -> Groups:
        if len(layout.positions) > 250:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return to(layout, device)

    with Encoder(built(), device="cpu") as one:
        expected = one.encode_documents(PROSE)
    monkeypatch.setattr(Groups, "to", full)
    with Encoder(built(), device="cpu:0,cpu:1") as several:
        assert abs(several.encode_documents(PROSE) - expected).max() < 1e-5
        assert several.stats.retries > 0
        with pytest.raises(OutOfMemory, match="text 1 has .* does not fit in the memory of cpu:0,cpu:1 even alone"):
            several.encode_documents(["a", "word " * 200])


def test_a_reranker(tmp_path: Path) -> None:
    """A reranker is loaded like an Encoder."""
    folder = build_qwen_reranker(tmp_path)
    with QwenReranker(folder, device="cpu") as one, QwenReranker(folder, device="cpu:0,cpu:1") as several:
        assert several.scores("how do vaccines work", PROSE) == one.scores("how do vaccines work", PROSE)
        assert "layer 0 on cpu:0" in several.placement.reason


# -- one engine


def test_equal_devices_share_an_engine(built: Callable[..., Path]) -> None:
    """Spelling does not matter, copies and pickles keep the devices, and another order is another engine."""
    folder = str(built())
    with Encoder(folder, device="cpu:0,cpu:1") as one:
        assert pickle.loads(pickle.dumps(one)).settings == copy.copy(one).settings == one.settings
        one.encode_documents(["a"])
        for other in (Encoder(folder, device=" cpu , cpu:1"), pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            with other:
                assert other._engine is one._engine
        others = [Encoder(folder, device=device) for device in ("cpu:1,cpu:0", "cpu:0,cpu:2", "cpu:0", "cpu")]
        assert len({each._engine for each in (one, *others)}) == 5
        for each in others:
            each.close()
    assert one._held.lease("engine") is None


def test_the_placement_lists_the_layers(built: Callable[..., Path]) -> None:
    with Encoder(built("gemma3-sliding"), device="cpu:0,cpu:1") as encoder:
        placement = encoder.placement
        assert placement.layers == (2, 4)
        said = "cpu:0,cpu:1, float32: layers 0-1 on cpu:0, layers 2-5 on cpu:1; devices as asked; float32 is"
        assert str(placement).startswith(said)
        encoder.encode_documents(["a"])
        assert encoder._engine.placement == placement


# -- where tensors are


class Apart(TorchFunctionMode):
    """Simulated separate devices: record where each tensor is, and raise if an operation mixes two."""

    def __torch_function__(self, function: Any, _: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        if function == Tensor.device.__get__:
            return place_of(arguments[0])
        tensors = [each for each in tree_leaves((arguments, options)) if isinstance(each, Tensor)]
        asked = [each for each in (*arguments, options.get("device")) if isinstance(each, torch.device)]
        places = set(map(place_of, tensors)) or {HOST}
        if not asked and len(places) > 1:
            raise RuntimeError(f"tensors on {sorted(map(str, places))} are not on the same device")
        result = function(*arguments, **options)
        if asked and any(result is each for each in tensors):
            result = result.detach()  # torch took the two devices for one, and returned the tensor itself
        for each in tree_leaves(result):
            if isinstance(each, Tensor):
                each.place = asked[0] if asked else next(iter(places))  # type: ignore[attr-defined]
        return result


HOST = torch.device("cpu")


def place_of(tensor: Tensor) -> torch.device:
    return getattr(tensor, "place", HOST)


def kernel(queries: Tensor, *others: Any, **_: Any) -> Tensor:
    """Replace the kernel of variable lengths, which needs all its tensors on one device."""
    assert {each.device for each in others if isinstance(each, Tensor)} == {queries.device}
    return queries.clone()


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the devices that become current, in order."""
    devices: list[str] = []

    @contextmanager
    def current(device: torch.device) -> Iterator[None]:
        devices.append(str(device))
        yield

    monkeypatch.setattr(decoder, "current", current)
    return devices


@pytest.mark.parametrize("layout", [Groups, Ragged])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_is_on_the_device_of_its_layer(
    architecture: Any,
    layout: type,
    built: Callable[..., Path],
    entered: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pass crosses once, reads local tensors only, and equals that of one device."""
    sizes = weights(read(built(architecture)), "bfloat16", "bfloat16")
    layers = divide(sizes, 2)
    monkeypatch.setattr(decoder, "can_be_ragged", lambda *_: layout is Ragged)
    monkeypatch.setattr(attention, "varlen", lambda: Varlen(kernel, frozenset()))
    one = loaded(built(architecture), Placement("cpu", "bfloat16", ""))
    one._graphs = None
    with Apart():
        spread = loaded(built(architecture), Placement("cpu:0,cpu:1", "bfloat16", "", layers))
    assert spread._graphs is None
    held = held_by(spread)
    assert set(held) == {"cpu:0", "cpu:1"}
    for place, begin, end in (("cpu:0", 0, layers[0]), ("cpu:1", layers[0], sum(layers))):
        assert held[place] == pytest.approx(sum(sizes[begin:end]), rel=0.1)  # norms are in float32
    for precise in (False, True):
        rows = [*some_rows([3, 40], INSTRUCTION), *some_rows([5], tuple(range(9))), *some_rows([20])]
        expected = one.launch(rows, precise=precise)()
        entered.clear()
        with Apart():
            result = spread.launch(rows, precise=precise)()
        assert str(place_of(result)) == "cpu:1"
        assert torch.equal(result, expected)
        passes = 1 if precise else 3  # the beginnings have separate passes
        assert entered == ["cpu:0", "cpu:1"] * passes
    kept = [str(place_of(keys)) for keys, _ in spread._beginnings[INSTRUCTION]]
    assert kept == ["cpu:0"] * layers[0] + ["cpu:1"] * layers[1]


@pytest.mark.parametrize("left", ["hidden", "normed", "layout", "turns"])
def test_a_tensor_left_behind_is_detected(
    left: str, built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor that is not moved to the next device raises, so the test above can fail."""
    names = ("hidden", "normed", "layout", "turns")
    cross = decoder._cross

    def forgetful(device: torch.device, *state: Any) -> tuple[Any, ...]:
        moved = cross(device, *state)
        return tuple(old if name == left else new for name, old, new in zip(names, state, moved, strict=True))

    monkeypatch.setattr(decoder, "_cross", forgetful)
    with Apart():
        spread = loaded(built(), Placement("cpu:0,cpu:1", "bfloat16", "", (1, 2)))
        with pytest.raises(RuntimeError, match="are not on the same device"):
            spread.launch(some_rows([3, 40]))


def held_by(spread: Decoder) -> dict[str, int]:
    """Return how many bytes of tensors a decoder holds on each device."""
    held: dict[str, int] = {}
    seen: set[int] = set()

    def look(each: Any) -> None:
        if id(each) in seen:
            return
        seen.add(id(each))
        if isinstance(each, Tensor):
            held[str(place_of(each))] = held.get(str(place_of(each)), 0) + each.nbytes
        elif isinstance(each, list | tuple):
            for one in each:
                look(one)
        elif type(each).__module__.startswith("harrier_core"):
            for one in getattr(each, "__dict__", {}).values():
                look(one)

    look(spread)
    return held


# -- how layers are divided


@given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.integers(1, 4))
def test_layers_are_balanced(sizes: list[int], parts: int) -> None:
    """No other division has a smaller sum of squares, and each device has a layer."""
    parts = min(parts, len(sizes))

    def squares(counts: tuple[int, ...]) -> int:
        ends = [sum(counts[: number + 1]) for number in range(len(counts))]
        return sum(sum(sizes[end - count : end]) ** 2 for count, end in zip(counts, ends, strict=True))

    found = divide(sizes, parts)
    assert sum(found) == len(sizes)
    assert len(found) == parts
    assert min(found) > 0
    cuts = combinations(range(1, len(sizes)), parts - 1)
    assert squares(found) == min(squares(tuple(np.diff([0, *each, len(sizes)]).tolist())) for each in cuts)


def test_a_model_of_27_billion() -> None:
    """Two GPUs of 40 GB have 27 GB each; four of 24 GB have less than 15."""
    layers = tuple(Layer(None if number % 6 == 5 else 1_024, 10_000.0, 1.0) for number in range(62))
    shapes = Architecture(True, 262_144, 5_376, 21_504, 32, 16, 128, 1e-6, 0.08, layers)
    sizes = weights(shapes, "bfloat16", "bfloat16")
    assert sum(sizes) == 2 * sum(map(prod, shapes.weight_shapes().values()))
    for parts, most in ((2, 28e9), (4, 15e9)):
        counts = divide(sizes, parts)
        ends = [sum(counts[: number + 1]) for number in range(parts)]
        assert max(sum(sizes[end - count : end]) for count, end in zip(counts, ends, strict=True)) < most


def test_embeddings_count_as_they_are_stored(built: Callable[..., Path]) -> None:
    """A table in bfloat16 keeps its dtype next to layers in float32."""
    shapes = read(built())
    table = prod(shapes.weight_shapes()["embed_tokens.weight"])
    plain = weights(shapes, "float32", "float32")
    assert plain[0] - weights(shapes, "float32", "bfloat16")[0] == 2 * table
    assert weights(shapes, "bfloat16", "float32")[0] * 2 == plain[0]


# -- refusals


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("cpu,cpu", "device must name each device once, got cpu:0 more than once in 'cpu,cpu'"),
        ("cpu:1,cpu:0,cpu:1", "device must name each device once, got cpu:1 more than once in"),
        ("cuda:0,cpu", "device must name devices of one kind, got cuda and cpu in 'cuda:0,cpu'"),
        ("cpu:0,gpu", "unknown device 'gpu'; use one of cpu, cuda, mps, xpu"),
        ("cpu:0,", "unknown device ''; use one of"),
        ("cpu:0,cpu:1,cpu:2,cpu:3", "device must name at most 3 devices, one for each layer of .*, got 4"),
        pytest.param(
            "cuda:0,cuda:1",
            "device 'cuda:0' is not available: ",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there"),
        ),
    ],
)
def test_invalid_devices(devices: str, said: str, built: Callable[..., Path]) -> None:
    """The error is one line, before anything is loaded."""
    with Encoder(built(), device=devices) as encoder:
        for ask in (lambda: encoder.placement, lambda: encoder.encode_documents(["a"])):
            with pytest.raises(DeviceError, match=said) as caught:
                ask()
            assert "\n" not in str(caught.value)


def test_a_gpu_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error lists the available GPUs."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(DeviceError, match="device must be one of the GPUs here, cuda:0 to cuda:1, got 'cuda:2'"):
        choose("qwen3", "cuda:2,cuda:3")


@pytest.mark.parametrize(
    ("capabilities", "dtype", "reason"),
    [
        ([(8, 0), (9, 0)], "bfloat16", "its GPUs compute in bfloat16"),
        ([(8, 0), (7, 5)], "float32", "not all of its GPUs have bfloat16"),
    ],
)
def test_the_dtype_of_several_gpus(
    capabilities: list[tuple[int, int]], dtype: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them must support it."""
    monkeypatch.setattr("harrier_core.device._refuse_missing", lambda _: None)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device: capabilities[device.index])
    placement = choose("qwen3", "cuda:0,cuda:1")
    assert (placement.device, placement.kind, placement.dtype) == ("cuda:0,cuda:1", "cuda", dtype)
    assert placement.reason == f"devices as asked; {reason}"


def test_a_model_on_plain_transformers(folder: Path, edit: Callable[..., None]) -> None:
    """It cannot be spread, and is refused before it is loaded."""
    edit(folder / "config.json", rope_scaling={"rope_type": "dynamic", "factor": 1.0})
    with Encoder(folder, device="cpu:0,cpu:1") as encoder, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            DeviceError, match="device must be one device for .*, got 'cpu:0,cpu:1': only the kit's own"
        ):
            encoder.encode_documents(["a"])


def test_a_cross_encoder() -> None:
    """It runs on one device, because sentence-transformers computes it."""
    with pytest.raises(SettingError, match="device must be one device for a CrossEncoderReranker, got 'cpu:0,cpu:1'"):
        CrossEncoderReranker("a", device="cpu:0,cpu:1")


# -- real GPUs


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs: no model was spread over real ones")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_two_gpus_equal_one_gpu(architecture: Any, dtype: str, built: Callable[..., Path]) -> None:
    """Vectors agree in either order, and closing releases the memory of both."""
    folder = str(built(architecture))
    with Encoder(folder, device="cuda:0", dtype=dtype) as one:
        expected = [one.encode_documents(TEXTS), one.encode_queries(PROSE), one.encode_queries(PROSE[:1])]
    least = 0.9999 if dtype == "bfloat16" else 1 - 1e-5
    for devices in ("cuda:0,cuda:1", "cuda:1,cuda:0"):
        with Encoder(folder, device=devices, dtype=dtype) as several:
            for _ in range(3):  # one GPU replays small passes from the second time on
                found = [several.encode_documents(TEXTS), several.encode_queries(PROSE)]
                found.append(several.encode_queries(PROSE[:1]))
                for ours, theirs in zip(found, expected, strict=True):
                    assert (ours * theirs).sum(1).min() > least
            held = allocated()
            assert min(held) > 0
        until(partial(less_than, held))


def allocated() -> list[int]:
    return [torch.cuda.memory_allocated(number) for number in (0, 1)]


def less_than(held: list[int]) -> bool:
    return all(now < then for now, then in zip(allocated(), held, strict=True))


def until(holds: Callable[[], bool]) -> None:
    """Wait until a condition holds, because the engine's thread may still be releasing its model."""
    for _ in range(100):
        if holds():
            return
        gc.collect()
        time.sleep(0.05)
    raise AssertionError("it did not come true within seconds")


def read(folder: Path) -> Architecture:
    return read_architecture(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def loaded(folder: Path, placement: Placement) -> Decoder:
    shapes = read(folder)
    return Decoder(shapes, Checkpoint([folder / "model.safetensors"], shapes.weight_shapes()), placement)
