"""Attention between tokens: texts of any length in one pass, after beginnings that were computed earlier.

There are two ways to lay out a pass. `Groups` takes texts of equal length together, as a small batch without padding,
for scaled_dot_product_attention: any device. `Ragged` hands all texts at once to torch's kernel for variable lengths:
a GPU with flash attention.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, groupby
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

_BACKENDS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

KeysValues = tuple[Tensor, Tensor]  # each (tokens, key heads, head)
Beginnings = Mapping[tuple[int, ...], list[KeysValues]]  # by their token ids, one pair per layer


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a pass."""

    tokens: int  # its own, without the beginning
    beginning: tuple[int, ...] = ()  # the ids of the tokens before

    @property
    def offset(self) -> int:
        """The position of its first token."""
        return len(self.beginning)


class Layout(ABC):
    """The texts of one pass, one after the other."""

    def __init__(
        self,
        texts: Sequence[Text],
        beginnings: Beginnings,
        scale: float,
        device: torch.device,
    ) -> None:
        """`beginnings` are those of the texts."""
        self._texts = texts
        self._beginnings = beginnings
        self._scale = scale
        self.length = max(text.offset + text.tokens for text in texts)
        ends = torch.tensor(list(accumulate(text.tokens for text in texts)))
        starts = [torch.arange(text.offset, text.offset + text.tokens) for text in texts]
        self.positions = torch.cat(starts).to(device, non_blocking=True)  # (tokens,)
        self.last = (ends - 1).to(device, non_blocking=True)  # (texts,): the last token of each

    def to(self, device: torch.device) -> Self:
        """Return the same layout for the layers of another device. The keys of beginnings stay with their layers."""
        moved = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(moved, name, value.to(device, non_blocking=True))
        return moved

    @abstractmethod
    def attend(self, number: int, window: int | None, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return the attention output of each query in layer `number`, (queries, heads, head).

        Keys and values are those of all tokens, (tokens, key heads, head). Queries are those of all tokens, or of the
        last tokens only. A window is how many tokens each token sees, itself included; None means all before it.
        """


@dataclass(frozen=True, slots=True)
class _Group:
    """Adjacent texts of equal length after the same beginning, and their tokens in the pass."""

    begin: int
    texts: int
    text: Text

    @property
    def end(self) -> int:
        return self.begin + self.texts * self.text.tokens


class Groups(Layout):
    """Adjacent texts of equal length and beginning, attended to as a batch."""

    def __init__(self, texts: Sequence[Text], beginnings: Beginnings, scale: float, device: torch.device) -> None:
        super().__init__(texts, beginnings, scale, device)
        self._groups: list[_Group] = []
        for text, same in groupby(texts):
            begin = self._groups[-1].end if self._groups else 0
            self._groups.append(_Group(begin, len(list(same)), text))

    def attend(self, number: int, window: int | None, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to one group at a time."""
        attended = []
        begin = 0
        final = len(queries) < len(keys)
        for group in self._groups:
            asking = group.texts * (1 if final else group.text.tokens)
            seen = slice(group.begin, group.end)
            own = queries[begin : begin + asking], keys[seen], values[seen]
            attended.append(self._attend_group(number, window, group, *own))
            begin += asking
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _attend_group(
        self, number: int, window: int | None, group: _Group, queries: Tensor, keys: Tensor, values: Tensor
    ) -> Tensor:
        queries = queries.unflatten(0, (group.texts, -1)).transpose(1, 2)  # (texts, heads, asking, head)
        keys, values = (
            each.unflatten(0, (group.texts, -1)).transpose(1, 2) for each in (keys, values)
        )  # (texts, key heads, tokens, head)
        if group.text.beginning:
            before = self._beginnings[group.text.beginning][number]
            keys, values = (
                torch.cat([shared.transpose(0, 1).expand(group.texts, -1, -1, -1), own], dim=2)
                for shared, own in zip(before, (keys, values), strict=True)
            )  # (texts, key heads, offset + tokens, head)
        seen = _attend(queries, keys, values, window, self._scale)  # (texts, heads, asking, head)
        return seen.transpose(1, 2).flatten(0, 1)


def _attend(queries: Tensor, keys: Tensor, values: Tensor, window: int | None, scale: float) -> Tensor:
    """Attend from the last tokens to all of (texts, key heads, tokens, head), giving (texts, heads, asking, head)."""
    asking, total = queries.shape[2], keys.shape[2]
    local = window is not None and window < total
    mask = None
    if asking == 1:
        if local and window:
            keys, values = keys[:, :, -window:], values[:, :, -window:]
    elif local and window and total > 2 * window:
        return _attend_blocks(queries, keys, values, window, scale)
    elif local or asking < total:
        mask = _mask(total - asking, total, 0, total, window, keys.device)
    # Copies, because an expanded view gives a wrong last row on some GPUs at lengths 33, 65, 97 (pytorch 191937).
    keys, values = (each.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1) for each in (keys, values))
    return _attend_with_sdpa(queries, keys, values, mask, scale, causal=mask is None and asking > 1)


def _attend_with_sdpa(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scale: float, *, causal: bool = False
) -> Tensor:
    """Call torch's attention without cuDNN's kernels, which compute a plan for each new shape."""
    with sdpa_kernel(_BACKENDS) if queries.is_cuda else nullcontext():
        return F.scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, scale=scale)


def _attend_blocks(queries: Tensor, keys: Tensor, values: Tensor, window: int, scale: float) -> Tensor:
    """Attend to a window's worth of queries at a time, with only the keys and values that they can see."""
    asking, total = queries.shape[2], keys.shape[2]
    repeats = queries.shape[1] // keys.shape[1]
    attended = []
    for begin in range(total - asking, total, window):
        end = min(begin + window, total)
        first = max(0, begin - window + 1)
        asked = queries[:, :, begin - (total - asking) : end - (total - asking)]
        seen, told = (each[:, :, first:end].repeat_interleave(repeats, dim=1) for each in (keys, values))
        mask = _mask(begin, end, first, end, window, keys.device)
        attended.append(_attend_with_sdpa(asked, seen, told, mask, scale))
    return torch.cat(attended, dim=2)


def _mask(begin: int, end: int, first: int, last: int, window: int | None, device: torch.device) -> Tensor:
    """Return whether tokens `begin` to `end` see tokens `first` to `last`, (end - begin, last - first)."""
    rows = torch.arange(begin, end, device=device)[:, None]
    columns = torch.arange(first, last, device=device)
    seen = columns <= rows
    return seen if window is None else seen & (columns > rows - window)


class Varlen(NamedTuple):
    """Torch's kernel for texts of variable lengths, and the names of its parameters, which differ by release."""

    attend: Callable[..., Any]
    parameters: frozenset[str]


@cache
def varlen() -> Varlen | None:
    """Import the kernel if this torch has it: 2.10, the first that did, had no windows. The import takes a second."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    parameters = frozenset(inspect.signature(varlen_attn).parameters)
    return Varlen(varlen_attn, parameters) if {"window_size", "scale"} <= parameters else None


def can_be_ragged(device: torch.device, dtype: torch.dtype, head: int) -> bool:
    """Return whether torch's kernel for variable lengths exists and accepts these arguments."""
    return (
        device.type == "cuda"
        and dtype in (torch.bfloat16, torch.float16)
        and head <= 256
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and varlen() is not None
    )


class Ragged(Layout):
    """All texts in one call of the kernel, whatever their lengths."""

    def __init__(self, texts: Sequence[Text], beginnings: Beginnings, scale: float, device: torch.device) -> None:
        super().__init__(texts, beginnings, scale, device)
        self._kernel = cast("Varlen", varlen())  # `can_be_ragged` checked that it exists
        self._asked = _bounds((text.tokens for text in texts), device)
        self._asked_last = _bounds((1 for _ in texts), device)
        self._seen = _bounds((text.offset + text.tokens for text in texts), device)
        self._longest = max(text.tokens for text in texts)
        self._order = torch.tensor(self._sources(), device=device) if self._beginnings else None

    def widen(self, tokens: int) -> None:
        """Make room for texts of the given number of tokens, before taking over other layouts."""
        self.length += tokens - self._longest
        self._longest = tokens

    def become(self, other: Ragged) -> None:
        """Take over, in place, another layout of as many texts and tokens after the same beginning."""
        for name in ("positions", "last", "_asked", "_seen"):
            getattr(self, name).copy_(getattr(other, name), non_blocking=True)
        if self._order is not None and other._order is not None:
            self._order.copy_(other._order, non_blocking=True)

    def _sources(self) -> list[int]:
        """Return where the keys that each text sees are, with the keys of all beginnings before those of the tokens."""
        starts = dict(zip(self._beginnings, accumulate(map(len, self._beginnings), initial=0), strict=False))
        own = sum(map(len, self._beginnings))
        sources: list[int] = []
        for text in self._texts:
            if text.beginning:
                sources += range(starts[text.beginning], starts[text.beginning] + text.offset)
            sources += range(own, own + text.tokens)
            own += text.tokens
        return sources

    def attend(self, number: int, window: int | None, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend to all texts at once."""
        final = len(queries) < len(keys)
        if self._order is not None:
            before = [kept[number] for kept in self._beginnings.values()]
            keys = torch.cat([*(shared for shared, _ in before), keys])[self._order]
            values = torch.cat([*(shared for _, shared in before), values])[self._order]
        kernel, known = self._kernel
        # One split, so that a text's vector does not depend on which others are in the pass.
        options: dict[str, Any] = {"num_splits": 1} if "num_splits" in known else {}
        repeats = queries.shape[1] // keys.shape[1]
        if repeats > 1 and "enable_gqa" in known:
            options["enable_gqa"] = True
        elif repeats > 1:  # torch 2.11 wants a key head for each query head
            keys, values = (each.repeat_interleave(repeats, dim=1) for each in (keys, values))
        return kernel(  # type: ignore[no-any-return]
            queries,
            keys,
            values,
            self._asked_last if final else self._asked,
            self._seen,
            1 if final else self._longest,
            self.length,
            scale=self._scale,
            window_size=(-1 if window is None else window - 1, 0),
            **options,
        )


def _bounds(lengths: Iterable[int], device: torch.device) -> Tensor:
    """Return where each text begins, and where the last one ends."""
    return torch.tensor(list(accumulate(lengths, initial=0)), dtype=torch.int32).to(device, non_blocking=True)
