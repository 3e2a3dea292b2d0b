"""Tokens per forward pass: constant on a CPU, tuned on a GPU, reduced when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

from harrier_core.budget import Budget


def climb(seconds: Callable[[int], float], passes: int = 100) -> Budget:
    """Run full passes on a device with the given speed."""
    budget = Budget(on_cpu=False)
    for _ in range(passes):
        tokens = budget.tokens(None)
        budget.ran([tokens // 2, tokens - tokens // 2], seconds(tokens))
    return budget


def test_it_grows_while_throughput_improves() -> None:
    """It stops at the first doubling that gains less than 5 %."""
    rates = {tokens: tokens / (0.0001 + tokens * 50e-9) for tokens in (2**power for power in range(12, 19))}
    found = climb(lambda tokens: 0.0001 + tokens * 50e-9).tokens(None)
    assert rates[found * 2] < 1.05 * rates[found]
    assert rates[found] >= 1.05 * rates[found // 2]


def test_one_slow_pass_does_not_matter() -> None:
    """The first pass may include compilation."""
    first = iter([30.0])
    assert climb(lambda tokens: next(first, 0.0001 + tokens * 50e-9)).tokens(None) > 4_096


def test_it_has_an_upper_limit() -> None:
    """Growth ends however fast the device seems."""
    assert climb(lambda _: 0.001).tokens(None) == 131_072


def test_small_passes_are_ignored() -> None:
    """Passes that are not full do not measure the device."""
    budget = Budget(on_cpu=False)
    for _ in range(100):
        budget.ran([10], 1.0)
    assert budget.tokens(None) == 4_096


def test_the_given_budget_takes_precedence() -> None:
    """It takes precedence over the tuned budget, and memory limits both."""
    budget = Budget(on_cpu=True)
    assert (budget.tokens(None), budget.tokens(30), budget.tokens(5_000)) == (1_024, 30, 5_000)
    budget.did_not_fit(3_000)
    assert (budget.tokens(None), budget.tokens(30), budget.tokens(5_000)) == (1_024, 30, 1_500)
    budget.did_not_fit(1_000)
    budget.did_not_fit(2_000)
    assert budget.tokens(None) == 500


def test_no_growth_beyond_memory() -> None:
    """A budget reduced for lack of memory does not grow again."""
    budget = Budget(on_cpu=False)
    budget.did_not_fit(10_000)
    for _ in range(100):
        tokens = budget.tokens(None)
        budget.ran([tokens], tokens * 1e-12 + 0.001)
    assert budget.tokens(None) <= 5_000
