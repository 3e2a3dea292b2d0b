"""`harrier sync`: keep the embeddings of a Postgres table in sync with it."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harrier_cli import failures
from harrier_cli.command import Command, Group
from harrier_cli.encoders import Choice
from harrier_cli.options import ApiKeyFile, AsJson, ModelName, Server
from harrier_cli.output import say, say_json, shown, tell
from harrier_core import Chunking, SettingError
from harrier_core.plurals import counted

if TYPE_CHECKING:
    from harrier_pgvector.sync import SyncFailure, SyncStatus, SyncWorker, TableSync
    from harrier_pgvector.urls import Target

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="""Keep the embeddings of a Postgres table in sync with it.

    Declare it once with [bold]create[/], and leave [bold]run[/] running, on one machine or on many. A PLACE is
    postgresql://user@host/db?table=chunks or pgvector:FOLDER?table=chunks, with &schema=NAME unless it is public.
    """,
)

PlaceName = Annotated[str, typer.Argument(metavar="PLACE", help="The database, and ?table= if it has several.")]

Trust = Annotated[
    list[str] | None,
    typer.Option("--trust", metavar="ROLE", help="Another role to trust, whose tables and thus SQL code may be used."),
]

_TABLE_FAILURES = 10  # lines of a table's failed rows; --json has more of them
_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class Database:
    """A Postgres, and the table named in its URL."""

    target: Target
    trust: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str, trust: list[str] | None = None) -> Database:
        """Return the parts of a URL. trust: other roles that may own tables."""
        from harrier_pgvector.urls import Target

        return cls(Target.of(url), tuple(trust or ()))

    @contextmanager
    def sync(self) -> Iterator[TableSync]:
        """Yield the chosen declared table: the named one, or the only one."""
        from harrier_pgvector.sync import TableSync

        with self.target.conninfo() as conninfo:
            name, schema = self.target.table, self.target.schema
            if name is None:
                tables = [status.table for status in self.statuses(conninfo)]
                if len(tables) != 1:
                    raise SettingError(f"name the table with ?table=NAME; declared are: {', '.join(tables) or 'none'}")
                schema, _, name = tables[0].partition(".")
            with TableSync(conninfo, table=name, schema=schema, trust=self.trust) as sync:
                yield sync

    def statuses(self, conninfo: str) -> list[SyncStatus]:
        """Return the status of declared tables: the named one, or all."""
        from harrier_pgvector.sync import sync_statuses

        found = sync_statuses(conninfo, trust=self.trust)
        if self.target.table is None:
            return found
        found = [each for each in found if each.table == f"{self.target.schema}.{self.target.table}"]
        if not found:
            raise SettingError(f"table {self.target.table!r} follows no other table; omit ?table= to see all that do")
        return found

    def failures(self, conninfo: str, status: SyncStatus, most: int) -> list[SyncFailure]:
        """Return the rows of a table that were set aside."""
        from harrier_pgvector.sync import TableSync

        if not status.failed:
            return []
        schema, _, table = status.table.partition(".")
        with TableSync(conninfo, table=table, schema=schema, trust=self.trust) as sync:
            return sync.failures(most)


@app.command(cls=Command)
def create(
    *,
    source: Annotated[
        str,
        typer.Option("--source", metavar="TABLE", help="The table to follow, or SCHEMA.TABLE; it needs a primary key."),
    ],
    to: Annotated[str, typer.Option("--to", metavar="PLACE", help="The table of the chunks, in the same database.")],
    text: Annotated[
        list[str],
        typer.Option(
            "--text", metavar="SQL", help="A column or an SQL expression; may be repeated, and all are joined."
        ),
    ],
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="COLUMN", help="A column to keep next to the text; may be repeated."),
    ] = None,
    model: ModelName = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    chunk_tokens: Annotated[int, typer.Option(help="Maximum tokens per chunk.")] = 512,
    overlap: Annotated[int, typer.Option(help="Number of tokens that consecutive chunks share.")] = 0,
    wake: Annotated[
        str | None,
        typer.Option(
            help="How to learn of changes: notify, or poll if NOTIFY cannot be used, as in prepared transactions.",
            show_default="poll if the server allows prepared transactions, otherwise notify",
        ),
    ] = None,
    row_security: Annotated[
        bool,
        typer.Option(help="Enable row-level security on the chunks if the source has it."),
    ] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an earlier declaration.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove records that are only in the table of chunks.")
    ] = False,
    keywords: Annotated[
        bool,
        typer.Option("--keywords", help="Create a new table with the words of its texts, for search --mode hybrid."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the SQL, and change nothing.")] = False,
    trust: Trust = None,
) -> None:
    """Declare a table whose texts are embedded, now and whenever they change."""
    database = Database.of(to, trust)
    if database.target.table is None:
        raise SettingError("name the table of the chunks: --to '...?table=NAME'")
    chunking = Chunking(tokens=chunk_tokens, overlap=overlap)
    layout = database.target.layout
    if layout.hnsw is not None or layout.indexes is not None:
        raise SettingError("the URL of a table that follows another one takes precision and keywords only")
    words, precision = keywords or bool(layout.keywords), layout.precision or "float16"
    with database.sync() as sync:
        with Choice(model=model, server=server, api_key_file=api_key_file).encoder() as encoder:
            said = sync.create(
                source, encoder.space, text=text, metadata=metadata or (), chunking=chunking, wake=wake,
                row_security=row_security, replace=replace, prune=prune, dry_run=dry_run, keywords=words,
                precision=precision,
            )  # fmt: skip
        if dry_run:
            say(said)
        else:
            say(f"table {sync} follows {source}; 'harrier sync run' embeds its rows, now and later")
            for note in takewhile(lambda line: line.startswith("-- "), said.splitlines()):
                tell(note.removeprefix("-- "))


@app.command(cls=Command)
def run(
    *,
    places: Annotated[list[str], typer.Argument(metavar="PLACE", help="Databases, which share the model.")],
    model: ModelName = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    once: Annotated[bool, typer.Option("--once", help="Exit when nothing is left to do, for cron.")] = False,
    lease: Annotated[float, typer.Option(help="Seconds after which the rows of a dead worker go to another.")] = 60.0,
    poll: Annotated[float, typer.Option(help="Seconds between checks for changes that were not announced.")] = 5.0,
    metrics: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Serve metrics for Prometheus; on 127.0.0.1 by default.")
    ] = None,
    trust: Trust = None,
) -> int:
    """Embed the changes in all declared tables. Any number of workers may run, on any number of machines."""
    from harrier_pgvector.sync import SyncWorker, sync_statuses
    from harrier_pgvector.sync.metrics import serve_metrics

    _log_in_lines()
    choice = Choice(model=model, server=server, api_key_file=api_key_file)
    with choice.encoder() as encoder, ExitStack() as stack:
        said = str(encoder.space)  # a missing model is an error now, and not at the first change
        databases = [Database.of(place, trust) for place in places]
        trusted = databases[0].trust
        conninfos = [stack.enter_context(each.target.conninfo()) for each in databases]

        def statuses() -> list[SyncStatus]:
            return [status for each in conninfos for status in sync_statuses(each, trust=trusted)]

        if metrics:
            host, port = _address(metrics)
            stack.enter_context(serve_metrics(statuses, host, port))
        workers = [SyncWorker(each, encoder, lease=lease, poll=poll, trust=trusted) for each in conninfos]
        tell(f"embedding changes with {said} in {', '.join(str(each.target) for each in databases)}")
        _work(workers, once=once)
        troubles = [trouble for worker in workers for trouble in worker.troubles.items()]
        for table, trouble in troubles:
            tell(f"skipped: {table}: {trouble}")
        failed = sum(status.failed for status in statuses()) if once else 0
    return failures.UNSOUND if once and (troubles or failed) else failures.FINE


def _work(workers: list[SyncWorker], *, once: bool) -> None:
    """Work until the workers are done or are told to stop; rows in progress are still written."""
    asked: list[int] = []

    def stop(number: int, _: object) -> None:
        asked.append(number)
        for worker in workers:
            worker.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(len(workers), thread_name_prefix="harrier-sync") as threads:
            running = [threads.submit(worker.drain if once else worker.run) for worker in workers]
            wait(running)
            for each in running:
                each.result()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in asked:
        raise KeyboardInterrupt("stopped; the rest waits in the queue: run the same command again to continue")


@app.command(cls=Command)
def status(
    *,
    place: PlaceName,
    watch: Annotated[bool, typer.Option("--watch", help="Keep updating the output, until Ctrl-C.")] = False,
    as_json: AsJson = False,
    trust: Trust = None,
) -> int:
    """Show the state of declared tables. The exit code is 1 if one is broken or failing, or has failed rows."""
    database = Database.of(place, trust)
    with database.target.conninfo() as conninfo:
        if watch:
            return _watch(database, conninfo)
        found = database.statuses(conninfo)
        if as_json:
            say_json([_as_json(each, database.failures(conninfo, each, 1_000)) for each in found])
        else:
            for each in found:
                _say_status(each, database.failures(conninfo, each, _TABLE_FAILURES))
            if not found:
                say("no table is declared here; see 'harrier sync create --help'")
    unsound = any(each.state in ("broken", "failing") or each.failed for each in found)
    return failures.UNSOUND if unsound else failures.FINE


def _as_json(status: SyncStatus, failed: list[SyncFailure]) -> dict[str, Any]:
    computed = {"left": status.left, "seconds_left": status.seconds_left}
    return asdict(status) | computed | {"failures": [asdict(each) for each in failed]}


def _say_status(status: SyncStatus, failed: list[SyncFailure]) -> None:
    say(shown(f"{status.table} follows {status.source}"))
    say(shown(f"    state    {status.state}{f': {status.reason}' if status.reason else ''}"))
    say(f"    rows     {status.pending:,} pending, {status.leased:,} in work, about {status.unscanned:,} to be read")
    say(f"    oldest   {_duration(status.oldest)}")
    say(f"    rate     {status.rate:,.0f} rows a second, time left: {_duration(status.seconds_left)}")
    say(f"    workers  {status.workers}")
    say(f"    chunks   about {status.chunks:,}")
    say(f"    failed   {status.failed:,}")
    for each in failed:
        say(f"             {shown(each.record_id)}: {shown(each.reason)}")
    if status.failed > len(failed):
        say(f"             and {status.failed - len(failed):,} more")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "none"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s" if minutes else f"{rest} s"


def _watch(database: Database, conninfo: str) -> int:
    """Show a table that is redrawn every second."""
    from rich.live import Live

    with Live(_drawn(database.statuses(conninfo)), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(_SECOND)
                live.update(_drawn(database.statuses(conninfo)), refresh=True)
        except KeyboardInterrupt:
            return failures.FINE


def _drawn(statuses: list[SyncStatus]) -> Any:  # Rich's table
    """Return the table, narrow enough for eighty columns."""
    from rich.table import Table

    drawn = Table(box=None, padding=(0, 1, 0, 0))
    drawn.add_column("table", min_width=16, overflow="fold")
    drawn.add_column("state", no_wrap=True)
    for name in ("pending", "in work", "failed", "to read", "oldest", "rows/s", "left"):
        drawn.add_column(name, justify="right", no_wrap=True)
    for each in statuses:
        counts = (_rounded(number) for number in (each.pending, each.leased, each.failed, each.unscanned))
        oldest, left = (_duration(seconds).replace(" ", "") for seconds in (each.oldest, each.seconds_left))
        drawn.add_row(shown(each.table.removeprefix("public.")), each.state, *counts, oldest, _rounded(each.rate), left)
    return drawn


def _rounded(number: float) -> str:
    """Return a number in at most five characters."""
    for unit in ("", "k", "M"):
        if number < 9_999.5:
            return f"{number:.0f}{unit}"
        number /= 1_000
    return f"{number:.0f}G"


@app.command(cls=Command)
def retry(*, place: PlaceName, trust: Trust = None) -> None:
    """Retry the rows that were set aside."""
    with Database.of(place, trust).sync() as sync:
        number = sync.retry()
        say(f"{counted(number, 'row')} of table {sync} {'is' if number == 1 else 'are'} queued again")


@app.command(cls=Command)
def rescan(*, place: PlaceName, trust: Trust = None) -> None:
    """Check every row for changes that no trigger saw. Unchanged rows are not embedded again.

    Partitions that were added since the table was declared get their triggers.
    """
    with Database.of(place, trust).sync() as sync:
        sync.rescan()
        say(f"all rows of the source of table {sync} will be checked")


@app.command(cls=Command)
def pause(*, place: PlaceName, trust: Trust = None) -> None:
    """Pause the embedding of a table. Its changes are still recorded."""
    with Database.of(place, trust).sync() as sync:
        sync.pause()
        say(f"table {sync} is paused")


@app.command(cls=Command)
def resume(*, place: PlaceName, trust: Trust = None) -> None:
    """Resume the embedding of a table."""
    with Database.of(place, trust).sync() as sync:
        sync.resume()
        say(f"table {sync} is resumed")


@app.command(cls=Command)
def drop(
    *,
    place: PlaceName,
    chunks: Annotated[bool, typer.Option("--chunks", help="Also drop the table of chunks.")] = False,
    trust: Trust = None,
) -> None:
    """Remove triggers, queue and view. The chunks stay, unless --chunks is given."""
    with Database.of(place, trust).sync() as sync:
        sync.drop(chunks=chunks)
        say(f"table {sync} {'is dropped' if chunks else 'stays, and no longer follows a table'}")


def _address(said: str) -> tuple[str, int]:
    host, _, port = said.rpartition(":")
    if not port.isdecimal():
        raise SettingError(f"--metrics must be a port or HOST:PORT, got {said!r}")
    return host or "127.0.0.1", int(port)


def _log_in_lines() -> None:
    """Send the workers' log to standard error, one line per message."""

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(shown(record.getMessage()))

    logging.getLogger("harrier_pgvector.sync").handlers = [Lines()]
