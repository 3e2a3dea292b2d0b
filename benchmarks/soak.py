"""A million short texts: what the process holds of memory meanwhile, call after call and in one call.

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
    """Encode, and print how much memory the process has."""
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
        print(f"{options.texts:>12,} texts in one call: {peak():,} MiB at most, {before:,} before it,")
        print(f"             of which the vectors themselves have {vectors.nbytes >> 20:,}")


def texts(first: int, number: int) -> Iterator[str]:
    """Short ones, all different."""
    return (f"a short text, number {each}" for each in range(first, first + number))


def resident() -> int:
    """MiB in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def peak() -> int:
    """The most MiB that there were at any time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
