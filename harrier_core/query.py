"""What a search asks of a store. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harrier_core.filters import Condition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Queries that are answered together, in the same way."""

    vectors: NDArray[np.float32]  # (queries, dimensions), of unit length
    k: int
    where: Condition | None = None
    exact: bool = False  # compare all chunks, also where there is an index
    with_vectors: bool = False  # matches carry their own
    ef: int | None = None  # how many candidates an HNSW index keeps in sight; None: the store's own choice
