"""Objects created once for equal keys, and closed by their last user."""

from __future__ import annotations

import gc
import os
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from harrier_core.shared import Lease, Shared


class Thing:
    """A costly object that counts how often it was created and closed."""

    made = 0
    closed = 0

    def __init__(self) -> None:
        type(self).made += 1

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def thing() -> type[Thing]:
    return type("Fresh", (Thing,), {})


def test_one_for_equal_keys(thing: type[Thing]) -> None:
    """Equal keys share an object, and other keys do not."""
    shared: Shared[Thing] = Shared(thing.close)
    one, two, other = shared.use("a", thing), shared.use("a", thing), shared.use("b", thing)
    assert one.value is two.value
    assert one.value is not other.value
    assert thing.made == 2


def test_the_last_user_closes(thing: type[Thing]) -> None:
    """The first close, and a repeated close of one user, do not close the object."""
    shared: Shared[Thing] = Shared(thing.close)
    one, two = shared.use("a", thing), shared.use("a", thing)
    one.release()
    one.release()
    assert thing.closed == 0
    two.release()
    assert thing.closed == 1
    assert shared.use("a", thing).value is not one.value
    assert thing.made == 2


def test_a_failed_creation_is_retried(thing: type[Thing]) -> None:
    """Waiting users get the error, and the next user tries again."""
    shared: Shared[Thing] = Shared(thing.close)
    started, go = threading.Event(), threading.Event()

    def fail() -> Thing:
        started.set()
        go.wait(10)
        raise OSError("no such model")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(shared.use, "a", fail)
        started.wait(10)
        second = pool.submit(shared.use, "a", thing)
        go.set()
        with pytest.raises(OSError, match="no such model"):
            first.result()
        # The second waited for the first and shares its error, or came too late for that and made its own.
        assert isinstance(second.exception() or second.result().value, OSError | thing)
    assert isinstance(shared.use("a", thing).value, thing)


def test_an_interrupt_is_for_one_thread(thing: type[Thing]) -> None:
    """Ctrl-C during a load stops the loading thread, and a waiting one loads instead."""
    shared: Shared[Thing] = Shared(thing.close)
    started, go = threading.Event(), threading.Event()

    def interrupted() -> Thing:
        started.set()
        go.wait(10)
        raise KeyboardInterrupt

    with ThreadPoolExecutor() as pool:
        first = pool.submit(shared.use, "a", interrupted)
        started.wait(10)
        second = pool.submit(shared.use, "a", thing)
        go.set()
        with pytest.raises(KeyboardInterrupt):
            first.result()
        assert isinstance(second.result().value, thing)


def test_a_slow_creation_does_not_block_other_keys(thing: type[Thing]) -> None:
    """Other keys are available meanwhile."""
    shared: Shared[Thing] = Shared(thing.close)
    started, go = threading.Event(), threading.Event()

    def slow() -> Thing:
        started.set()
        go.wait(10)
        return thing()

    with ThreadPoolExecutor() as pool:
        first = pool.submit(shared.use, "a", slow)
        started.wait(10)
        shared.use("b", thing)
        assert not first.done()
        go.set()
        first.result()


def test_many_threads(thing: type[Thing]) -> None:
    """There are never two objects of one key, and none at the end."""
    shared: Shared[Thing] = Shared(thing.close)

    def churn(seed: int) -> None:
        chance = random.Random(seed)
        held: list[Lease[Thing]] = []
        for _ in range(300):
            if held and chance.random() < 0.5:
                held.pop(chance.randrange(len(held))).release()
            else:
                held.append(shared.use(chance.choice("ab"), thing))
                assert thing.closed <= thing.made
        for lease in held:
            lease.release()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(churn, range(8)))
    assert thing.made == thing.closed > 0


def test_release_inside_the_garbage_collector(thing: type[Thing]) -> None:
    """A lease collected while its thread holds the lock does not deadlock."""
    shared: Shared[Thing] = Shared(thing.close)

    class User:
        """An object that releases its lease when it is collected, as an Encoder does."""

    user = User()
    weakref.finalize(user, shared.use("a", thing).release)
    with shared._lock:
        del user
        gc.collect()
        assert thing.closed == 0
    shared.use("b", thing)
    assert thing.closed == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_afresh(thing: type[Thing]) -> None:
    """It neither uses nor closes the parent's objects, and a lock taken before the fork does not block it."""
    shared: Shared[Thing] = Shared(thing.close)
    lease = shared.use("a", thing)
    with shared._lock:
        child = os.fork()
    if child == 0:
        lease.release()
        fresh = shared.use("a", thing)
        right = lease.inherited and not fresh.inherited and fresh.value is not lease.value and thing.closed == 0
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert not lease.inherited
