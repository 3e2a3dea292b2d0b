"""Types that many modules name; imported only by type checkers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]  # (texts, dimensions)
Vector = NDArray[np.float32]  # (dimensions,)
