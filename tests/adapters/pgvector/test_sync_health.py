"""Health of a declared table: every transition, and invariants over any sequence of them."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from harrier_pgvector.sync import health as rules
from harrier_pgvector.sync.health import TableHealth
from hypothesis import given, settings
from hypothesis import strategies as st

# The end of a step: the number of setbacks when it began, and the time.
Event = Callable[[TableHealth, int, float], TableHealth]

SOUND = TableHealth()
ROWS = SOUND.rows_failed("a row", 10.0, 1.0)
STORE = SOUND.store_failed("no right", 10.0, 1.0)
BLOCKED = SOUND.cannot_go_on("no column", 10.0)
LASTING = STORE.store_failed("no right", 10.0 + rules._LASTING, 1.0)


def did_something(health: TableHealth, began: int, _now: float) -> TableHealth:
    return health.did_something(began)


def found_nothing(health: TableHealth, began: int, _now: float) -> TableHealth:
    return health.found_nothing(began, left=False)


def found_nothing_free(health: TableHealth, began: int, _now: float) -> TableHealth:
    return health.found_nothing(began, left=True)


def rows_failed(health: TableHealth, _began: int, now: float) -> TableHealth:
    return health.rows_failed("a row", now, 0.5)


def store_failed(health: TableHealth, _began: int, now: float) -> TableHealth:
    return health.store_failed("no right", now, 1.0)


def cannot_go_on(health: TableHealth, _began: int, now: float) -> TableHealth:
    return health.cannot_go_on("no column", now)


ENDINGS = [did_something, found_nothing, found_nothing_free]
ERRORS = [rows_failed, store_failed]
EVENTS = [*ENDINGS, *ERRORS, cannot_go_on]


class TestTransitions:
    """Each transition is caused by one event."""

    @pytest.mark.parametrize(
        ("before", "event", "changed"),
        [
            (SOUND, did_something, {}),
            (SOUND, found_nothing, {}),
            (SOUND, found_nothing_free, {}),
            (SOUND, rows_failed, {"trouble": "a row", "setbacks": 1, "pause": 0.1, "wait_until": 100.05}),
            (
                SOUND,
                store_failed,
                {"trouble": "no right", "setbacks": 1, "pause": 0.1, "wait_until": 100.1, "failing_since": 100.0},
            ),
            (
                SOUND,
                cannot_go_on,
                {"trouble": "no column", "setbacks": 1, "wait_until": 100.0 + rules._LOOK_AGAIN, "is_blocked": True},
            ),
            (ROWS, did_something, {"trouble": None, "pause": 0.0}),
            (ROWS, found_nothing, {"trouble": None, "pause": 0.0}),
            # A failed row waits for its next attempt, which says nothing about the table.
            (ROWS, found_nothing_free, {"trouble": None, "pause": 0.0}),
            (ROWS, rows_failed, {"setbacks": 2, "pause": 0.2, "wait_until": 100.1}),
            (
                ROWS,
                store_failed,
                {"trouble": "no right", "setbacks": 2, "pause": 0.2, "wait_until": 100.2, "failing_since": 100.0},
            ),
            (STORE, did_something, {"trouble": None, "pause": 0.0, "failing_since": None}),
            (STORE, found_nothing, {"trouble": None, "pause": 0.0, "failing_since": None}),
            # The remaining rows may be held by the lane that fails.
            (STORE, found_nothing_free, {}),
            (STORE, rows_failed, {"trouble": "a row", "setbacks": 2, "pause": 0.2, "wait_until": 100.1}),
            (STORE, store_failed, {"setbacks": 2, "pause": 0.2, "wait_until": 100.2, "is_blocked": True}),
            (LASTING, did_something, {"trouble": None, "pause": 0.0, "failing_since": None, "is_blocked": False}),
            (LASTING, found_nothing_free, {}),
            (BLOCKED, did_something, {"trouble": None, "is_blocked": False}),
            (BLOCKED, found_nothing, {"trouble": None, "is_blocked": False}),
            (BLOCKED, found_nothing_free, {}),
            (BLOCKED, rows_failed, {"trouble": "a row", "setbacks": 2, "pause": 0.1, "wait_until": 100.05}),
            (
                BLOCKED,
                store_failed,
                {"trouble": "no right", "setbacks": 2, "pause": 0.1, "wait_until": 100.1, "failing_since": 100.0},
            ),
            (BLOCKED, cannot_go_on, {"setbacks": 2, "wait_until": 100.0 + rules._LOOK_AGAIN}),
        ],
    )
    def test_a_success_that_began_after_the_last_setback(
        self, before: TableHealth, event: Event, changed: dict[str, Any]
    ) -> None:
        assert event(before, before.setbacks, 100.0) == replace(before, **changed)

    @pytest.mark.parametrize("before", [ROWS, STORE, LASTING, BLOCKED])
    @pytest.mark.parametrize("event", ENDINGS)
    def test_a_success_that_began_before_the_last_setback(self, before: TableHealth, event: Event) -> None:
        assert event(before, before.setbacks - 1, 100.0) == before

    def test_persistent_errors(self) -> None:
        """Persistent store errors block the table after a while; errors of rows never do."""
        almost = STORE.store_failed("no right", 10.0 + rules._LASTING - 0.01, 1.0)
        assert not almost.is_blocked
        assert almost.store_failed("no right", 10.0 + rules._LASTING, 1.0).is_blocked
        assert not almost.rows_failed("a row", 10.0 + 10 * rules._LASTING, 1.0).is_blocked

    def test_when_a_table_is_due(self) -> None:
        assert SOUND.may_run(0.0)
        assert not BLOCKED.may_run(10.0 + rules._LOOK_AGAIN - 0.01)
        assert BLOCKED.may_run(10.0 + rules._LOOK_AGAIN)


unhurried = settings(deadline=None)  # the machine may be busy

# Steps of two lanes: the event that ends each, the seconds before it, and the number of setbacks since it began.
steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0.0, 40.0), st.integers(0, 2)), max_size=40)


def lived(history: list[tuple[Event, float, int]]) -> tuple[TableHealth, float]:
    """Return the health after these steps, and the time."""
    health, now = TableHealth(), 1_000.0
    for event, seconds, stale in history:
        now += seconds
        health = event(health, max(0, health.setbacks - stale), now)
    return health, now


class TestProperties:
    """Invariants hold after any history."""

    @unhurried
    @given(steps, st.sampled_from(ENDINGS), st.integers(1, 9))
    def test_earlier_steps_never_undo_a_setback(
        self, history: list[tuple[Event, float, int]], ending: Event, stale: int
    ) -> None:
        health, now = lived(history)
        assert ending(health, health.setbacks - stale, now) == health

    @unhurried
    @given(steps, st.sampled_from([*ERRORS, cannot_go_on]), st.floats(0.0, 40.0))
    def test_no_error_shortens_a_wait_or_unblocks(
        self, history: list[tuple[Event, float, int]], error: Event, seconds: float
    ) -> None:
        """A late failure of another lane neither shortens a wait nor unblocks the table."""
        health, now = lived(history)
        after = error(health, health.setbacks, now + seconds)
        assert after.wait_until >= health.wait_until
        assert after.is_blocked >= health.is_blocked
        assert after.trouble
        assert after.setbacks == health.setbacks + 1

    @unhurried
    @given(steps)
    def test_only_permanent_or_persistent_errors_block(self, history: list[tuple[Event, float, int]]) -> None:
        since_store_failed: float | None = None
        could_block = False
        health, now = TableHealth(), 1_000.0
        for event, seconds, stale in history:
            now += seconds
            began = max(0, health.setbacks - stale)
            recovers = began == health.setbacks and (
                event in (did_something, found_nothing)
                or (event is found_nothing_free and since_store_failed is None and not could_block)
            )
            if recovers:
                since_store_failed, could_block = None, False
            elif event is store_failed:
                since_store_failed = now if since_store_failed is None else since_store_failed
                could_block = could_block or now - since_store_failed >= rules._LASTING
            elif event is cannot_go_on:
                could_block = True
            health = event(health, began, now)
            assert health.is_blocked == could_block

    @unhurried
    @given(steps, st.sampled_from([did_something, found_nothing]))
    def test_one_success_makes_it_sound(self, history: list[tuple[Event, float, int]], ending: Event) -> None:
        health, now = lived(history)
        after = ending(health, health.setbacks, now)
        assert not after.is_blocked
        assert not after.is_failing
        assert after.trouble is None
        assert after.rows_failed("a row", now, 1.0).pause == rules._FIRST_PAUSE

    @unhurried
    @given(steps, st.lists(st.sampled_from([*ERRORS, found_nothing_free]), max_size=20))
    def test_pauses_grow_and_are_bounded(self, history: list[tuple[Event, float, int]], errors: list[Event]) -> None:
        """Each store error doubles the pause; an idle lane does not shorten it."""
        health, now = lived(history)
        health = health.store_failed("no right", now, 1.0)
        for error in errors:
            after = error(health, health.setbacks, now)
            if error is found_nothing_free:
                assert after == health
            else:
                assert after.pause == min(2 * health.pause, rules._LOOK_AGAIN)
            health = after

    @unhurried
    @given(steps, st.floats(0.5, 1.0))
    def test_every_table_is_checked_again(self, history: list[tuple[Event, float, int]], jitter: float) -> None:
        """Every table, including blocked ones, is checked again within the regular interval."""
        health, now = lived(history)
        assert health.wait_until <= now + rules._LOOK_AGAIN
        assert health.may_run(now + rules._LOOK_AGAIN)
        assert health.store_failed("no right", now, jitter).wait_until <= now + rules._LOOK_AGAIN

    @unhurried
    @given(steps)
    def test_a_blocked_table_has_a_reason(self, history: list[tuple[Event, float, int]]) -> None:
        health, _ = lived(history)
        assert health.trouble or not (health.is_blocked or health.is_failing)


def test_it_is_deterministic() -> None:
    """The transitions use neither a clock nor randomness."""
    tree = ast.parse(inspect.getsource(rules))
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__", "dataclasses", "typing"}
