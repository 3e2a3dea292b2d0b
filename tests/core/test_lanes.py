"""The scheduler alone, without a model or a thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harrier_core.calls import Call
from harrier_core.lanes import _AHEAD, _PATIENCE, Lanes, Pass
from harrier_core.token_rows import Row

LIMIT = 10


def limit(asked: int | None) -> int:
    """Limit the tokens of a pass, unless a call asks for another limit."""
    return asked or LIMIT


def make_call(
    windows: Sequence[Sequence[int]], *, urgent: bool = False, budget: int | None = None, owner: object = None
) -> Call:
    """Return a call whose rows have these token counts, with its first window fetched."""
    rows = sum(map(len, windows))
    fetched = iter([[Row([7] * length) for length in window] for window in windows])
    vectors, tokens = np.empty((rows, 2), dtype=np.float32), np.zeros(rows, dtype=np.int32)
    call = Call(fetched, range(rows), vectors, tokens, set(), budget, urgent, owner=owner)
    call.add(call.fetch())
    return call


def lengths(pass_: Pass | None) -> list[int]:
    assert pass_
    return [len(row.rest) for row in pass_.rows]


def lanes_of(*calls: Call) -> Lanes:
    lanes = Lanes()
    for call in calls:
        lanes.add(call)
    return lanes


def passes(lanes: Lanes) -> list[Pass]:
    """Return all passes until no rows wait."""
    return list(iter(lambda: lanes.next_pass(limit), None))


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([[4]], [[4]]),
        ([[4, 6, 2]], [[6, 4], [2]]),
        ([[4, 6, 11, 4, 2]], [[11], [6, 4], [4, 2]]),  # longer than the limit: alone
        ([[10], [10]], [[10], [10]]),
        ([[2], [9], [3]], [[2], [9], [3]]),  # the longest first within a window, not among windows
        ([[1, 1, 1]], [[1, 1, 1]]),
        ([[20, 20]], [[20], [20]]),
    ],
)
def test_a_pass_keeps_to_the_limit(windows: list[list[int]], expected: list[list[int]]) -> None:
    call = make_call(windows)
    for window in windows[1:]:
        call.add([Row([7] * length) for length in window])
    lanes = lanes_of(call)
    assert [lengths(pass_) for pass_ in passes(lanes)] == expected
    assert lanes.calls == []


def test_the_first_call_decides_the_limit() -> None:
    """A call with a lower limit may join the pass of one with a higher limit."""
    large, small = make_call([[6, 6]], budget=20), make_call([[4, 4]], budget=4)
    assert [lengths(pass_) for pass_ in passes(lanes_of(large, small))] == [[6, 6, 4, 4]]
    large, small = make_call([[6, 6]], budget=20), make_call([[4, 4]], budget=4)
    assert [lengths(pass_) for pass_ in passes(lanes_of(small, large))] == [[4], [4], [6, 6]]


def test_a_pass_of_queries_has_no_documents() -> None:
    """Documents would delay the queries."""
    lanes = lanes_of(make_call([[1]]), make_call([[2]], urgent=True), make_call([[3]], urgent=True))
    assert [lengths(pass_) for pass_ in passes(lanes)] == [[2, 3], [1]]


def test_documents_do_not_starve() -> None:
    """After eight passes of queries, documents run once, and queries fill the rest of the pass."""
    queries = make_call([[9] * (2 * _PATIENCE) + [1]], urgent=True)
    documents = make_call([[5, 5]])
    lanes = lanes_of(queries, documents)
    first = [lengths(lanes.next_pass(limit)) for _ in range(_PATIENCE)]
    assert first == [[9]] * _PATIENCE
    assert lengths(lanes.next_pass(limit)) == [5, 5]
    alone = lanes_of(make_call([[9] * _PATIENCE + [3]], urgent=True), make_call([[5]]))
    assert [lengths(pass_) for pass_ in passes(alone)][-1] == [5, 3]


def test_one_query_among_many() -> None:
    """It runs in the next pass, whoever asks, although the others came first and go on."""
    many = [make_call([[1] * 256], urgent=True, owner="bulk") for _ in range(8)]
    for owner in ("bulk", "another", None):
        one = make_call([[1]], urgent=True, owner=owner)
        lanes = lanes_of(*many, one)
        first = lanes.next_pass(limit)
        assert first
        assert one in first.calls
        assert lengths(first) == [1] * LIMIT


def test_owners_share_passes_of_queries() -> None:
    """Each gets as many tokens, however many calls it has, and what others leave."""
    many = [make_call([[1] * 100], urgent=True, owner="bulk") for _ in range(30)]
    one = make_call([[1] * 20], urgent=True, owner="another")
    lanes = lanes_of(*many, one)
    ran: Counter[object] = Counter()
    for _ in range(4):
        pass_ = lanes.next_pass(limit)
        assert pass_
        ran.update(call.owner for call, _ in numbered(pass_))
    assert ran == {"bulk": 20, "another": 20}
    assert lengths(lanes.next_pass(limit)) == [1] * LIMIT


def test_a_long_query_beside_short_ones_of_its_owner() -> None:
    """The short ones run, but do not count as its turn."""
    bulk = [make_call([[1] * 3], urgent=True, owner="bulk") for _ in range(200)]
    lanes = lanes_of(*bulk)
    long = make_call([[LIMIT - 1]], urgent=True, owner="another")
    lanes.add(long)
    for _ in range(4):
        lanes.add(make_call([[1]], urgent=True, owner="another"))
        pass_ = lanes.next_pass(limit)
        assert pass_
        if long in pass_.calls:
            return
    pytest.fail("it waits for all queries of the other one")


def test_calls_of_an_owner_end_one_after_another() -> None:
    """Otherwise a caller who sends the next one after each would leave the device idle."""
    calls = [make_call([[1] * 20], urgent=True) for _ in range(4)]
    last = {call: number for number, pass_ in enumerate(passes(lanes_of(*calls))) for call in pass_.calls}
    ends = [last[call] for call in calls]
    assert ends == sorted(set(ends))


def test_calls_take_turns_if_a_pass_is_too_small_for_all() -> None:
    """New calls do not overtake those that waited."""
    calls = [make_call([[7] * 3], urgent=True) for _ in range(3)]
    lanes, order = lanes_of(*calls), []
    for _ in range(20):
        pass_ = lanes.next_pass(limit)
        assert pass_
        order += [calls.index(call) for call in pass_.calls if call in calls]
        lanes.add(make_call([[7]], urgent=True))
    assert order == [0, 1, 2] * 3


def test_documents_run_in_the_order_of_their_calls() -> None:
    """The calls of an ingest end one after another, and each can be written while the next is encoded."""
    first, second = make_call([[5] * 4]), make_call([[5] * 4])
    lanes = lanes_of(first, second)
    assert [pass_.calls for pass_ in passes(lanes)] == [[first], [first], [second], [second]]


def test_only_waiting_documents_count() -> None:
    queries = make_call([[9] * (3 * _PATIENCE)], urgent=True)
    lanes = lanes_of(queries)
    for _ in range(_PATIENCE + 1):
        lanes.next_pass(limit)
    lanes.add(make_call([[5]]))
    following = [lengths(lanes.next_pass(limit)) for _ in range(_PATIENCE + 1)]
    assert following == [*[[9]] * _PATIENCE, [5]]


@pytest.mark.parametrize("urgent", [False, True])
def test_a_finished_call_is_removed(urgent: bool) -> None:
    """Cancelled and failed calls are removed without a pass."""
    cancelled, failed = make_call([[1], [1]], urgent=urgent), make_call([[2], [2]], urgent=urgent)
    kept = make_call([[3]], urgent=urgent)
    lanes = lanes_of(cancelled, failed, kept)
    assert cancelled.future.cancel()
    failed.fail(ValueError("wrong"))
    assert lengths(lanes.next_pass(limit)) == [3]
    assert lanes.calls == []
    lanes = lanes_of(cancelled)
    assert lanes.has_work()
    assert lanes.next_pass(limit) is None
    assert not lanes.has_work()


def test_a_call_stays_until_all_its_rows_have_run() -> None:
    call = make_call([[9], [8]])
    lanes = lanes_of(call)
    assert lengths(lanes.next_pass(limit)) == [9]
    assert lanes.calls == [call]
    assert not lanes.has_work()
    lanes.end_fetch(call, call.fetch())
    assert lanes.has_work()
    assert lengths(lanes.next_pass(limit)) == [8]
    assert lanes.calls == []


def test_windows_are_fetched_before_rows_run_out() -> None:
    """Windows are fetched one at a time for calls with few rows left, until none remain."""
    enough = make_call([[LIMIT] * _AHEAD, [1]])
    few, urgent = make_call([[LIMIT] * (_AHEAD - 1), [1], [1]]), make_call([[1], [1]], urgent=True)
    complete, cancelled = make_call([[1]]), make_call([[1], [1]])
    cancelled.future.cancel()
    lanes = lanes_of(enough, few, urgent, complete, cancelled)
    assert lanes.begin_fetches(limit) == [urgent, few]
    assert lanes.begin_fetches(limit) == []
    lanes.end_fetch(few, few.fetch())
    assert lanes.begin_fetches(limit) == [few]


def test_an_entry_of_a_pass() -> None:
    """Positions refer to `rows`, and numbers to the caller's texts."""
    one, other = make_call([[2, 3]]), make_call([[4]])
    pass_ = lanes_of(one, other).next_pass(limit)
    assert pass_
    assert [(call, number) for call, number, _ in map(pass_.entry, range(3))] == [(one, 1), (one, 0), (other, 0)]
    assert [row for _, _, row in map(pass_.entry, range(3))] == pass_.rows


class Scheduling(RuleBasedStateMachine):
    """Calls of any shape arrive, are fetched, run and are cancelled in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes = Lanes()
        self.windows: dict[Call, list[list[int]]] = {}
        self.fetching: list[Call] = []
        self.ran: dict[Call, list[int]] = {}
        self.without_documents = 0  # passes in a row for which documents waited
        self.looked_with_queries = 0  # for a next pass, in a row

    @rule(
        windows=st.lists(st.lists(st.integers(1, 13), min_size=1, max_size=4), min_size=1, max_size=4),
        urgent=st.booleans(),
        budget=st.none() | st.integers(1, 20),
        owner=st.none() | st.integers(1, 3),
    )
    def add(self, windows: list[list[int]], urgent: bool, budget: int | None, owner: int | None) -> None:
        call = make_call(windows, urgent=urgent, budget=budget, owner=owner)
        self.windows[call] = windows
        self.ran[call] = []
        self.lanes.add(call)

    @precondition(lambda self: self.windows)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(list(self.windows))).future.cancel()

    @rule()
    def begin_fetches(self) -> None:
        self.fetching += self.lanes.begin_fetches(limit)
        assert len(set(self.fetching)) == len(self.fetching)

    @precondition(lambda self: self.fetching)
    @rule(data=st.data())
    def end_fetch(self, data: st.DataObject) -> None:
        call = self.fetching.pop(data.draw(st.integers(0, len(self.fetching) - 1)))
        self.lanes.end_fetch(call, call.fetch())

    @rule()
    def run(self) -> None:
        waiting = [call for call in self.lanes.calls if call.waiting]
        pass_ = self.lanes.next_pass(limit)
        live = [call for call in waiting if not call.future.done()]
        if pass_:
            self.check_content(pass_, live)
            self.check_turn(pass_, live)
            vectors = [self.unit(call, number) for call, number in numbered(pass_)]
            pass_.answer(np.array(vectors, dtype=np.float32))
        else:
            assert not live
        self.looked_with_queries = self.looked_with_queries + 1 if any(call.urgent for call in waiting) else 0

    def check_content(self, pass_: Pass, live: list[Call]) -> None:
        assert sum(lengths(pass_)) <= limit(pass_.calls[0].token_budget) or len(pass_.rows) == 1
        assert set(pass_.calls) <= set(live)
        assert len(set(pass_.calls)) == len(pass_.calls)
        for call, number in numbered(pass_):
            self.ran[call].append(number)

    def check_turn(self, pass_: Pass, live: list[Call]) -> None:
        first = pass_.calls[0]
        assert first is next(call for call in live if call.urgent == first.urgent)
        documents = {call for call in live if not call.urgent}
        passed_over = bool(documents) and not documents & set(pass_.calls)
        self.without_documents = self.without_documents + 1 if passed_over else 0
        assert self.without_documents <= _PATIENCE
        if first.urgent:
            assert not documents & set(pass_.calls)
        elif any(call.urgent for call in live):
            assert self.looked_with_queries >= _PATIENCE
            self.looked_with_queries = 0

    def unit(self, call: Call, number: int) -> tuple[float, float]:
        """Return a unit vector that no other row has."""
        angle = list(self.windows).index(call) + number / 100
        return float(np.cos(angle)), float(np.sin(angle))

    @invariant()
    def no_row_runs_twice(self) -> None:
        assert all(max(Counter(numbers).values(), default=1) == 1 for numbers in self.ran.values())

    def teardown(self) -> None:
        """Check that every row ran in order, and every call has its own vectors."""
        while self.lanes.calls:
            self.begin_fetches()
            while self.fetching:
                call = self.fetching.pop()
                self.lanes.end_fetch(call, call.fetch())
            self.run()
        for call, windows in self.windows.items():
            if not call.future.cancelled():
                assert self.ran[call] == longest_first(windows)
                expected = [self.unit(call, number) for number in range(len(call.vectors))]
                assert np.allclose(call.future.result(0).vectors, expected)


def numbered(pass_: Pass) -> list[tuple[Call, int]]:
    return [(call, number) for call, taken in pass_.shares.items() for number, _ in taken]


def longest_first(windows: list[list[int]]) -> list[int]:
    """Return the order in which the rows of these windows run."""
    order: list[int] = []
    for window in windows:
        ranked = sorted(enumerate(window, len(order)), key=lambda row: -row[1])
        order += [number for number, _ in ranked]
    return order


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
