"""Processes whose main thread ends while others encode end soon, and lose nothing that was acknowledged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from slowly import quick

# The start of each program: an encoder whose forward pass takes 0.2 seconds, so that its work would take minutes.
BEGIN = """
import asyncio, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from harrier_core import Encoder, EncoderClosed, Index, Record
from harrier_core.decoder import Decoder
from harrier_core.testing import MemoryStore
launch = Decoder.launch
def slow(*arguments, **options):
    time.sleep(0.2)
    return launch(*arguments, **options)
Decoder.launch = slow
encoder = Encoder(sys.argv[1], token_budget=64)
encoder.encode_queries(["warm"])
texts = [f"text {number} " * 8 for number in range(4000)]
records = [Record(id=str(number), text=text) for number, text in enumerate(texts)]
class Told(MemoryStore):
    def write(self, write):
        written = super().write(write)
        os.write(1, f"stored {len(write.encoded)}\\n".encode())  # whole, whatever other threads print
        return written
store = Told()
"""
# The main thread ends right after the last line, unless it is to be interrupted.
ARRANGEMENTS = {
    "a thread": "threading.Thread(target=encoder.encode_documents, args=[texts]).start(); time.sleep(0.5)",
    "a pool": "pool = ThreadPoolExecutor(1); pool.submit(encoder.encode_documents, texts); time.sleep(0.5)",
    "what waits in a pool": """
pool = ThreadPoolExecutor(1)
for _ in range(200):
    pool.submit(encoder.encode_documents, texts)
time.sleep(0.5)""",
    "an executor of a loop": """
async def main():
    asyncio.get_running_loop().run_in_executor(None, encoder.encode_documents, texts)
    await asyncio.sleep(0.5)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())""",
    "an ingest in a thread": """
threading.Thread(target=Index(store, encoder).ingest, args=[records]).start()
time.sleep(0.5)""",
    "an ingest in a pool": """
pool = ThreadPoolExecutor(1)
pool.submit(Index(store, encoder).ingest, records)
time.sleep(0.5)""",
    "an error": """
threading.Thread(target=encoder.encode_documents, args=[texts]).start()
time.sleep(0.5)
raise SystemExit(3)""",
    "an interrupted aingest": 'print("go", flush=True); asyncio.run(Index(store, encoder).aingest(records))',
    "an interrupted aencode_documents": 'print("go", flush=True); asyncio.run(encoder.aencode_documents(texts))',
    "a thread that goes on": """
def encode():
    for text in texts:
        encoder.encode_documents([text])
threading.Thread(target=encode).start()
time.sleep(0.5)""",
}
Run = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(built: Callable[..., Path], tmp_path: Path) -> Run:
    """Run a program, interrupt it half a second after it prints "go", and fail if it does not end soon."""

    def run(program: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "program.py"
        marked = f"{BEGIN}\n{program}\nprint('main ends', flush=True)\n"
        script.write_text(marked, encoding="utf-8")
        command = [sys.executable, str(script), str(built())]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            if "'go'" in program or '"go"' in program:
                assert process.stdout
                assert process.stdout.readline() == "go\n"
                time.sleep(0.5)
                os.kill(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=60)  # the work would take more than ten times as long
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    return run


@pytest.mark.parametrize("arrangement", quick(ARRANGEMENTS, *list(ARRANGEMENTS)[::4]))
def test_a_process_ends(arrangement: str, run: Run) -> None:
    """The process ends after the current pass, whatever is being encoded."""
    done = run(ARRANGEMENTS[arrangement])
    assert done.returncode == {"an error": 3}.get(arrangement, -signal.SIGINT if "interrupted" in arrangement else 0)
    if "thread" in arrangement:  # Python prints its error
        assert "ProcessEnding: this process is shutting down" in done.stderr
    if arrangement == "an ingest in a pool":  # its error would otherwise go unseen
        assert "ingest interrupted after 0 chunks: this process is shutting down" in done.stderr


def test_short_calls_are_answered(run: Run) -> None:
    """Calls that need only a few passes are completed, such as the last requests of a server."""
    done = run("""
from harrier_core.engine import Engine
submit, submitted = Engine.submit, threading.Semaphore(0)
def telling(*arguments):
    future = submit(*arguments)
    submitted.release()
    return future
Engine.submit = telling
def answer():
    print(f"answered {encoder.encode_queries(['a question']).shape}\\n", end="", flush=True)  # in one piece
for _ in range(4):
    threading.Thread(target=answer).start()
for _ in range(4):
    submitted.acquire()""")
    assert done.stdout.count("answered (1, 64)") == 4
    assert "Error" not in done.stderr


def test_later_calls_raise_an_error(run: Run) -> None:
    """A thread that outlives the main thread gets an error with the remedy instead of hanging."""
    done = run("""
def later():
    threading.main_thread().join()
    try:
        encoder.encode_queries(["a question"])
    except EncoderClosed as error:
        print(error, flush=True)
threading.Thread(target=later).start()""")
    assert "main thread has ended; join the encoding threads before that" in done.stdout


@pytest.mark.slow
def test_progress_is_never_ahead_of_the_store(run: Run) -> None:
    """An interrupted ingest has reported no progress that is not stored."""
    done = run("""
def ingest():
    Index(store, encoder).ingest(records, on_progress=lambda report: os.write(1, f"told {report.written}\\n".encode()))
import harrier_core.ingest
harrier_core.ingest.WINDOW_RECORDS = 8
threading.Thread(target=ingest).start()
time.sleep(2.5)""")
    stored = told = 0
    for line in done.stdout.splitlines():
        word, _, number = line.partition(" ")
        stored += int(number) if word == "stored" else 0
        told = int(number) if word == "told" else told
        assert told <= stored
    assert 0 < stored < 4000
    assert "ingest interrupted after" in done.stderr


def test_a_pass_that_begins_as_main_ends(run: Run) -> None:
    """A pass that is waited for one turn later, as on a GPU, is handled."""
    done = run("""
encoder._held.lease("engine").value._runner.overlaps = True
begun = threading.Event()
def later(*arguments, **options):
    begun.set()
    time.sleep(1)
    return launch(*arguments, **options)
Decoder.launch = later
threading.Thread(target=lambda: print(encoder.encode_documents(["a text"]).shape, flush=True)).start()
begun.wait()""")
    assert "(1, 64)" in done.stdout
