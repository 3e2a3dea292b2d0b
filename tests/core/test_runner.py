"""Forward passes of a real tiny model on one device, with injected faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harrier_core.calls import unit_vectors
from harrier_core.device import choose
from harrier_core.models import open_model
from harrier_core.runner import Network, Runner, load
from harrier_core.stats import Meter
from harrier_core.token_rows import Row

ROWS = [Row([2 + number] * 5) for number in range(16)]


class Limited:
    """A network that runs out of memory above a number of tokens."""

    def __init__(self, network: Network, tokens: int) -> None:
        self._network, self._tokens = network, tokens
        self.passes: list[int] = []

    def launch(self, rows: Sequence[Row], *, precise: bool = False) -> Callable[[], torch.Tensor]:
        tokens = sum(len(row.rest) for row in rows)
        if tokens > self._tokens:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        self.passes.append(tokens)
        return self._network.launch(rows, precise=precise)


class Spoilt:
    """A network with NaN states for rows that begin with 3, unless it computes in float32."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.passes: list[tuple[int, bool]] = []

    def launch(self, rows: Sequence[Row], *, precise: bool = False) -> Callable[[], torch.Tensor]:
        self.passes.append((len(rows), precise))
        hidden = self._network.launch(rows, precise=precise)().clone()
        if not precise:
            hidden[[row.ids[0] == 3 for row in rows]] = torch.inf
        return lambda: hidden


@pytest.fixture
def network(built: Callable[..., Path]) -> Network:
    return load(open_model(str(built())), choose("qwen3", "cpu", "float32"))


def make_runner(network: Network, dtype: str = "float32") -> tuple[Runner, Meter]:
    meter = Meter("tiny")
    return Runner(network, choose("qwen3", "cpu", dtype), 64, meter), meter


def run(runner: Runner, rows: Sequence[Row]) -> Any:
    return unit_vectors(runner.finish(runner.launch(rows)))


def test_states_come_in_the_order_of_the_rows(network: Network) -> None:
    """Each row has the network's state, even if several passes overlap."""
    runner, meter = make_runner(network)
    states = runner.finish(runner.launch(ROWS))
    assert np.abs(states - network.launch(ROWS)().numpy()).max() < 1e-6
    first, second = runner.launch(ROWS[:3]), runner.launch(ROWS[3:])
    assert np.abs(runner.finish(first) - states[:3]).max() < 1e-5
    assert np.abs(runner.finish(second) - states[3:]).max() < 1e-5
    assert (meter.read(0).passes, meter.read(0).texts) == (3, 2 * len(ROWS))


def test_runners_do_not_share_what_they_learn(network: Network) -> None:
    """One runner reduces its passes, and the other does not."""
    small, large = Limited(network, 25), Limited(network, 1_000)
    (weak, weak_meter), (strong, strong_meter) = make_runner(small), make_runner(large)
    assert np.abs(run(weak, ROWS) - run(strong, ROWS)).max() < 1e-6
    assert (small.passes, large.passes) == ([20] * 4, [80])
    assert (weak_meter.read(0).retries, strong_meter.read(0).retries) == (3, 0)
    assert (weak.token_limit(None), strong.token_limit(None)) == (20, 1_024)
    assert (weak.token_limit(7), strong.token_limit(7)) == (7, 7)


def test_a_row_too_large_for_memory(network: Network) -> None:
    """It has no vector and is not counted, and the other rows are computed."""
    runner, meter = make_runner(Limited(network, 25))
    rows = [*ROWS[:2], Row([3] * 30), ROWS[2]]
    launched = runner.launch(rows)
    vectors = unit_vectors(runner.finish(launched))
    assert launched.too_large == {2}
    assert (runner.longest, meter.read(0).texts, meter.read(0).tokens) == (5, 3, 15)
    assert np.isnan(vectors[2]).all()
    assert np.abs(vectors[[0, 1, 3]] - run(runner, ROWS[:3])).max() < 1e-6


def test_a_pass_without_results(network: Network) -> None:
    """It is not counted, and does not measure the device's speed."""
    runner, meter = make_runner(Limited(network, 25))
    assert np.isnan(run(runner, [Row([3] * 30)])).all()
    assert (runner.longest, meter.read(0).passes) == (0, 0)


@pytest.mark.parametrize(("dtype", "passes"), [("bfloat16", [(4, False), (1, True)]), ("float32", [(4, False)])])
def test_rows_without_a_vector_run_again(network: Network, dtype: str, passes: list[tuple[int, bool]]) -> None:
    """They run again alone in float32, unless they ran in float32 before."""
    spoilt = Spoilt(network)
    runner, meter = make_runner(spoilt, dtype)
    vectors = run(runner, ROWS[:4])
    assert spoilt.passes == passes
    assert meter.read(0).retries == len(passes) - 1
    assert np.isfinite(vectors[[0, 2, 3]]).all()
    assert np.isfinite(vectors[1]).all() == (dtype == "bfloat16")


def test_other_errors_are_raised(network: Network) -> None:
    """They are not taken for a lack of memory, and the next pass works."""
    runner, meter = make_runner(network)
    with pytest.raises(IndexError):
        runner.launch([Row([10_000_000])])
    assert meter.read(0).retries == 0
    assert np.isfinite(run(runner, ROWS)).all()
