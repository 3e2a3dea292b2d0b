"""The process that runs a PostgreSQL server, and stops it once it has no users. Run as a file, by `server.py`.

It imports only a few standard modules, so that it starts in a moment and stays small. Its argument is the folder, for
people who look at a list of processes. It reads its settings, marshalled, and answers on a pipe: "ready", or why not.
"""

from __future__ import annotations

import ctypes
import fcntl
import marshal
import os
import signal
import sys
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_PAUSE = 0.005
_SET_PARENT_DEATH_SIGNAL = 1  # for Linux's prctl
_LARGEST_LOG, _LARGEST_ANSWER = 10_000_000, 4_000


def _become(uid: int, gid: int) -> None:
    """Give up root's rights, which a server is not allowed to have."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _write(name: str, content: str) -> None:
    """Write a settings file, if its content changes."""
    if _read(name) != content:
        with open(f"{name}.new", "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(f"{name}.new", name)


def _read(name: str) -> str:
    """Return the content of a file, or an empty string if it does not exist."""
    if not os.path.exists(name):
        return ""
    with open(name, encoding="utf-8", errors="replace") as file:
        return file.read()


def _open_log() -> tuple[int, int]:
    """Open the server's log, and return its descriptor and the position at which this run begins."""
    log = os.open("log", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.fstat(log).st_size > _LARGEST_LOG:
        os.ftruncate(log, 0)
    return log, os.fstat(log).st_size


def _run(command: list[str], log: int, server: int) -> int:
    """Start PostgreSQL, and return its process id. All of its processes inherit the lock `server`."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
    process = os.fork()
    if process == 0:
        try:
            if prctl is not None:  # it also stops if this process is killed
                prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGINT)
                if os.getppid() != parent:
                    os._exit(1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.set_inheritable(server, True)
            os.execv(command[0], command)
        except OSError as error:
            os.write(2, f"FATAL:  cannot run {command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(1)
    return process


def _stop_unused(users: int, process: int) -> None:
    """Stop the server once this process gets the lock that each user holds."""
    fcntl.flock(users, fcntl.LOCK_EX)
    os.kill(process, signal.SIGINT)


def _becomes_ready(process: int) -> bool:
    """Wait until the server accepts connections (True), or has ended (False)."""
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        lines = _read("postmaster.pid").splitlines()
        if len(lines) > 7 and lines[0].strip() == str(process) and lines[7].strip() == "ready":
            return True
        time.sleep(_PAUSE)
    return False


def _watch(settings: dict[str, Any], status: int) -> None:
    os.fchdir(settings["data"])
    if settings["become"]:
        _become(*settings["become"])
    os.umask(0o077)
    for name, content in settings["files"].items():
        _write(name, content)
    for name in settings["stale"]:
        if os.path.lexists(name):
            os.unlink(name)
    log, begin = _open_log()
    process = _run(settings["command"], log, settings["server"])
    threading.Thread(target=_stop_unused, args=(settings["users"], process), daemon=True).start()
    if _becomes_ready(process):
        os.write(status, b"ready\0")
        os.close(status)
        os.waitpid(process, 0)
    else:
        end = os.fstat(log).st_size
        os.write(status, os.pread(log, _LARGEST_ANSWER, max(begin, end - _LARGEST_ANSWER)) + b"\0")


def main() -> NoReturn:
    """Detach from the process that started this one, and from its terminal, and watch."""
    settings = marshal.load(sys.stdin.buffer)
    if os.fork():
        os._exit(0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # its users decide when it ends
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the process that started us may have ignored it
    status = settings["status"]
    for name in ("data", "users", "watcher", "server", "status"):
        os.set_inheritable(settings[name], False)
    try:
        _watch(settings, status)
    except OSError as error:
        os.write(status, f"FATAL:  {error}\0".encode())
    os._exit(0)


if __name__ == "__main__":
    main()
