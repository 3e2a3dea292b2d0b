"""The forward pass of Qwen3 and Gemma 3 over packed tokens, to the last token of each text and no further.

Texts lie one behind the other, without padding, equal lengths together. Projections see them as one matrix; attention
sees each group of equal lengths as a small batch. What texts begin with alike (a task's instruction) goes through
once, and its keys and values are kept, which is exact, because a decoder never looks ahead.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from harrier_core.architecture import Architecture, Layer
from harrier_core.checkpoint import Checkpoint
from harrier_core.device import Placement
from harrier_core.errors import DeviceError
from harrier_core.packing import Row, by_length

KeysValues = tuple[Tensor, Tensor]  # each (key heads, tokens, head)

_KEPT_BEGINNINGS = 16  # tasks in use at once; 20 tokens of the 270m model are 0.7 MB
_LEAST_ANGLES = 512


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of one length behind one beginning: which tokens of the pass are theirs."""

    begin: int
    texts: int
    tokens: int  # of each text, the beginning apart
    offset: int  # tokens of the beginning
    shared: list[KeysValues] | None  # of the beginning, a pair a layer

    @property
    def end(self) -> int:
        """The first token that is not theirs."""
        return self.begin + self.texts * self.tokens


@dataclass(frozen=True, slots=True)
class Pass:
    """What all layers need to know of the tokens."""

    groups: list[Group]
    positions: Tensor  # (tokens,)
    last: Tensor  # (texts,): the last token of each


class Decoder:
    """A loaded model. It is not for two threads at once."""

    def __init__(self, architecture: Architecture, checkpoint: Checkpoint, placement: Placement) -> None:
        self._architecture = architecture
        self._device = torch.device(placement.device)
        self._dtype: torch.dtype = getattr(torch, placement.dtype)
        self._angles: dict[tuple[float, float], tuple[Tensor, Tensor]] = {}
        self._beginnings: OrderedDict[tuple[int, ...], list[KeysValues]] = OrderedDict()
        try:
            self._load(checkpoint)
        except torch.OutOfMemoryError:
            raise DeviceError(f"the model does not fit into the memory of {self._device}; use a smaller one") from None

    def _load(self, checkpoint: Checkpoint) -> None:
        place = partial(Tensor.to, device=self._device, dtype=self._dtype)
        self._embeddings = place(checkpoint.tensor("embed_tokens.weight"))  # (vocabulary, hidden)
        self._blocks = [
            Block(self._architecture, number, checkpoint, place) for number in range(len(self._architecture.layers))
        ]
        self._norm = place(_norm(self._architecture, checkpoint, "norm.weight"))

    @torch.inference_mode()
    def last_hidden(self, rows: Sequence[Row]) -> Tensor:
        """The final hidden state of each row's last token, (rows, hidden), float32, on the host, in their order."""
        groups: list[Group] = []
        order: list[int] = []
        for numbers in by_length(rows):
            first = rows[numbers[0]]
            begin = groups[-1].end if groups else 0
            shared = self._beginning(first.shared) if first.shared else None
            groups.append(Group(begin, len(numbers), len(first.rest), len(first.shared), shared))
            order += numbers
        hidden = self._forward([rows[number].rest for number in order], groups)
        hidden = F.rms_norm(hidden, (self._architecture.hidden,), self._norm, self._architecture.epsilon)
        result = torch.empty(hidden.shape)
        result[order] = hidden.float().cpu()
        return result

    def _beginning(self, ids: tuple[int, ...]) -> list[KeysValues]:
        """The keys and values of a beginning in every layer, computed at its first use."""
        if ids not in self._beginnings:
            kept: list[KeysValues] = []
            self._forward([ids], [Group(0, 1, len(ids), 0, None)], kept)
            self._beginnings[ids] = kept
            if len(self._beginnings) > _KEPT_BEGINNINGS:
                self._beginnings.popitem(last=False)
        self._beginnings.move_to_end(ids)
        return self._beginnings[ids]

    def _forward(
        self, rows: Sequence[Sequence[int]], groups: list[Group], keep: list[KeysValues] | None = None
    ) -> Tensor:
        """Hidden states of the last tokens before the final norm, (texts, hidden); `keep` collects keys and values."""
        ids = torch.tensor([id_ for row in rows for id_ in row], device=self._device)  # (tokens,)
        tokens = self._layout(groups)
        hidden = F.embedding(ids, self._embeddings)  # (tokens, hidden)
        if self._architecture.gemma:
            hidden = hidden * torch.tensor(
                self._architecture.hidden**0.5, dtype=self._dtype
            )  # rounded as transformers does
        for number, block in enumerate(self._blocks):
            angles = self._rope(block.layer, max(group.offset + group.tokens for group in groups))
            hidden = block(hidden, tokens, angles, keep, final=number == len(self._blocks) - 1)
        return hidden

    def _layout(self, groups: list[Group]) -> Pass:
        positions = [torch.arange(group.offset, group.offset + group.tokens).repeat(group.texts) for group in groups]
        last = [torch.arange(group.begin + group.tokens - 1, group.end, group.tokens) for group in groups]
        return Pass(groups, torch.cat(positions).to(self._device), torch.cat(last).to(self._device))

    def _rope(self, layer: Layer, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary angles, each (positions, 1, head / 2)."""
        key = (layer.rope_base, layer.rope_stretch)
        if key not in self._angles or len(self._angles[key][0]) < length:
            head = self._architecture.head
            # In float32 and in this order, as transformers computes them: at position 30,000 the last bits show.
            speeds = 1.0 / (layer.rope_base ** (torch.arange(0, head, 2).float() / head)) / layer.rope_stretch
            positions = torch.arange(max(_LEAST_ANGLES, 2 ** (length - 1).bit_length())).float()
            angles = (positions[:, None] * speeds)[:, None]
            cosines, sines = (each.to(self._device, self._dtype) for each in (angles.cos(), angles.sin()))
            self._angles[key] = cosines, sines
        return self._angles[key]


class Block:
    """One layer: attention, then the gated projections. Norms before a projection are folded into its weights."""

    def __init__(
        self, architecture: Architecture, number: int, checkpoint: Checkpoint, place: Callable[[Tensor], Tensor]
    ) -> None:
        def tensor(name: str) -> Tensor:
            return checkpoint.tensor(f"layers.{number}.{name}.weight").float()

        def norm(name: str) -> Tensor:
            return _norm(architecture, checkpoint, f"layers.{number}.{name}.weight")

        before_mlp = "pre_feedforward_layernorm" if architecture.gemma else "post_attention_layernorm"
        attention = [tensor(f"self_attn.{each}_proj") for each in "qkv"]
        mlp = [tensor(f"mlp.{each}_proj") for each in ("gate", "up")]
        self.layer = architecture.layers[number]
        self._number = number
        self._architecture = architecture
        self._queries_keys_values = place(torch.cat(attention) * norm("input_layernorm"))  # (all heads, hidden)
        self._query_norm, self._key_norm = place(norm("self_attn.q_norm")), place(norm("self_attn.k_norm"))  # (head,)
        self._out = place(tensor("self_attn.o_proj"))  # (hidden, query heads)
        self._gate_up = place(torch.cat(mlp) * norm(before_mlp))  # (2 inner, hidden)
        self._down = place(tensor("mlp.down_proj"))  # (hidden, inner)
        self._after_attention = place(norm("post_attention_layernorm")) if architecture.gemma else None  # (hidden,)
        self._after_mlp = place(norm("post_feedforward_layernorm")) if architecture.gemma else None

    def __call__(
        self,
        hidden: Tensor,
        tokens: Pass,
        angles: tuple[Tensor, Tensor],
        keep: list[KeysValues] | None,
        *,
        final: bool,
    ) -> Tensor:
        """(tokens, hidden) to (tokens, hidden); in the final layer to (texts, hidden), of the last tokens only."""
        queries, keys, values = self._project(hidden, tokens, angles, final=final)
        if keep is not None:
            keep.append((keys.transpose(0, 1).contiguous(), values.transpose(0, 1).contiguous()))
        if final:
            hidden = hidden[tokens.last]
        attended = F.linear(self._attend(queries, keys, values, tokens.groups, final=final), self._out)
        hidden = hidden + self._normed(attended, self._after_attention)
        gate, up = F.linear(self._plain(hidden), self._gate_up).chunk(2, dim=1)  # (tokens, inner) each
        gate = F.gelu(gate, approximate="tanh") if self._architecture.gemma else F.silu(gate)
        return hidden + self._normed(F.linear(gate * up, self._down), self._after_mlp)

    def _project(
        self, hidden: Tensor, tokens: Pass, angles: tuple[Tensor, Tensor], *, final: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (tokens, heads, head), normed and turned to their positions."""
        a = self._architecture
        sizes = [a.heads * a.head, a.key_heads * a.head, a.key_heads * a.head]
        normed = self._plain(hidden)
        if final:  # nobody needs what the other tokens ask for
            queries = F.linear(normed[tokens.last], self._queries_keys_values[: sizes[0]])
            keys, values = F.linear(normed, self._queries_keys_values[sizes[0] :]).split(sizes[1:], dim=1)
        else:
            queries, keys, values = F.linear(normed, self._queries_keys_values).split(sizes, dim=1)
        asking = tokens.positions[tokens.last] if final else tokens.positions
        queries = F.rms_norm(queries.unflatten(1, (a.heads, a.head)), (a.head,), self._query_norm, a.epsilon)
        keys = F.rms_norm(keys.unflatten(1, (a.key_heads, a.head)), (a.head,), self._key_norm, a.epsilon)
        return (
            _turn(queries, angles, asking),
            _turn(keys, angles, tokens.positions),
            values.unflatten(1, (a.key_heads, a.head)),
        )

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, groups: list[Group], *, final: bool) -> Tensor:
        """What the tokens see, (tokens, query heads * head), one group of equal lengths at a time."""
        attended = []
        begin = 0
        for group in groups:
            asking = group.texts * (1 if final else group.tokens)
            seen = slice(group.begin, group.end)
            attended.append(self._attend_group(queries[begin : begin + asking], keys[seen], values[seen], group))
            begin += asking
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _attend_group(self, queries: Tensor, keys: Tensor, values: Tensor, group: Group) -> Tensor:
        a = self._architecture
        queries = queries.unflatten(0, (group.texts, -1)).transpose(1, 2)  # (texts, heads, asking, head)
        keys, values = (
            each.unflatten(0, (group.texts, -1)).transpose(1, 2) for each in (keys, values)
        )  # (texts, key heads, tokens, head)
        if group.shared is not None:
            before = group.shared[self._number]
            keys, values = (
                torch.cat([shared.expand(group.texts, -1, -1, -1), own], dim=2)
                for shared, own in zip(before, (keys, values), strict=True)
            )  # (texts, key heads, offset + tokens, head)
        keys, values, mask = self._limit(queries.shape[2], keys, values)
        if a.key_heads < a.heads:  # copies: an expanded view gives a wrong last row on some GPUs (pytorch 191937)
            keys, values = (each.repeat_interleave(a.heads // a.key_heads, dim=1) for each in (keys, values))
        causal = mask is None and queries.shape[2] > 1
        seen = F.scaled_dot_product_attention(
            queries, keys, values, mask, is_causal=causal, scale=a.attention_scale
        )  # (texts, heads, asking, head)
        return seen.transpose(1, 2).flatten(2).flatten(0, 1)

    def _limit(self, asking: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The keys and values that the last `asking` tokens may see, and a mask where it is not all before them."""
        total, window = keys.shape[2], self.layer.window
        local = window is not None and window < total
        if asking == 1:
            return (keys[:, :, -window:], values[:, :, -window:], None) if local and window else (keys, values, None)
        if asking == total and not local:
            return keys, values, None
        rows = torch.arange(total - asking, total, device=keys.device)[:, None]
        columns = torch.arange(total, device=keys.device)
        mask = columns <= rows  # (asking, total)
        if local and window:
            mask &= columns > rows - window
        return keys, values, mask

    def _plain(self, hidden: Tensor) -> Tensor:
        """Normed without weights, which the next projection has in it."""
        return F.rms_norm(hidden, (self._architecture.hidden,), None, self._architecture.epsilon)

    def _normed(self, added: Tensor, weight: Tensor | None) -> Tensor:
        """What a branch adds, normed once more if the architecture does so."""
        return added if weight is None else F.rms_norm(added, added.shape[-1:], weight, self._architecture.epsilon)


def _turn(heads: Tensor, angles: tuple[Tensor, Tensor], positions: Tensor) -> Tensor:
    """(tokens, heads, head), each pair of coordinates turned by the angle of the token's position."""
    cosines, sines = (each[positions] for each in angles)  # (tokens, 1, head / 2)
    one, two = heads.chunk(2, dim=-1)
    return torch.cat((one * cosines - two * sines, two * cosines + one * sines), dim=-1)


def _norm(architecture: Architecture, checkpoint: Checkpoint, name: str) -> Tensor:
    """A norm's weight in float32; Gemma stores it less one."""
    weight = checkpoint.tensor(name).float()
    return weight + 1 if architecture.gemma else weight
