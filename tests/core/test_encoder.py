"""Encoders are light, share one model, and can be used and closed from any thread; bad input is refused whole."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loaded import loaded_models, models_left

from harrier_core import (
    EmptyText,
    Encoder,
    EncoderClosed,
    InputError,
    InvalidText,
    NotText,
    SettingError,
    Task,
    TaskError,
    TextTooLong,
)
from harrier_core.decoder import Decoder
from harrier_core.testing import PROSE, build_model

pytestmark = pytest.mark.usefixtures("few_objects")


@pytest.fixture
def before() -> int:
    """Return how many models were loaded when the test began, once those of earlier tests are released."""
    return models_left(0)


# -- results


def test_vectors(encoder: Encoder) -> None:
    """Vectors are float32, one row per text, of unit length, and owned by the caller."""
    for vectors in (encoder.encode_documents(PROSE), encoder.encode_queries(PROSE)):
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(PROSE), encoder.dimensions)
        assert vectors.flags.c_contiguous
        assert vectors.flags.owndata
        assert vectors.flags.writeable
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6


def test_no_texts(encoder: Encoder, before: int) -> None:
    """No texts give an empty array of the right width without loading the model; the task is still checked."""
    for vectors in (
        encoder.encode_documents([]),
        encoder.encode_queries([]),
        asyncio.run(encoder.aencode_documents([])),
        asyncio.run(encoder.aencode_queries([])),
    ):
        assert vectors.shape == (0, 64)
        assert vectors.dtype == np.float32
    assert models_left(before) <= before
    with pytest.raises(TaskError):
        encoder.encode_queries([], task="no such task")


def test_a_path_is_a_model(built: Callable[..., Path]) -> None:
    """A folder may be given as a Path."""
    with Encoder(built()) as encoder:
        assert repr(encoder) == f"Encoder({str(built())!r})"
        assert encoder.encode_documents(["a"]).shape == (1, 64)


def test_any_iterable(encoder: Encoder) -> None:
    """Generators, tuples, dict keys and subclasses of str are accepted."""
    expected = encoder.encode_documents(["a", "b"])
    letters: list[Any] = [("a", "b"), iter(["a", "b"]), {"a": 1, "b": 2}, np.array(["a", "b"])]
    for texts in letters:
        assert np.array_equal(encoder.encode_documents(texts), expected)


# -- bad input


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        ("", EmptyText, "text 1 is empty or blank, which has no meaning to embed; omit it"),
        (" \t\n\u3000", EmptyText, "text 1 is empty or blank"),
        (None, NotText, "text 1 is NoneType, not str; pass its text"),
        (b"bytes", NotText, "text 1 is bytes, not str"),
        (7, NotText, "text 1 is int, not str"),
        (["a"], NotText, "text 1 is list, not str"),
        (
            "half \ud83d of a pair",
            InvalidText,
            r"text 1 has a lone surrogate \(U\+D83D\) at character 5, which is half",
        ),
        (
            "word " * 600,
            TextTooLong,
            r"text 1 has [\d,]+ tokens with its prompt, but the limit is 512; split it, or pass",
        ),
    ],
)
def test_a_bad_text(encoder: Encoder, before: int, bad: Any, kind: type[InputError], message: str) -> None:
    """Each kind has its own error with the position and the remedy, in both roles, and nothing runs."""
    for encode in (encoder.encode_documents, encoder.encode_queries):
        with pytest.raises(kind, match=message) as caught:
            encode(["fine", bad, "fine"])
        assert caught.value.position == 1
    for aencode in (encoder.aencode_documents, encoder.aencode_queries):
        with pytest.raises(kind, match=message):
            asyncio.run(aencode(["fine", bad, "fine"]))
    assert models_left(before) <= before


def test_all_bad_texts_at_once(encoder: Encoder) -> None:
    """The error lists all bad texts in the caller's order."""
    with pytest.raises(NotText, match=r"^text 1 is int, not str; pass its text \(and 3 more of this call's") as caught:
        encoder.encode_documents(["fine", 1, "word " * 600, "fine", "", "\udfff"])  # type: ignore[list-item]
    problems = caught.value.problems
    assert [(each.position, each.kind) for each in problems] == [
        (1, NotText),
        (2, TextTooLong),
        (4, EmptyText),
        (5, InvalidText),
    ]


def test_no_text_in_an_error(encoder: Encoder) -> None:
    """Errors never contain a text, because they go to logs."""
    with pytest.raises(InputError) as caught:
        encoder.encode_documents(["secret " * 600, "secret \ud800", b"secret"])  # type: ignore[list-item]
    assert "secret" not in str(caught.value) + repr([each.reason for each in caught.value.problems])


@pytest.mark.parametrize("texts", ["one text", b"bytes", None, 7])
def test_a_str_is_not_a_list(encoder: Encoder, texts: Any) -> None:
    """A str is refused, because it would be encoded letter by letter."""
    for call in (encoder.encode_documents, encoder.encode_queries, encoder.count_tokens):
        with pytest.raises(NotText, match=f"texts must be a list of strings, got {type(texts).__name__}; put a single"):
            call(texts)


def test_the_limit_is_exact(built: Callable[..., Path]) -> None:
    """A text of exactly the limit passes, one more token does not, and the prompt counts."""
    with Encoder(str(built())) as free:
        [documents] = free.count_tokens(["one two three"])
        [queries] = free.count_tokens([free.prompt("one two three")])
    for name, needed in (("encode_documents", documents), ("encode_queries", queries)):
        with Encoder(str(built()), max_tokens=needed) as encoder:
            assert len(getattr(encoder, name)(["one two three"])) == 1
        with Encoder(str(built()), max_tokens=needed - 1) as encoder:
            with pytest.raises(
                TextTooLong, match=f"has {needed} tokens with its prompt, but the limit is {needed - 1};"
            ):
                getattr(encoder, name)(["one two three"])
            assert encoder.truncations == 0


def test_truncation_is_counted(built: Callable[..., Path]) -> None:
    """Only truncated texts count, over all calls."""
    with Encoder(str(built()), max_tokens=20, on_overflow="truncate") as encoder:
        encoder.encode_documents(["short", "word " * 50])
        encoder.encode_documents(["word " * 50] * 2)
        assert encoder.truncations == 3


def test_truncation_never_cuts_all_of_a_query(built: Callable[..., Path]) -> None:
    """A limit that leaves no token after the instruction is refused."""
    with Encoder(str(built()), max_tokens=8, on_overflow="truncate") as encoder:
        assert len(encoder.encode_documents(["word " * 50])) == 1
        with pytest.raises(
            SettingError, match="max_tokens=8 leaves no room for a text: its prompt and end tokens take"
        ):
            encoder.encode_queries(["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_overflow": "cut"}, "on_overflow must be 'error' or 'truncate', got 'cut'"),
        ({"max_tokens": 0}, "max_tokens must be a positive integer, got 0"),
        ({"max_tokens": True}, "max_tokens must be a positive integer, got True"),
        ({"token_budget": -1}, "token_budget must be a positive integer, got -1"),
        ({"token_budget": 1.5}, "token_budget must be a positive integer, got 1.5"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    """Invalid settings are refused before any file is read."""
    with pytest.raises(SettingError, match=message):
        Encoder("harrier-270m", **settings)


def test_max_tokens_above_the_models_limit(built: Callable[..., Path]) -> None:
    """max_tokens can only lower the limit."""
    with pytest.raises(SettingError, match="max_tokens=513 is more than the 512 that .* takes; lower it"):
        Encoder(str(built()), max_tokens=513).encode_documents(["a"])
    assert Encoder(str(built()), max_tokens=512).max_tokens == 512


# -- light


def test_construction_loads_nothing(before: int) -> None:
    """Construction does not even check that the model exists."""
    encoder = Encoder("/no/such/folder", device="cuda:7", task=Task("Find birds"))
    assert repr(encoder) == "Encoder('/no/such/folder', device='cuda:7', task=Task(instruction='Find birds'))"
    assert repr(Encoder("harrier-270m")) == "Encoder('harrier-270m')"
    encoder.close()
    assert models_left(before) <= before


def test_inspection_loads_no_weights(encoder: Encoder, before: int) -> None:
    """Prompts, counts, the space and the placement need no weights in memory."""
    assert encoder.prompt("a")
    assert encoder.count_tokens(["a"])
    assert (encoder.dimensions, encoder.max_tokens, len(encoder.tasks)) == (64, 512, 3)
    assert encoder.space.dimensions == 64
    assert encoder.placement.device == "cpu"
    assert models_left(before) <= before


def test_copies_are_settings(built: Callable[..., Path], before: int) -> None:
    """A pickle or copy has a few hundred bytes and encodes the same."""
    settings: dict[str, Any] = {
        "max_tokens": 100,
        "on_overflow": "truncate",
        "task": Task("Find birds"),
        "dtype": "float32",
    }
    with Encoder(str(built()), **settings) as encoder:
        expected = encoder.encode_queries(PROSE[:3])
        assert len(pickle.dumps(encoder)) < 1_000
        for other in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder), copy.copy(encoder)):
            assert repr(other) == repr(encoder)
            assert np.array_equal(other.encode_queries(PROSE[:3]), expected)
            assert loaded_models() == before + 1
            other.close()
        assert np.array_equal(encoder.encode_queries(PROSE[:3]), expected)


# -- shared


def test_equal_settings_share_a_model(built: Callable[..., Path], before: int) -> None:
    """Settings of queries or batches do not matter, but another dtype loads another model."""
    folder = str(built())
    same = [
        Encoder(folder),
        Encoder(folder, task="sts_query"),
        Encoder(folder, device="cpu", token_budget=7, max_tokens=99),
    ]
    for encoder in same:
        encoder.encode_documents(["a"])
    assert loaded_models() == before + 1
    other = Encoder(folder, dtype="bfloat16")
    other.encode_documents(["a"])
    assert loaded_models() == before + 2
    for encoder in [*same, other]:
        encoder.close()


def test_the_last_user_releases_the_model(built: Callable[..., Path], before: int) -> None:
    """The model is released with the last close or garbage collection."""
    one, two = Encoder(str(built())), Encoder(str(built()))
    expected = one.encode_documents(["a"])
    two.encode_documents(["a"])
    one.close()
    one.close()
    assert np.array_equal(two.encode_documents(["a"]), expected)
    assert loaded_models() == before + 1
    del two
    assert models_left(before) <= before


def test_after_close(built: Callable[..., Path]) -> None:
    """Every use raises an error that says what to do, and other encoders keep working."""
    encoder = Encoder(str(built()))
    encoder.encode_documents(["a"])
    encoder.close()
    uses: list[Callable[[], object]] = [
        lambda: encoder.encode_documents(["a"]),
        lambda: encoder.encode_queries(["a"]),
        lambda: asyncio.run(encoder.aencode_documents(["a"])),
        lambda: encoder.count_tokens(["a"]),
        lambda: encoder.dimensions,
        lambda: encoder.prompt("a"),
    ]
    for use in uses:
        with pytest.raises(EncoderClosed, match="this encoder is closed; create a new one with the same settings"):
            use()


def test_threads_load_once(built: Callable[..., Path], before: int) -> None:
    """Sixteen threads that start together get the same vectors from one model."""
    folder = str(built("gemma3"))
    shared, start = Encoder(folder), threading.Barrier(16)

    def work(number: int) -> float:
        start.wait(30)
        encoder = shared if number % 2 else Encoder(folder)
        texts = random.Random(number).sample(PROSE, 5)
        vectors = encoder.encode_documents(texts)
        alone = np.concatenate([encoder.encode_documents([text]) for text in texts])
        return float(np.abs(vectors - alone).max())

    with ThreadPoolExecutor(16) as pool:
        assert max(pool.map(work, range(16))) < 1e-5
    assert loaded_models() == before + 1
    shared.close()
    assert models_left(before) <= before


def test_closing_under_load(built: Callable[..., Path], before: int) -> None:
    """Calls in progress get vectors or EncoderClosed, none hangs, and the model is released."""
    encoder = Encoder(str(built("gemma3-sliding")))
    encoder.encode_documents(["a"])
    running = threading.Event()

    def work(_: int) -> str:
        try:
            while True:
                encoder.encode_documents(PROSE)
                running.set()
        except EncoderClosed as error:
            return str(error)

    async def wait() -> None:
        with pytest.raises(EncoderClosed):  # noqa: PT012
            while True:
                await encoder.aencode_queries(PROSE)

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(work, number) for number in range(4)]
        waiting = pool.submit(asyncio.run, wait())
        assert running.wait(60)
        encoder.close()
        assert all("closed" in future.result(60) for future in futures)
        waiting.result(60)
    assert models_left(before) <= before  # the abandoned pass may still be running


def test_a_cancelled_task_is_cancelled(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancellation differs from closing; waiting calls proceed, and at most the current pass is wasted."""
    passes: list[int] = []
    under_way = threading.Event()
    run = Decoder.launch

    def counted(decoder: Decoder, rows: Any, **how: Any) -> Any:
        passes.append(len(rows))
        under_way.set()
        return run(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", counted)

    async def main() -> None:
        with Encoder(str(built()), token_budget=1) as encoder:
            texts = [f"text number {number}" for number in range(5_000)]
            task = asyncio.create_task(encoder.aencode_documents(texts))
            await asyncio.to_thread(under_way.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await encoder.aencode_documents(["a"])).shape == (1, 64)

    asyncio.run(main())
    assert 1 < len(passes) < 5_000


def test_a_task_cancelled_while_it_loads(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading and tokenizing cannot be interrupted, but their result is discarded."""
    rows: list[int] = []
    run = Decoder.launch

    def counted(decoder: Decoder, batch: Any, **how: Any) -> Any:
        rows.append(len(batch))
        return run(decoder, batch, **how)

    monkeypatch.setattr(Decoder, "launch", counted)

    async def main() -> None:
        with Encoder(built(), token_budget=1) as encoder:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(encoder.aencode_documents([f"text {n}" for n in range(5_000)]), 0.001)
            assert (await encoder.aencode_documents(["a"])).shape == (1, 64)

    asyncio.run(main())
    assert sum(rows) < 5_000


def test_loading_two_dtypes_at_once(built: Callable[..., Path]) -> None:
    """Each model computes in its dtype; a global default of one load does not affect the other."""
    start = threading.Barrier(2)

    def load(folder: Path, dtype: str) -> Any:
        with Encoder(folder, dtype=dtype) as encoder:
            start.wait(60)
            return encoder.encode_documents(PROSE)

    for folder in (built("qwen3"), built("gemma3")):
        with Encoder(folder) as encoder:
            expected = encoder.encode_documents(PROSE)
        for _ in range(5):
            with ThreadPoolExecutor(2) as pool:
                exact, rough = pool.map(load, (folder, folder), ("float32", "bfloat16"))
            assert np.abs(exact - expected).max() < 1e-6
            assert 1e-6 < np.abs(rough - expected).max() < 0.1


class Colour(str, Enum):  # noqa: UP042
    """A str whose str() is something else."""

    RED = "red apples"


def test_subclasses_of_str(encoder: Encoder) -> None:
    """They are encoded and shown as the text that they hold."""
    assert np.array_equal(encoder.encode_documents([Colour.RED]), encoder.encode_documents(["red apples"]))
    assert encoder.prompt(Colour.RED).endswith("\nQuery: red apples")
    with pytest.raises(NotText, match="text 0 is int, not str"):
        encoder.prompt(5)  # type: ignore[arg-type]


INTERRUPT = """
import sys
from harrier_core import Encoder
from harrier_core.decoder import Decoder
run = Decoder.launch
def told(decoder, rows, **how):
    told.passes += 1
    if told.passes == 20:  # by now the main thread waits
        print("started", flush=True)
    return run(decoder, rows, **how)
told.passes = 0
Decoder.launch = told
encoder = Encoder(sys.argv[1], token_budget=1)
try:
    encoder.encode_documents([f"text number {number}" for number in range(200_000)])
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_the_process(built: Callable[..., Path]) -> None:
    """The process ends after the current pass, not after minutes of queued passes."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPT, str(built())], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
        assert output == "interrupted\n", errors
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_async_calls_do_not_block_the_loop(built: Callable[..., Path]) -> None:
    """The loop runs while a call loads and encodes, and concurrent calls get the right vectors."""

    async def main() -> None:
        with Encoder(str(built("gemma3-sliding"))) as encoder:
            ticks = 0
            task = asyncio.create_task(encoder.aencode_documents(PROSE))
            while not task.done():
                ticks += 1
                await asyncio.sleep(0.001)
            assert ticks > 2
            expected = await task
            results = await asyncio.gather(*(encoder.aencode_documents([text]) for text in PROSE))
            assert np.abs(np.concatenate(results) - expected).max() < 1e-5

    asyncio.run(main())


# -- forked


FORK = """
import os, sys
import numpy as np
from harrier_core import Encoder, ForkedModel, engine
folder, lost = sys.argv[1:]
if lost:
    engine._LOST_IN_FORK = (lost,)
encoder = Encoder(folder)
expected = encoder.encode_documents(["one", "two"])
child = os.fork()
failed = os.waitpid(child, 0)[1] if child else 0
try:
    vectors = encoder.encode_documents(["one", "two"])
    print("equal" if np.abs(vectors - expected).max() < 1e-6 else "different", flush=True)
except ForkedModel as error:
    print(error, flush=True)
if child == 0:
    os._exit(0)
sys.exit(failed)
"""


@pytest.fixture
def fork(built: Callable[..., Path]) -> Callable[[str], list[str]]:
    def run(lost: str) -> list[str]:
        command = [sys.executable, "-W", "ignore", "-c", FORK, str(built()), lost]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout.splitlines()

    if not hasattr(os, "fork"):
        pytest.skip("this system cannot fork")
    return run


def test_a_forked_child_encodes_on_a_cpu(fork: Callable[[str], list[str]]) -> None:
    """The child loads the model again, because the parent's thread does not exist in it."""
    assert fork("") == ["equal", "equal"]


def test_a_forked_child_cannot_use_a_gpus_model(fork: Callable[[str], list[str]]) -> None:
    """If memory does not survive a fork, the child gets an error, and the parent continues."""
    child, parent = fork("cpu")
    assert parent == "equal"
    assert child.startswith("this process was forked from one that used the GPU")
    assert "'spawn' method" in child


def test_a_spawned_child_gets_a_pickled_encoder(encoder: Encoder) -> None:
    """The spawned child loads the model itself."""
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).encode_documents(['a']).shape)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input=pickle.dumps(encoder), check=True, capture_output=True, timeout=100)
    assert done.stdout.decode().strip() == "(1, 64)"


# -- a model that changes


def test_a_folder_is_read_again(tmp_path: Path) -> None:
    """Once no encoder holds a model, its folder is read again, because it may have changed."""
    with Encoder(str(build_model(tmp_path))) as encoder:
        first, space = encoder.encode_documents(["a"]), encoder.space
    with Encoder(str(build_model(tmp_path, seed=1))) as encoder:
        assert np.abs(encoder.encode_documents(["a"]) - first).max() > 1e-3
        assert encoder.space != space
