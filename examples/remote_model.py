"""Search an index with a model that runs on another machine. This program needs no torch.

harrier serve --model harrier-270m --host 0.0.0.0 --api-key-file keys      # on the machine with the GPU
HARRIER_API_KEY=... python examples/remote_model.py http://gpu-host:8000 PLACE "why does bread rise"
"""

from __future__ import annotations

import sys

from harrier_core import Index, RemoteEncoder


def main(url: str, place: str, question: str) -> None:
    """Print the matches for the question."""
    with RemoteEncoder(url) as encoder, Index(place, encoder) as index:
        for match in index.search(question, k=3):
            print(f"{match.score:.3f}  {match.record_id}  {match.text[:80]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
