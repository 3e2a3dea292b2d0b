"""The process that `parser.py` starts: it reads files that standard input holds, within limits, and answers."""

from __future__ import annotations

import gc
import json
import os
import sys
from contextlib import suppress
from typing import IO

from harrier_files.formats import Document, Given, read_document
from harrier_files.limits import Unreadable, shown_size


def _serve(requests: IO[bytes], answers: IO[bytes], memory: int) -> None:
    while line := requests.readline():
        request = json.loads(line)
        content = requests.read(request["size"])
        _limit_time(request["seconds"])
        try:
            given = Given(content, request["most"], request["encoding"])
            _answer(answers, read_document(request["kind"], given))
        except Unreadable as error:
            answers.write(json.dumps({"reason": str(error)}).encode() + b"\n")
        except MemoryError:
            reason = f"needs more than {shown_size(memory)} of memory to read; convert it to text"
            answers.write(json.dumps({"reason": reason, "spent": True}).encode() + b"\n")
        answers.flush()
        gc.collect()  # a parser and its target hold each other, and a page of strings makes the collector not wake


def _answer(answers: IO[bytes], document: Document) -> None:
    encoded = document.text.encode("utf-8", "surrogatepass")
    known = {"metadata": document.metadata, "marks": document.marks, "lined": document.lined}
    answers.write(json.dumps({"size": len(encoded), **known}).encode() + b"\n")
    answers.write(encoded)


def _limit_memory(memory: int) -> None:
    """Where the operating system can; the limit of time is there everywhere."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Of the processor, should the one that waits for this process be killed while it is in an endless loop."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        spent = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(spent.ru_utime + spent.ru_stime + seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def main() -> None:
    """Read what standard input holds, until it ends."""
    memory = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints something does not answer
    _limit_memory(memory)
    answers.write(b"\n")
    answers.flush()
    _serve(sys.stdin.buffer, answers, memory)


if __name__ == "__main__":
    main()
