"""For tests, here and in your own code: tiny real models that need no hub, and texts that break careless code.

`harrier_core.testing.contract` has the tests that every VectorStore must pass; it needs pytest.
"""

from harrier_core.testing.memory import MemoryStore
from harrier_core.testing.models import ARCHITECTURES, Architecture, build_model, write_weights
from harrier_core.testing.sample import AWKWARD, PROSE

__all__ = ["ARCHITECTURES", "AWKWARD", "PROSE", "Architecture", "MemoryStore", "build_model", "write_weights"]
