"""One loaded model, from rows of token ids to final hidden states.

A pass that does not fit into memory runs in halves, and rows whose states are not finite run again in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import torch

from harrier_core.architecture import read_architecture
from harrier_core.budget import Budget
from harrier_core.calls import bad_rows
from harrier_core.checkpoint import Checkpoint
from harrier_core.decoder import Decoder
from harrier_core.device import Placement
from harrier_core.errors import ModelUnsupported, ModelWarning
from harrier_core.models import Model, weight_files
from harrier_core.stats import Meter
from harrier_core.token_rows import Row

if TYPE_CHECKING:
    from harrier_core.fallback import Fallback
    from harrier_core.types import Vectors

Hidden = Callable[[], torch.Tensor]  # waits for final hidden states, (rows, dimensions), float32, on the host


class Network(Protocol):
    """A loaded model: `Decoder` or `Fallback`."""

    def launch(self, rows: Sequence[Row], *, precise: bool = False) -> Hidden:
        """Begin a pass, in float32 if it has to be precise."""


@dataclass(slots=True)
class Launched:
    """A pass that was begun, in as many parts as memory required."""

    rows: Sequence[Row]
    begun: float = field(default_factory=perf_counter)
    parts: list[tuple[Sequence[int], Hidden]] = field(default_factory=list)  # each with the positions of its rows
    too_large: set[int] = field(default_factory=set)  # positions of rows that do not fit into memory even alone
    crowded: set[int] = field(default_factory=set)  # of rows that would fit if others had not taken the memory

    def write(self, states: torch.Tensor) -> None:
        """Wait for all parts, and write their hidden states to the positions of their rows."""
        for positions, hidden in self.parts:
            states[positions] = hidden()
        self.parts.clear()

    @property
    def without(self) -> set[int]:
        """The positions of the rows that did not run."""
        return self.too_large | self.crowded

    def bad_rows(self, states: torch.Tensor) -> list[int]:
        """Return the positions of the rows that ran but have no usable hidden state."""
        return [position for position in bad_rows(states.numpy()) if position not in self.without]


class Runner:
    """One loaded model. It must not be used by two threads at once; several may each run on their own thread."""

    def __init__(self, network: Network, placement: Placement, dimensions: int, meter: Meter) -> None:
        self._network = network
        self._placement = placement
        self._dimensions = dimensions
        self._meter = meter
        self._budget = Budget(on_cpu=placement.kind == "cpu")
        self._busy_until = perf_counter()
        self.longest = 0  # the token count of the longest text that ran, with its prompt
        # A GPU takes the next pass before the last one is awaited. A CPU has nothing to do in the meantime.
        self.overlaps = placement.kind != "cpu"

    def token_limit(self, asked: int | None) -> int:
        """Return how many tokens a pass may have here, for a call that asked for this many, or did not say."""
        return self._budget.tokens(asked)

    def launch(self, rows: Sequence[Row]) -> Launched:
        """Begin a pass."""
        launched, fits = Launched(rows), self._budget.fits
        self._launch(launched, range(len(rows)))
        if launched.crowded:  # longer ones are not known to be too long
            launched.crowded |= launched.too_large
            launched.too_large.clear()
            self._budget.forget(fits)
        return launched

    def _launch(self, launched: Launched, positions: Sequence[int], *, precise: bool = False) -> None:
        """Begin to run some rows of a pass; if memory runs out, in halves, down to single rows."""
        hidden = _try_to_launch(self._network, [launched.rows[position] for position in positions], precise)
        if hidden:
            launched.parts.append((positions, hidden))
            return
        if self._placement.kind == "cuda":
            torch.cuda.empty_cache()
        self._budget.did_not_fit(sum(len(launched.rows[position].rest) for position in positions))
        if len(positions) == 1:
            ran_before = not precise and _tokens(launched.rows[positions[0]]) <= self.longest
            (launched.crowded if ran_before else launched.too_large).update(positions)
            return
        self._meter.retried()
        half = len(positions) // 2
        self._launch(launched, positions[:half], precise=precise)
        self._launch(launched, positions[half:], precise=precise)

    def finish(self, launched: Launched) -> Vectors:
        """Wait for the end of a pass, and return its hidden states; those of rows that did not run are NaN."""
        states = torch.full((len(launched.rows), self._dimensions), torch.nan)
        launched.write(states)
        bad = launched.bad_rows(states)
        if bad and self._placement.dtype in ("bfloat16", "float16"):
            self._meter.retried()
            self._launch(launched, bad, precise=True)
            launched.write(states)
        self._measure(launched)
        return states.numpy()

    def _measure(self, launched: Launched) -> None:
        """Record how long a pass kept the device busy; the device may already have been busy when the pass began."""
        now = perf_counter()
        seconds = now - max(launched.begun, self._busy_until)
        self._busy_until = now
        ran = [row for position, row in enumerate(launched.rows) if position not in launched.without]
        if ran:
            self.longest = max(self.longest, *map(_tokens, ran))
            self._meter.ran(ran, seconds)
            self._budget.ran([len(row.rest) for row in ran], seconds)
        elif launched.crowded:
            self._meter.failed()


def _tokens(row: Row) -> int:
    return len(row.shared) + len(row.rest)


def _try_to_launch(network: Network, rows: Sequence[Row], precise: bool) -> Hidden | None:
    """Return None if memory is not enough; what was allocated is free again once the error has been handled."""
    try:
        return network.launch(rows, precise=precise)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory: CUDA has a class for it, Apple's GPUs and CPUs a RuntimeError."""
    said = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in said for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def load(model: Model, placement: Placement) -> Network:
    """Return a model's network, loaded on its device or devices."""
    files = weight_files(model)
    try:
        architecture = read_architecture(model.config)
    except ModelUnsupported as reason:
        return _load_fallback(model, placement, reason)
    return Decoder(architecture, Checkpoint(files, architecture.weight_shapes()), placement)


def _load_fallback(model: Model, placement: Placement, reason: ModelUnsupported) -> Fallback:
    from harrier_core.fallback import Fallback  # transformers takes a second to import, and few models need it

    fallback = Fallback(model.folder, placement)
    warnings.warn(
        f"{model.name} runs on plain transformers, which is slower: the kit's own forward pass does not support it, "
        f"because {reason}",
        ModelWarning,
        stacklevel=3,
    )
    return fallback
