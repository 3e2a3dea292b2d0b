"""Debian's PostgreSQL with pgvector, for as long as a command runs; nothing is installed, and nothing is left.

python tests/debian.py VERSION COMMAND...    run the command with `--postgres DSN` added, and return its exit code
python tests/debian.py --reachable           return 0 if Debian's packages can be fetched here; otherwise say why not

A server that is installed with pgvector is used as it is. Any other version of `RELEASES` is unpacked into a temporary
folder, from the mirror that apt uses on this machine. Debian 12 and older have no pgvector: it is built from the source
package of a later release, which needs gcc and make.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

RELEASES = {"13": "bullseye", "15": "bookworm", "17": "trixie"}
PGVECTOR = "trixie"  # the first release that has it

# Every machine has these in a version at least as new. LLVM, which compiles queries, is not needed.
NOT_UNPACKED = ("libc6_", "libc-bin_", "libc-l10n_", "libcrypt1_", "libgcc-s1_", "libstdc++6_", "libllvm")

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": 200,
    "password_encryption": "scram-sha-256",
    "fsync": "off",
    "jit": "off",
}


class Unavailable(Exception):
    """Debian's packages cannot be downloaded on this machine."""


class Apt:
    """apt with its lists and packages in a separate folder; it changes nothing else."""

    def __init__(self, folder: Path, source: str | None = None) -> None:
        if not shutil.which("apt-get"):
            raise Unavailable("there is no apt-get on this machine")
        for each in ("lists/partial", "cache/archives/partial"):
            (folder / each).mkdir(parents=True)
        self.folder = folder
        self._options = [
            *(f"-oDir::State={folder}", f"-oDir::State::lists={folder}/lists", f"-oDir::Cache={folder}/cache"),
            *("-oAPT::Sandbox::User=root", "-oAcquire::Retries=3", "--quiet"),
        ]
        if source:
            keys = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
            kind, _, place = source.partition(" ")
            signed = f" [signed-by={keys}]" if keys.exists() else ""
            (folder / "sources.list").write_text(f"{kind}{signed} {place}\n")
            self._options += [f"-oDir::Etc::SourceList={folder}/sources.list", "-oDir::Etc::SourceParts=/dev/null"]
            (folder / "status").touch()  # as if nothing were installed
            self._options += [f"-oDir::State::status={folder}/status", "-oAPT::Update::Error-Mode=any"]
        self.get("update")

    def get(self, *arguments: str) -> str:
        """Run apt-get, and return its output."""
        command = ["apt-get", *self._options, *arguments]
        done = subprocess.run(command, cwd=self.folder, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"apt-get {' '.join(arguments)} failed\n{done.stdout}{done.stderr}".rstrip())
        return done.stdout

    def mirror(self) -> str:
        """Return the address of Debian's packages."""
        places = self.get("indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages")
        for label, _, place in (line.partition("|") for line in places.splitlines()):
            if label == "Debian":
                return place
        raise Unavailable("apt reaches no source of Debian's on this machine")


class Server(NamedTuple):
    """The programs of a server, and the libraries that they need."""

    programs: Path
    libraries: str = ""

    def run(self, program: str, *arguments: str, **options: Any) -> None:
        """Run a program as a user other than root, which PostgreSQL refuses."""
        command, environment = [str(self.programs / program), *arguments], {**os.environ, "LC_ALL": "C.UTF-8"}
        if self.libraries:
            environment["LD_LIBRARY_PATH"] = self.libraries
        done = subprocess.run(command, check=False, capture_output=True, env=environment, **options)
        if done.returncode:  # a release that is newer than the machine's needs newer libraries than it has
            raise Unavailable(f"{program} failed\n{done.stdout.decode()}{done.stderr.decode()}".rstrip())


def installed(version: str) -> Server | None:
    """Return a server that is installed with pgvector."""
    programs = Path(f"/usr/lib/postgresql/{version}/bin")
    extension = Path(f"/usr/share/postgresql/{version}/extension/vector.control")
    return Server(programs) if (programs / "initdb").exists() and extension.exists() else None


def unpacked(version: str, folder: Path) -> Server:
    """Unpack a server with pgvector into a folder."""
    mirror, release = Apt(folder / "apt").mirror(), RELEASES[version]
    apt = Apt(folder / release, f"deb {mirror} {release} main")
    names = [f"postgresql-{version}", *([f"postgresql-{version}-pgvector"] if release == PGVECTOR else []), "pgbouncer"]
    apt.get("install", "--yes", "--no-install-recommends", "--download-only", *names)
    apt.get("download", f"postgresql-server-dev-{version}")
    root = folder / "root"
    for package in [*apt.folder.glob("cache/archives/*.deb"), *apt.folder.glob("*.deb")]:
        if package.name.startswith(("lib", "pgbouncer", "postgresql")) and not package.name.startswith(NOT_UNPACKED):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
    libraries = {str(path.parent) for path in root.rglob("*.so.*") if "postgresql" not in path.parts}
    server = Server(root / f"usr/lib/postgresql/{version}/bin", ":".join(sorted(libraries)))
    script(folder / "bin/pgbouncer", f"LD_LIBRARY_PATH='{server.libraries}' exec '{root}/usr/sbin/pgbouncer' \"$@\"")
    if release != PGVECTOR:
        build_pgvector(server, Apt(folder / "source", f"deb-src {mirror} {PGVECTOR} main"))
    return server


def build_pgvector(server: Server, apt: Apt) -> None:
    """Build pgvector from Debian's source package into the server's folder."""
    apt.get("source", "--download-only", "pgvector")
    [archive] = apt.folder.glob("*.orig.tar.gz")
    subprocess.run(["tar", "--extract", "--no-same-owner", "--file", archive], cwd=apt.folder, check=True)
    [folder] = apt.folder.glob("pgvector-*/")
    config, root = folder / "pg_config", server.programs.parents[4]
    original = f"LD_LIBRARY_PATH='{server.libraries}' '{server.programs}/pg_config'"
    script(config, f"{original} \"$@\" | sed 's|^/usr|{root}/usr|'")  # the original assumes /usr
    settings = [f"PG_CONFIG={config}", "OPTFLAGS=", "with_llvm=no"]  # no instructions specific to this processor
    for target in ("all", "install"):
        command = ["make", "--silent", "--jobs", str(os.cpu_count() or 1), *settings, target]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"pgvector cannot be built\n{done.stdout}{done.stderr}".rstrip())


def script(path: Path, command: str) -> None:
    """Write a program of one command."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


@contextmanager
def cluster(server: Server, folder: Path) -> Iterator[str]:
    """Create a cluster in a folder, start it on a local port, and yield its connection string."""
    user: dict[str, Any] = {}
    data, password, password_file = folder / "data", secrets.token_urlsafe(), folder / "password"
    password_file.write_text(password)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for each in (folder, password_file):
            os.chown(each, nobody.pw_uid, nobody.pw_gid)
    how = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--no-sync"]
    server.run("initdb", f"--pgdata={data}", *how, cwd=folder, **user)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in {**SETTINGS, "port": port}.items())
    server.run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={folder}/log", cwd=folder, **user)
    try:
        yield f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    finally:
        server.run("pg_ctl", "stop", "--mode=immediate", f"--pgdata={data}", cwd=folder, **user)


def main(version: str, *command: str) -> int:
    """Run the command line that this module describes."""
    with TemporaryDirectory(prefix="harrier") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # for the server's user
        try:
            if version == "--reachable":
                Apt(folder / "apt").mirror()
                return 0
            server = installed(version) or unpacked(version, folder)
            (folder / "cluster").mkdir(mode=0o700)
            with cluster(server, folder / "cluster") as dsn:
                environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}  # PgBouncer is in it
                return subprocess.run([*command, "--postgres", dsn], check=False, env=environment).returncode
        except Unavailable as error:
            sys.stderr.write(f"Debian's PostgreSQL: {error}\n")
            return 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the server is stopped
    sys.exit(main(*sys.argv[1:]))
