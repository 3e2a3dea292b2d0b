"""The process started by `parser.py`: it reads files from standard input, within limits, and answers."""

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
        gc.collect()  # a parser and its target refer to each other, and a page of strings triggers no collection


def _answer(answers: IO[bytes], document: Document) -> None:
    encoded = document.text.encode("utf-8", "surrogatepass")
    known = {"metadata": document.metadata, "marks": document.marks, "lined": document.lined}
    answers.write(json.dumps({"size": len(encoded), **known}).encode() + b"\n")
    answers.write(encoded)


def _limit_memory(memory: int) -> None:
    """Limit memory if the operating system can; the time limit applies everywhere."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Limit CPU time, in case the waiting process is killed while this one is in an endless loop."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        spent = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(spent.ru_utime + spent.ru_stime + seconds) + 2
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def main() -> None:
    """Answer requests on standard input until it ends."""
    memory = int(sys.argv[1])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output of libraries must not reach the answers
    _limit_memory(memory)
    answers.write(b"\n")
    answers.flush()
    _serve(sys.stdin.buffer, answers, memory)


if __name__ == "__main__":
    main()
