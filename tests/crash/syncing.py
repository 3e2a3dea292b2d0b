"""A worker of the live sync, to be killed.

python syncing.py CONNECTION LEASE MODEL     the seconds of a lease; "hashing" or "other"
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from harrier_pgvector.sync import SyncWorker
from ingesting import Hashing
from reembeds import Other

from harrier_core import Encoded


class Slow(Hashing):
    """An encoder that takes a moment."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1)

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        return self._thread.submit(self._slowly, list(texts))

    def _slowly(self, texts: list[str]) -> Encoded:
        time.sleep(random.uniform(0.0, 0.05))
        return super().submit_documents(texts).result()


class SlowOther(Slow, Other):
    """The other model, as slow."""


if __name__ == "__main__":
    models: dict[str, type[Slow]] = {"hashing": Slow, "other": SlowOther}
    worker = SyncWorker(sys.argv[1], models[sys.argv[3]](), lease=float(sys.argv[2]), poll=0.3)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    sys.stdout.write("begin\n")
    sys.stdout.flush()
    worker.run()
