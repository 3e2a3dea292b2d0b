"""Fetch upstream's tests from the source distributions of the installed versions; the repository holds no copy."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from email import message_from_bytes
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory


class Unavailable(Exception):
    """A source distribution cannot be fetched on this machine, or is not that of the installed version."""


def source_of(distribution: str, cache: Path = Path(sys.prefix, "upstream")) -> Path:
    """Return a folder with the `tests` of the installed version, which is fetched once for each environment."""
    installed = version(distribution)
    folder = cache / f"{distribution}-{installed}"
    if not folder.exists():
        cache.mkdir(exist_ok=True)
        with TemporaryDirectory(dir=cache) as temporary:
            archive = _download(distribution, installed, Path(temporary))
            unpack(archive, installed, Path(temporary, "unpacked")).rename(folder)
    return folder


def _download(distribution: str, installed: str, folder: Path) -> Path:
    """Download the archive with pip, which compares its hash with the index's.

    pip asks the distribution's build backend for its metadata. That is hatchling, which the tests need anyway.
    """
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    how = ["--no-binary", distribution, "--no-build-isolation", "--dest", str(folder), f"{distribution}=={installed}"]
    done = subprocess.run([*command, *how], check=False, capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        raise Unavailable(
            f"the source distribution {distribution} {installed} cannot be fetched\n{done.stderr}".rstrip()
        )
    return archives[0]


def unpack(archive: Path, installed: str, folder: Path) -> Path:
    """Unpack the tests of a source distribution, without its code: that would be imported instead of the installed."""
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
        [root] = {member.name.partition("/")[0] for member in members}
        information = packed.extractfile(f"{root}/PKG-INFO")
        found = message_from_bytes(information.read() if information else b"")["Version"]
        if found != installed:
            raise Unavailable(f"{archive.name} is version {found}, but {installed} is installed")
        tests = [member for member in members if member.name.startswith(f"{root}/tests/")]
        packed.extractall(folder, tests, filter="data")
    return folder / root
