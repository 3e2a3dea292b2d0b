"""The forward pass of Qwen3 and Gemma 3 over packed tokens, computing no more than the last token of each text needs.

Texts lie one after the other, without padding. Projections see them as one matrix, and only attention knows where one
ends. The beginning that texts share (a task's instruction) is computed once, and its keys and values are kept, which
is exact, because a decoder never looks ahead.

Layers may lie on several devices, in their order. The state of a pass moves once to each next device.
"""

from __future__ import annotations

import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harrier_core.architecture import Architecture, Layer
from harrier_core.attention import Groups, KeysValues, Layout, Ragged, Text, can_be_ragged
from harrier_core.checkpoint import Checkpoint
from harrier_core.device import Placement, current
from harrier_core.errors import DeviceError
from harrier_core.graphs import Graphs
from harrier_core.linear import MOST_PACKED_BYTES, Linear, PackedLinear, can_pack
from harrier_core.token_rows import Row, by_length

Matrix = Callable[[Tensor], Tensor]  # (rows, in) to (rows, out)
Turns = tuple[Tensor, Tensor]  # cosines and sines, each (tokens, 1, head / 2)
Rotary = tuple[float, float]  # a layer's rope base and stretch

_KEPT_BEGINNINGS = 16  # tasks in use at once; 20 tokens of the 270m model take 0.7 MB
_LEAST_ANGLES = 512


class Decoder:
    """A loaded model. It must not be used by two threads at once."""

    def __init__(self, architecture: Architecture, checkpoint: Checkpoint, placement: Placement) -> None:
        self._architecture = architecture
        self._scale = architecture.attention_scale
        devices = [torch.device(name) for name in placement.devices]
        self._device, self._last = devices[0], devices[-1]
        self._dtype = getattr(torch, placement.dtype)
        ragged = all(can_be_ragged(device, self._dtype, architecture.head) for device in devices)
        self._layout = Ragged if ragged else Groups
        self._angles: dict[Rotary, Turns] = {}
        self._outgrown: list[Turns] = []  # angles that recordings may still read
        self._beginnings: OrderedDict[tuple[int, ...], list[KeysValues]] = OrderedDict()
        self._steps = _steps(self._device)
        self._epsilon = torch.tensor(architecture.epsilon, device=self._device)
        self._last_epsilon = self._epsilon.to(self._last)
        # A recording belongs to one device. Passes of a model that needs several are long compared with their launches.
        self._graphs = Graphs(self._scale, self._device) if ragged and len(devices) == 1 else None
        try:
            self._load(checkpoint, placement)
        except torch.OutOfMemoryError:
            raise DeviceError(
                f"the model does not fit in the memory of {placement.device}; use a smaller one, or spread its "
                "layers over more devices, such as device='cuda:0,cuda:1'"
            ) from None

    def _load(self, checkpoint: Checkpoint, placement: Placement) -> None:
        """Read each tensor onto the device of its layer, so that none has more than its part and a layer in float32."""
        matrix = _matrix(self._architecture, placement)

        def linear(weight: Tensor) -> Matrix:
            return matrix(weight.to(self._dtype))

        # Looked up, never multiplied: a checkpoint's bfloat16 is exact, and half the size of float32.
        embeddings = checkpoint.tensor("embed_tokens.weight")  # (vocabulary, hidden)
        smaller = embeddings.itemsize <= self._dtype.itemsize
        self._embeddings = embeddings.to(self._device, embeddings.dtype if smaller else self._dtype)
        layers = iter(range(len(self._architecture.layers)))
        counts = placement.layers or (len(self._architecture.layers),)
        self._parts: list[Part] = []
        for name, count in zip(placement.devices, counts, strict=True):
            device = torch.device(name)
            with current(device):
                numbers = islice(layers, count)
                blocks = [Block(self._architecture, each, checkpoint, linear, self._steps, device) for each in numbers]
            self._parts.append(Part(device, blocks))
        self._norm = _norm_weight(self._architecture, checkpoint, "norm.weight").to(self._last)  # (hidden,)

    @torch.inference_mode()
    def launch(self, rows: Sequence[Row], *, precise: bool = False) -> Callable[[], Tensor]:
        """Begin a pass, and return a function that waits for its result.

        The result is the final hidden state of each row's last token, (rows, hidden), float32, on the host, in their
        order. A precise pass computes in float32, whatever dtype the weights are stored in.
        """
        if precise:  # what is kept of beginnings is not precise
            rows = [Row(row.ids) for row in rows]
        beginnings = {row.shared: self._beginning(row.shared) for row in rows if row.shared}
        if self._graphs and not precise:
            replayed = self._graphs.run(rows, beginnings, partial(self._forward, dtype=self._dtype))
            if replayed is not None:
                return _fetch(replayed)
        order = [number for numbers in by_length(rows) for number in numbers]
        texts = [Text(len(rows[number].rest), rows[number].shared) for number in order]
        layout = (Groups if precise else self._layout)(texts, beginnings, self._scale, self._device)
        dtype = torch.float32 if precise else self._dtype
        ids = self._on_device([id_ for number in order for id_ in rows[number].rest])
        places = torch.tensor(order).argsort()
        if len(self._parts) > 1 and self._last.type == "cuda":
            places = places.pin_memory()  # or the copy may wait for the pass before, which the last device still runs
        places = places.to(self._last, non_blocking=True)
        return _fetch(self._forward(ids, layout, dtype)[places])

    def _on_device(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor(ids).to(self._device, non_blocking=True)

    def _beginning(self, ids: tuple[int, ...]) -> list[KeysValues]:
        """Return the keys and values of a beginning in every layer, computed when it is first used."""
        if ids not in self._beginnings:
            kept: list[KeysValues] = []
            layout = self._layout([Text(len(ids))], {}, self._scale, self._device)
            self._forward(self._on_device(ids), layout, self._dtype, kept)
            self._beginnings[ids] = kept
            if len(self._beginnings) > _KEPT_BEGINNINGS:
                self._beginnings.popitem(last=False)
        self._beginnings.move_to_end(ids)
        return self._beginnings[ids]

    def _forward(self, ids: Tensor, layout: Layout, dtype: torch.dtype, keep: list[KeysValues] | None = None) -> Tensor:
        """Return final hidden states of the last tokens, (texts, hidden), float32. `keep` collects keys and values.

        `dtype` is that of the inputs of the products. Everything between them is float32: with rounding to bfloat16
        there as well, a trained model's vectors lose three times as much.
        """
        hidden = F.embedding(ids, self._embeddings).float()  # (tokens, hidden)
        if self._architecture.gemma:
            hidden = hidden * self._architecture.hidden**0.5
        turns = {layer: self._turns(layer, layout) for layer in set(map(_rotary, self._architecture.layers))}
        normed = _norm(hidden, self._epsilon).to(dtype)
        for device, blocks in self._parts:
            with current(device):
                if device != self._device:
                    hidden, normed, layout, turns = _cross(device, hidden, normed, layout, turns)
                for block in blocks:
                    hidden, normed = block(hidden, normed, layout, turns[_rotary(block.layer)], keep)
        return _norm(hidden, self._last_epsilon, self._norm)

    def _turns(self, layer: Rotary, layout: Layout) -> tuple[Tensor, Tensor]:
        """Return the cosines and sines of the rotary angles at each token's position, each (tokens, 1, head / 2)."""
        base, stretch = layer
        if layer not in self._angles or len(self._angles[layer][0]) < layout.length:
            head = self._architecture.head
            # In float32 and in this order, as in transformers: at position 30,000 the last bits make a difference.
            speeds = 1.0 / (base ** (torch.arange(0, head, 2).float() / head)) / stretch
            positions = torch.arange(max(_LEAST_ANGLES, 2 ** (layout.length - 1).bit_length())).float()
            angles = (positions[:, None] * speeds)[:, None]
            self._outgrown += [self._angles[layer]] if layer in self._angles else []
            self._angles[layer] = angles.cos().to(self._device), angles.sin().to(self._device)
        cosines, sines = self._angles[layer]
        return cosines[layout.positions], sines[layout.positions]


class Part(NamedTuple):
    """The layers that one device has."""

    device: torch.device
    blocks: list[Block]


def _cross(
    device: torch.device, hidden: Tensor, normed: Tensor, layout: Layout, turns: dict[Rotary, Turns]
) -> tuple[Tensor, Tensor, Layout, dict[Rotary, Turns]]:
    """Copy to another device what the next layer needs. Nothing waits for the copies but the work that reads them."""

    def copied(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    moved = {layer: (copied(cosines), copied(sines)) for layer, (cosines, sines) in turns.items()}
    return copied(hidden), copied(normed), layout.to(device), moved


class Block:
    """One layer: attention, then the gated projections. Norms before a projection are folded into its weights."""

    def __init__(
        self,
        architecture: Architecture,
        number: int,
        checkpoint: Checkpoint,
        linear: Callable[[Tensor], Matrix],
        steps: Steps,
        device: torch.device,
    ) -> None:
        def tensor(name: str) -> Tensor:
            return checkpoint.tensor(f"layers.{number}.{name}.weight").to(device).float()

        def norm(name: str) -> Tensor:
            return _norm_weight(architecture, checkpoint, f"layers.{number}.{name}.weight").to(device)

        before_mlp = "pre_feedforward_layernorm" if architecture.gemma else "post_attention_layernorm"
        self.layer = architecture.layers[number]
        self._number = number
        self._final = number == len(architecture.layers) - 1
        self._gemma = architecture.gemma
        self._heads = [architecture.heads, architecture.key_heads, architecture.key_heads]
        self._epsilon = torch.tensor(architecture.epsilon, device=device)
        self._steps = steps
        queries, *keys_values = (tensor(f"self_attn.{each}_proj") * norm("input_layernorm") for each in "qkv")
        if self._final:  # the other tokens' queries are not needed
            self._queries = linear(queries)  # (query heads * head, hidden)
            self._keys_values = linear(torch.cat(keys_values))  # (2 key heads * head, hidden)
        else:
            self._queries_keys_values = linear(torch.cat([queries, *keys_values]))  # (all heads, hidden)
        norms = [
            norm(f"self_attn.{each}_norm").expand(heads, -1) for each, heads in zip("qk", self._heads, strict=False)
        ]
        self._query_key_norms = torch.cat(norms)  # (query and key heads, head)
        self._out = linear(tensor("self_attn.o_proj"))  # (hidden, query heads * head)
        gate_up = torch.cat([tensor("mlp.gate_proj"), tensor("mlp.up_proj")])
        self._gate_up = linear(gate_up * norm(before_mlp))  # (2 inner, hidden)
        self._down = linear(tensor("mlp.down_proj"))  # (hidden, inner)
        self._after_attention = norm("post_attention_layernorm") if architecture.gemma else None  # (hidden,)
        self._after_mlp = norm("post_feedforward_layernorm") if architecture.gemma else None

    def __call__(
        self, hidden: Tensor, normed: Tensor, layout: Layout, turns: Turns, keep: list[KeysValues] | None
    ) -> tuple[Tensor, Tensor]:
        """Return hidden states, and the same normed, (tokens, hidden); the final layer's are of last tokens only."""
        steps = self._steps
        queries, keys, values = self._project(normed, layout, turns)
        if keep is not None:
            keep.append((keys.contiguous(), values.contiguous()))
        if self._final:
            hidden = hidden[layout.last]
        attended = layout.attend(self._number, self.layer.window, queries, keys, values).flatten(1)
        hidden, normed = steps.join(hidden, self._out(attended), self._after_attention, self._epsilon)
        gated = steps.gate(self._gate_up(normed), self._gemma)  # (tokens, inner)
        return steps.join(hidden, self._down(gated), self._after_mlp, self._epsilon)

    def _project(self, normed: Tensor, layout: Layout, turns: Turns) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (tokens, heads, head), normed and rotated to their positions."""
        heads, steps, weights = self._heads, self._steps, self._query_key_norms
        if self._final:
            last = turns[0][layout.last], turns[1][layout.last]
            queries = self._queries(normed[layout.last]).unflatten(1, (heads[0], -1))
            keys, values = self._keys_values(normed).unflatten(1, (sum(heads[1:]), -1)).split(heads[1:], dim=1)
            queries = steps.turn(queries, weights[: heads[0]], self._epsilon, *last)
            return queries, steps.turn(keys, weights[heads[0] :], self._epsilon, *turns), values
        projected = self._queries_keys_values(normed).unflatten(1, (sum(heads), -1))  # (tokens, all heads, head)
        turned = steps.turn(projected[:, : -heads[2]], weights, self._epsilon, *turns)
        queries, keys = turned.split(heads[:2], dim=1)
        return queries, keys, projected[:, -heads[2] :]


def _norm(hidden: Tensor, epsilon: Tensor, weight: Tensor | None = None) -> Tensor:
    """Divide each row by its root mean square, in float32. There is no weight if the next projection includes it."""
    length = torch.linalg.vector_norm(hidden, dim=-1, keepdim=True, dtype=torch.float32)
    scale = torch.addcmul(epsilon, length, length, value=1 / hidden.shape[-1]).rsqrt_()  # takes 2/3 of rms_norm's time
    normed = hidden * scale
    return normed if weight is None else normed.mul_(weight)


def _join(hidden: Tensor, added: Tensor, weight: Tensor | None, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """Add a branch's output, first normed if the architecture does so; return the sum, and the sum normed."""
    dtype = added.dtype
    joined = (added.float() if weight is None else _norm(added, epsilon, weight)).add_(hidden)
    return joined, _norm(joined, epsilon).to(dtype)


def _gate(gate_up: Tensor, gemma: bool) -> Tensor:
    """Apply the gate: (tokens, 2 inner) to (tokens, inner)."""
    gate, up = gate_up.chunk(2, dim=1)
    gate = gate.float()
    return (F.gelu(gate, approximate="tanh") if gemma else F.silu(gate)).mul_(up).to(up.dtype)


def _turn(heads: Tensor, weight: Tensor, epsilon: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Norm (tokens, heads, head), and rotate each pair of coordinates by the angle of the token's position."""
    one, two = _norm(heads, epsilon, weight).chunk(2, dim=-1)
    turned = (one * cosines).addcmul_(two, sines, value=-1), (two * cosines).addcmul_(one, sines)
    return torch.cat(turned, dim=-1).to(heads.dtype)


class Steps(NamedTuple):
    """The steps between the products, each a single pass through memory where it can be compiled."""

    join: Callable[[Tensor, Tensor, Tensor | None, Tensor], tuple[Tensor, Tensor]] = _join
    gate: Callable[[Tensor, bool], Tensor] = _gate
    turn: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = _turn


def _steps(device: torch.device) -> Steps:
    """Return the steps, compiled on a GPU if Triton is installed. On a CPU they take a tenth of the time either way."""
    if device.type == "cuda" and importlib.util.find_spec("triton"):
        compiled = partial(torch.compile, dynamic=True)
        return Steps(compiled(_join), compiled(_gate), compiled(_turn))
    return Steps()


def _matrix(architecture: Architecture, placement: Placement) -> Callable[[Tensor], Matrix]:
    """Return the class that stores the projections."""
    size = 4 * sum(prod(shape) for name, shape in architecture.weight_shapes().items() if name.endswith("proj.weight"))
    on_cpu = (placement.kind, placement.dtype) == ("cpu", "float32")
    return PackedLinear if on_cpu and can_pack() and size <= MOST_PACKED_BYTES else Linear


def _rotary(layer: Layer) -> Rotary:
    return layer.rope_base, layer.rope_stretch


def _norm_weight(architecture: Architecture, checkpoint: Checkpoint, name: str) -> Tensor:
    """Return a norm's weight in float32. Gemma stores it minus one."""
    weight = checkpoint.tensor(name).float()
    return weight + 1 if architecture.gemma else weight


def _fetch(result: Tensor) -> Callable[[], Tensor]:
    """Copy a result to the host after the pass, so that the next pass can begin meanwhile."""
    if result.device.type != "cuda":
        on_host = result.cpu()
        return lambda: on_host
    with current(result.device):
        copied = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        copied.copy_(result, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(result.device))

    def wait() -> Tensor:
        done.synchronize()
        return copied

    return wait
