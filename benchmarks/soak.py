"""Measure the memory of a process that encodes a million short texts, in many calls and in one.

make soak
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harrier_core import Encoder
from harrier_core.testing import build_model


def main() -> None:
    """Encode, and print the memory of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000)
    options = parser.parse_args()
    calls, each = 100, options.texts // 100
    with tempfile.TemporaryDirectory() as folder, Encoder(str(build_model(folder))) as encoder:
        begin = time.perf_counter()
        for call in range(calls):
            encoder.encode_documents(texts(call * each, each))
            if call % 10 in (0, 9):
                print(f"{(call + 1) * each:>12,} texts in calls of {each:,}: {resident():6,} MiB", flush=True)
        took = time.perf_counter() - begin
        print(f"{encoder.stats.texts / took:,.0f} texts a second; {encoder.stats}")
        before = resident()
        vectors = encoder.encode_documents(texts(-options.texts, options.texts))
        print(f"{options.texts:>12,} texts in one call: at most {peak():,} MiB, {before:,} before it,")
        print(f"             of which the vectors take {vectors.nbytes >> 20:,}")


def texts(first: int, number: int) -> Iterator[str]:
    """Yield short texts, all different."""
    return (f"a short text, number {each}" for each in range(first, first + number))


def resident() -> int:
    """Return the current memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def peak() -> int:
    """Return the peak memory in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
