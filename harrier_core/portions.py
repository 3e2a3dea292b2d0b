"""The texts of one call, encoded in several parts, with their vectors as one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harrier_core.embedder import Encoded
from harrier_core.errors import InputError, positions_of_all, raise_problems
from harrier_core.pacing import parts

if TYPE_CHECKING:
    from harrier_core.types import Vectors

Encode = Callable[[Sequence[Any]], Awaitable[Encoded]]


async def encoded_in_parts(texts: Sequence[Any], sizes: Sequence[int], most: int, encode: Encode) -> Encoded:
    """Return the vectors of texts, encoded in parts of at most the given total size, all begun at once.

    Errors about texts are raised for all parts together. After a cancellation or another error, the rest is dropped.
    """
    portions = list(parts(sizes, most))
    if len(portions) == 1:
        return await encode(texts)

    async def part(portion: Sequence[int]) -> Encoded | InputError:
        with positions_of_all(portion.__getitem__):
            try:
                return await encode([texts[at] for at in portion])
            except InputError as error:  # the other parts may contain such texts as well
                return type(error)([replace(each, position=portion[each.position]) for each in error.problems])

    jobs = [asyncio.ensure_future(part(portion)) for portion in portions]
    try:
        done = await asyncio.gather(*jobs)
    finally:
        for job in jobs:
            job.cancel()
    raise_problems([each for answer in done if isinstance(answer, InputError) for each in answer.problems])
    return _joined([answer for answer in done if isinstance(answer, Encoded)], portions)


def _joined(encoded: Sequence[Encoded], portions: Sequence[Sequence[int]]) -> Encoded:
    """Return the parts as one, in the order of the texts: each part is a run of adjacent ones."""
    import numpy as np

    vectors: Vectors = np.concatenate([each.vectors for each in encoded])
    tokens = [count for each in encoded for count in each.tokens]
    cut = [portion[at] for each, portion in zip(encoded, portions, strict=True) for at in each.truncated]
    return Encoded(vectors, tokens, cut)
