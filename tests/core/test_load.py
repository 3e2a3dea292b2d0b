"""Many concurrent callers, closing under load, queries during an ingest, and a million texts."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harrier_core import Encoder, EncoderClosed
from harrier_core.decoder import Decoder

TEXTS = [f"text number {number}" for number in range(20)]


def test_a_thousand_callers(built: Callable[..., Path]) -> None:
    """Threads and tasks with mixed roles, tasks and sizes get their own vectors."""
    with Encoder(built()) as encoder:
        expected = {
            (role, task): encode
            for role, task, encode in [
                ("document", None, encoder.encode_documents(TEXTS)),
                *(("query", task, encoder.encode_queries(TEXTS, task=task)) for task in encoder.tasks),
            ]
        }

        def check(vectors: Any, role: str, task: str | None, picked: list[int]) -> None:
            assert np.abs(vectors - expected[role, task][picked]).max() < 1e-5

        def call(seed: int) -> None:
            chance = random.Random(seed)
            (role, task), picked = chance.choice(list(expected)), chance.choices(range(20), k=chance.randint(1, 9))
            texts = [TEXTS[number] for number in picked]
            vectors = encoder.encode_queries(texts, task=task) if task else encoder.encode_documents(texts)
            check(vectors, role, task, picked)

        async def acall(seed: int) -> None:
            chance = random.Random(seed)
            (role, task), picked = chance.choice(list(expected)), chance.choices(range(20), k=chance.randint(1, 9))
            texts = [TEXTS[number] for number in picked]
            vectors = await (encoder.aencode_queries(texts, task=task) if task else encoder.aencode_documents(texts))
            check(vectors, role, task, picked)

        async def acalls() -> None:
            await asyncio.gather(*(acall(seed) for seed in range(500)))

        with ThreadPoolExecutor(500) as pool:
            loop = pool.submit(asyncio.run, acalls())
            for future in [loop, *(pool.submit(call, seed) for seed in range(500, 1_000))]:
                future.result(100)


def test_closing_under_load(built: Callable[..., Path]) -> None:
    """Every caller gets its vectors or EncoderClosed, and none hangs."""
    with Encoder(built()) as encoder:
        expected = encoder.encode_documents(TEXTS)

    answered: list[int] = []

    def call(encoder: Encoder, number: int, go: threading.Barrier) -> int:
        go.wait(60)
        calls = 0
        try:
            while True:
                vectors = encoder.encode_documents([TEXTS[number % 20]] * (1 + number))
                assert np.abs(vectors - expected[number % 20]).max() < 1e-5
                calls += 1
                answered.append(number)
        except EncoderClosed:
            return calls

    for wanted in (0, 1, 100):  # calls that were answered before it closes
        encoder, go = Encoder(built()), threading.Barrier(41)
        answered.clear()
        with ThreadPoolExecutor(40) as pool:
            futures = [pool.submit(call, encoder, number, go) for number in range(40)]
            go.wait(60)
            while len(answered) < wanted:
                time.sleep(0)
            encoder.close()
            assert sum(future.result(60) for future in futures) >= wanted


def test_a_query_waits_for_one_pass(built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """During a large encode, each query runs in the next pass."""
    passes: list[bool] = []  # whether it was one of queries
    under_way = threading.Event()
    run = Decoder.launch

    def noted(decoder: Decoder, rows: Any, **how: Any) -> Any:
        passes.append(bool(rows[0].shared))
        if len(passes) == 10:
            under_way.set()
        return run(decoder, rows, **how)

    monkeypatch.setattr(Decoder, "launch", noted)
    with Encoder(built()) as encoder, ThreadPoolExecutor(1) as pool:
        encoder.encode_queries(["a first one, for the instruction"])
        ingest = pool.submit(encoder.encode_documents, [f"{text} of {n}" for n in range(1_500) for text in TEXTS])
        asked = []
        assert under_way.wait(60)
        for number in range(20):
            before = len(passes)
            encoder.encode_queries([f"query number {number}"])
            asked.append(sum(not of_queries for of_queries in passes[before:]))
        assert not ingest.done()
        ingest.result(100)
    assert max(asked) <= 2  # one that began while the query was being tokenized, and one that ran alongside


SOAK = """
import resource, sys
from pathlib import Path
from harrier_core import Encoder

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

with Encoder(sys.argv[1]) as encoder:
    for number in range(int(sys.argv[2])):
        vectors = encoder.encode_documents(f"{number} {text}" for text in range(10_000))
        print(resident() >> 20, encoder.stats.texts)
"""


@pytest.mark.slow
def test_constant_memory(built: Callable[..., Path]) -> None:
    """After a few calls of ten thousand texts, memory no longer grows."""
    command = [sys.executable, "-c", SOAK, str(built()), "12"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    held = [int(line.split()[0]) for line in output.splitlines()]
    assert output.splitlines()[-1].split()[1] == "120000"
    assert held[-1] < held[4] + 20
