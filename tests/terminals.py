"""A pseudo-terminal in which a command runs, and its output."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
from collections.abc import Iterable, Mapping
from pathlib import Path


def seen_on_a_terminal(
    command: list[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    columns: int,
    typed: Iterable[str] = (),
    sign: str = "> ",
) -> str:
    """Return what a command shows on a terminal with this number of columns.

    typed: the input at each prompt. Prompts end with `sign`.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**own, "TERM": "xterm-256color"},
        cwd=folder,
        start_new_session=True,
    )
    os.close(slave)
    waiting = list(typed)
    shown = b""
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        if not ready and child.poll() is not None:
            break
        try:
            shown += os.read(master, 65_536) if ready else b""
        except OSError:  # the other end is closed
            break
        if waiting and shown.endswith(sign.encode()):
            shown += b"\n"
            os.write(master, waiting.pop(0).encode())
    os.close(master)
    child.wait(30)
    return shown.decode(errors="replace").replace("\r\n", "\n")
