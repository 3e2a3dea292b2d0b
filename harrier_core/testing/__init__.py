"""For tests, here and in your own code: tiny real models that need no hub, and texts that break careless code.

`harrier_core.testing.contract` has the tests that every VectorStore must pass; it needs pytest. Models are built with
the packages of `harrier-kit[torch]`, which are imported when the first one is built; the rest needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harrier_core.extras import require
from harrier_core.testing.memory import MemoryStore
from harrier_core.testing.sample import AWKWARD, PROSE

if TYPE_CHECKING:
    from harrier_core.testing.models import ARCHITECTURES, Architecture, build_model, write_weights

__all__ = ["ARCHITECTURES", "AWKWARD", "PROSE", "Architecture", "MemoryStore", "build_model", "write_weights"]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require(f"{__name__}.{name}", "tokenizers")
    from harrier_core.testing import models

    return getattr(models, name)
