"""Files that a user's command converts to text."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harrier_files.commands import Command, parse_commands
from harrier_files.limits import Unreadable
from harrier_files.sources import Source
from offices import zipped

from harrier_core import Record, SettingError, Skipped


def python(script: str, suffix: str | None = ".rtf") -> Command:
    """Return a command that runs a script with the file as its argument."""
    return Command((sys.executable, "-c", script, "{}"), suffix)


READ = "import sys; print(open(sys.argv[1]).read().upper())"


def test_files_of_a_suffix(tmp_path: Path) -> None:
    """They may be in a folder, in an archive, or have a name with shell characters."""
    (tmp_path / "$(touch x); a.rtf").write_text("one", encoding="utf-8")
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    (tmp_path / "c.rtf.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "d.zip").write_bytes(zipped({"d.rtf": "four", "d.doc": "x"}))
    source = Source([str(tmp_path)], readers=[python(READ)])
    found = {each.id.partition("/")[2]: each for each in source}
    texts = {name: each.text.strip() for name, each in found.items() if isinstance(each, Record)}
    assert texts == {"$(touch x); a.rtf": "ONE", "b.txt": "two", "c.rtf.gz": "THREE", "d.zip/d.rtf": "FOUR"}
    known: Any = found["d.zip/d.rtf"]
    assert known.metadata["format"] == "rtf"
    assert source.walk.left_out == {".doc": 1}


def test_an_invalid_file_name(tmp_path: Path) -> None:
    """An archive may contain one, and its other members are read."""
    (tmp_path / "a.zip").write_bytes(zipped({f"a.{'x' * 300}": "one", "b.txt": "two"}))
    odd, fine = Source([str(tmp_path)], readers=[python(READ, f".{'x' * 300}")])
    assert isinstance(odd, Skipped)
    assert odd.reason == "cannot be read: File name too long"
    assert isinstance(fine, Record)


def test_all_files(tmp_path: Path) -> None:
    """A general command applies to files without their own command."""
    (tmp_path / "a.rtf").write_text("one", encoding="utf-8")
    (tmp_path / "b.doc").write_text("two", encoding="utf-8")
    commands = [python("print('all')", None), python(READ)]
    assert [each.text.strip() for each in Source([str(tmp_path)], readers=commands) if isinstance(each, Record)] == [
        "ONE",
        "all",
    ]


FAILING = {
    "an exit code": ("import sys; sys.exit(3)", "is not read: {} ended with exit code 3"),
    "a reason": (
        "import sys; sys.stderr.write('first\\n\\x1b[31mno \\u202e font' + 'x' * 999 + '\\n\\n'); sys.exit(1)",
        "is not read: {} ended with exit code 1: [31mno font" + "x" * (200 - len("[31mno font")),
    ),
    "a signal": ("import os; os.kill(os.getpid(), 11)", "is not read: {} was ended by SIGSEGV"),
    "too much": (
        "while True: print('x' * 999)",
        "is larger than 1 MB; split it, or raise --max-size",
    ),
    "too many errors": (
        "import sys\nfor _ in range(99999): sys.stderr.write('error\\n')\nsys.exit(1)",
        "is not read: {} ended with exit code 1: error",
    ),
    "another encoding": (
        "import sys; sys.stdout.buffer.write(b'\\xe4')",
        "is not UTF-8 at byte 0; convert it, or name its encoding, such as --encoding cp1252",
    ),
    "nothing": ("", "has no text in it"),
}


@pytest.mark.parametrize("name", FAILING)
def test_commands_that_fail(name: str, tmp_path: Path) -> None:
    """The last line of their output is the reason, and other files are read."""
    script, reason = FAILING[name]
    (tmp_path / "a.rtf").write_text("one", encoding="utf-8")
    (tmp_path / "b.txt").write_text("two", encoding="utf-8")
    failed, fine = Source([str(tmp_path)], readers=[python(script)], most=10**6)
    assert isinstance(failed, Skipped)
    assert failed.reason == reason.format(sys.executable)
    assert isinstance(fine, Record)


def test_a_command_that_takes_too_long(tmp_path: Path) -> None:
    """It is killed with its child processes."""
    (tmp_path / "child.py").write_text(
        f"import pathlib, time; time.sleep(1); pathlib.Path({str(tmp_path / 'x')!r}).touch()", encoding="utf-8"
    )
    child = str(tmp_path / "child.py")
    script = f"import subprocess, sys, time; subprocess.Popen([sys.executable, {child!r}]); time.sleep(60)"
    with pytest.raises(Unreadable, match=r"takes .* more than 0\.5 seconds to read"):
        python(script).text("a", 99, seconds=0.5)
    time.sleep(1.5)
    assert not (tmp_path / "x").exists()


def test_invalid_readers() -> None:
    assert parse_commands(["RTF=cat -n {}", "cat '{}' x=y", ".tar.gz=cat --a={}"]) == (
        Command(("cat", "-n", "{}"), ".rtf"),
        Command(("cat", "{}", "x=y")),
        Command(("cat", "--a={}"), ".tar.gz"),
    )
    for wrong, said in {
        "cat": "must be 'COMMAND {}' or 'SUFFIX=COMMAND {}'",
        "rtf=": "must be 'COMMAND {}' or",
        "{}": "must be 'COMMAND {}' or",
        "cat '{}": "must be a command as a shell takes it",
        "no-such-command {}": "was not found",
    }.items():
        with pytest.raises(SettingError, match=said):
            parse_commands([wrong])
