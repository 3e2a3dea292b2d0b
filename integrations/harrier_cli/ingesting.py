"""`harrier ingest`: ingest files, rows and standard input into an index, one source at a time."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from harrier_files.columns import Columns
from harrier_files.commands import parse_commands
from harrier_files.files import STANDARD_INPUT
from harrier_files.formats.decoding import checked_encoding
from harrier_files.globs import expanded
from harrier_files.limits import parse_size
from harrier_files.memory import FileMemory, Forgetful
from harrier_files.owning import refuse_other_roots
from harrier_files.reading import FORMATS
from harrier_files.rows import ROWS
from harrier_files.sources import OWN_METADATA, Source
from harrier_files.tables import PostgresSource
from harrier_files.walk import is_url

from harrier_cli import failures, output, spreading
from harrier_cli.encoders import Choice
from harrier_cli.options import ApiKeyFile, AsJson, Device, Dtype, ModelName, Server, Workers, place_of
from harrier_cli.output import complain, say_json, shown, tell, tell_each
from harrier_cli.progress import IngestBar
from harrier_cli.wording import refuse_wordless
from harrier_core import Chunking, Index, IngestReport, SettingError, open_store
from harrier_core.plurals import counted
from harrier_core.progress import Progress

_KINDS = 12  # of files that are left out, listed one by one; --json has them all

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Files, folders, URLs, or - for standard input.", show_default=False),
]
To = Annotated[str | None, typer.Option("--to", metavar="PLACE", help="The index (HARRIER_INDEX).", show_default=False)]
From = Annotated[
    str | None, typer.Option("--from", metavar="URL", help="Read from this Postgres, postgresql://..., instead.")
]
Query = Annotated[str | None, typer.Option("--query", help="SQL query of the rows to read.")]
TableName = Annotated[str | None, typer.Option("--table", help="Table to read as a whole.")]
IdColumn = Annotated[
    str | None,
    typer.Option("--id", metavar="COLUMN", help="Column of ids, FILE:LINE by default. With -: the id of the text."),
]
TextColumn = Annotated[str, typer.Option("--text", metavar="COLUMN", help="The texts of rows.")]
MetadataColumns = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="COLUMN", help="A column to keep next to the text; may be repeated."),
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help=f"Format of all files: {', '.join(FORMATS)}.")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", metavar="NAME", help="Encoding of texts that are not UTF-8, such as cp1252.")
]
Readers = Annotated[
    list[str] | None,
    typer.Option(
        "--reader",
        metavar="[SUFFIX=]COMMAND",
        help="Read files by a command that prints their text: 'rtf=unrtf --text {}'; may be repeated.",
    ),
]
ChunkTokens = Annotated[
    int,
    typer.Option(help="Maximum tokens per chunk; 0 disables chunking, and texts too long for the model are rejected."),
]
Overlap = Annotated[int, typer.Option(help="Number of tokens that consecutive chunks share.")]
SourceName = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME",
        help="Prefix of ids, wherever the source is; by default the name of the folder or table.",
    ),
]
Moved = Annotated[bool, typer.Option("--moved", help="Treat the folder as a known source that was moved.")]
MaxSize = Annotated[
    str, typer.Option("--max-size", metavar="SIZE", help="Reject larger files, and longer lines of rows.")
]
Patterns = list[str] | None
Include = Annotated[
    Patterns,
    typer.Option(
        "--include",
        metavar="GLOB",
        help="In folders, read only matching files of any suffix; a .gitignore pattern; may be repeated.",
    ),
]
Exclude = Annotated[Patterns, typer.Option("--exclude", metavar="GLOB", help="Skip matching files; may be repeated.")]
NoIgnore = Annotated[bool, typer.Option("--no-ignore", help="Also read what .gitignore and .harrierignore exclude.")]
Links = Annotated[
    Literal["skip", "follow"], typer.Option("--links", help="How to treat links to files and folders elsewhere.")
]
Reread = Annotated[bool, typer.Option("--reread", help="Also read files that have not changed since an earlier run.")]
Prune = Annotated[bool, typer.Option("--prune", help="Remove the source's records that are no longer in it.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[HOST:PORT]",
        help="Ingest JSONL, CSV and Parquet on this Ray cluster; by default RAY_ADDRESS, or one of this machine alone.",
    ),
]
Keywords = Annotated[
    bool, typer.Option("--keywords", help="Create a new index with the words of its texts, for search --mode hybrid.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing; print what would be done.")]
AllowRejected = Annotated[int, typer.Option(metavar="N", help="Exit with 0 if at most this many records are rejected.")]


def ingest(
    *,
    paths: Paths = None,
    to: To = None,
    from_: From = None,
    query: Query = None,
    table: TableName = None,
    id_: IdColumn = None,
    text: TextColumn = "text",
    metadata: MetadataColumns = None,
    format_: Format = None,
    encoding: Encoding = None,
    reader: Readers = None,
    chunk_tokens: ChunkTokens = 512,
    overlap: Overlap = 0,
    source_name: SourceName = None,
    moved: Moved = False,
    max_size: MaxSize = "100MB",
    include: Include = None,
    exclude: Exclude = None,
    no_ignore: NoIgnore = False,
    links: Links = "skip",
    reread: Reread = False,
    prune: Prune = False,
    keywords: Keywords = False,
    workers: Workers = None,
    ray: Ray = None,
    dry_run: DryRun = False,
    allow_rejected: AllowRejected = 0,
    as_json: AsJson = False,
    model: ModelName = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Ingest texts into an index. Only new and changed texts are encoded; to resume a failed run, repeat it.

    A document is a record, and so is a row of JSONL, CSV or Parquet; --format has all formats. A folder is a source,
    and the id of a file is FOLDER/PATH/IN/IT, however the path was spelled; a file that is named individually belongs
    to the folder that it is in. Another folder of the same name is refused; --source gives it a different name.
    Standard input is one text, unless --format says otherwise. Unreadable input is listed, and does not stop the run.
    """
    paths = expanded(paths or [])
    _check_input(paths, from_, query, table, format_)
    if ray is not None:
        spreading.check_source(paths, from_, dry_run=dry_run)
    chunking, columns, most = _chunking(chunk_tokens, overlap), _columns(id_, text, metadata), parse_size(max_size)
    source: Source
    if from_:
        source = PostgresSource([], columns, name=source_name, most=most, url=from_, query=query, table=table)
    else:
        source = Source(
            paths,
            columns,
            format_,
            source_name,
            most,
            include=include or [],
            exclude=exclude or [],
            ignore=not no_ignore,
            links=links,
            encoding=checked_encoding(encoding) if encoding else None,
            readers=parse_commands(reader or []),
            piped=id_ if id_ is not None and _is_a_text(paths, format_) else STANDARD_INPUT,
        )
    place = place_of(to, "--to")
    run = _Run(
        source=source,
        prune=prune,
        dry_run=dry_run,
        moved=moved,
        allowed=allow_rejected,
        reread=reread,
        workers=workers,
        ray=ray,
    )
    store = open_store(place, keywords=keywords)
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    with choice.encoder() as encoder, Index(store, encoder, chunking=chunking) as index:
        if keywords:
            refuse_wordless(store)
        report = run.into(index)
    if as_json:
        run.say_json(report)
    else:
        run.say(report)
    return failures.FINE if run.is_sound(report) else failures.UNSOUND


def _check_input(paths: list[str], url: str | None, query: str | None, table: str | None, format_: str | None) -> None:
    if bool(paths) == bool(url):
        raise SettingError("an ingest reads either PATHs, or a Postgres with --from; pass exactly one of them")
    if (query or table) and not url:
        raise SettingError("--query and --table need --from")
    if format_ not in (None, *FORMATS):
        raise SettingError(f"unknown format {format_!r}; the formats are {', '.join(FORMATS)}")
    if missing := [path for path in paths if not (path == STANDARD_INPUT or is_url(path) or Path(path).exists())]:
        raise SettingError(f"there is no {missing[0]}; a PATH is a file, a folder, a URL, or - for standard input")


def _is_a_text(paths: list[str] | None, format_: str | None) -> bool:
    """Return whether the only input is one text from standard input, which has no columns."""
    return paths == [STANDARD_INPUT] and format_ not in ROWS


def _chunking(tokens: int, overlap: int) -> Chunking | None:
    if overlap and not tokens:
        raise SettingError("--overlap requires chunking; omit it, or set --chunk-tokens above 0")
    return Chunking(tokens=tokens, overlap=overlap) if tokens else None


def _columns(id_: str | None, text: str, metadata: list[str] | None) -> Columns:
    columns = Columns(id_, text, tuple(metadata or ()))
    if taken := [name for name in columns.metadata if name in OWN_METADATA]:
        raise SettingError(f"--metadata cannot be {taken[0]}: the command itself uses that field; rename the column")
    return columns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A source on its way into an index, or a count of what that would change."""

    source: Source
    prune: bool
    dry_run: bool
    moved: bool
    allowed: int  # records that may be rejected
    reread: bool  # files that have not changed
    workers: int | None  # processes
    ray: str | None  # the address of a cluster, or "" for that of RAY_ADDRESS or this machine

    def into(self, index: Index) -> IngestReport:
        """Make the index hold the source's records as they are now."""
        stored = 0
        size = self.source.size() if self.ray is None else None  # on a cluster, others read it
        with IngestBar("would ingest" if self.dry_run else "ingesting") as bar:
            if self.ray is not None:
                spreading.check_index(index)
            refuse_other_roots(index, self.source.origins, moved=self.moved)

            def advance(report: IngestReport) -> None:
                nonlocal stored
                stored = report.written
                bar.follow(report, self.source.bytes_read / size if size else None)

            try:
                return self._spread(index, advance) if self.ray is not None else self._here(index, advance)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"interrupted; {counted(stored, 'chunk')} of this run {'is' if stored == 1 else 'are'} stored so "
                    "far; run the same command again to continue"
                ) from None

    def _here(self, index: Index, advance: Progress) -> IngestReport:
        """Ingest by processes of this machine."""
        ingest = index.plan if self.dry_run else partial(index.ingest, workers=self.workers)
        pruning = self.source.pruning if self.prune else False
        with self.source.deferred() as records, closing(FileMemory.of_user()) as memory:
            known = Forgetful(memory) if self.reread else memory
            return ingest(records, prune=pruning, on_progress=advance, memory=known)

    def _spread(self, index: Index, advance: Progress) -> IngestReport:
        """Ingest on a cluster."""
        return spreading.ingest(
            index,
            self.source,
            address=self.ray,
            workers=self.workers,
            prune=self.prune,
            on_progress=advance,
        )

    def is_sound(self, report: IngestReport) -> bool:
        """Return whether the source could be read, stored, and compared with what was stored before.

        As many records as are allowed may have been rejected.
        """
        unpruned = self.prune and (self.source.walk.unknown or not self.source.complete)
        return len(report.rejected) <= self.allowed and not (report.repeated or unpruned)

    def say_json(self, report: IngestReport) -> None:
        """Print the report as JSON."""
        numbers = {name: getattr(report, name) for name in ("records", "written", "unchanged", "deleted", "encoded")}
        rejected = [{"id": name, "reason": reason} for name, reason in report.rejected]
        left_out = dict(self.source.walk.left_out)
        named: dict[str, Any] = {"rejected": rejected, "repeated": report.repeated, "left_out": left_out}
        named["blank"] = report.blank
        done = {"pruned": self.prune and self.source.complete, "dry_run": self.dry_run}
        say_json({**numbers, **named, **done, "seconds": round(report.seconds, 3)})

    def say(self, report: IngestReport) -> None:
        """Print the report, with a line for each record that was rejected, left out or not pruned."""
        walk = self.source.walk
        tell_each("rejected", report.rejected)
        counts = "the last one counts" if self.ray is None else "any of them may be the one that is stored"
        tell_each("repeated", [(name, f"occurred more than once; {counts}") for name in report.repeated])
        tell_each("left out", walk.links, wrong=False)
        if walk.left_out:
            tell(f"left out: {_counted(walk.left_out)}")
        if report.blank:
            more = f" and {len(report.blank) - 1:,} more" if len(report.blank) > 1 else ""
            tell(f"blank: {shown(report.blank[0])}{more}")
        if self.prune:
            self._tell_not_pruned()
        done = replace(report, rejected=[], repeated=[], blank=[])  # already reported one by one
        said = f"would be: {counted(done.records, 'record')}; {done.changes}" if self.dry_run else str(done)
        output.report(f"{said}; {len(report.rejected):,} rejected")

    def _tell_not_pruned(self) -> None:
        walk = self.source.walk
        if self.source.complete:
            unknown = sorted(set(walk.unknown))
            reason = "could not be read, and was kept"
            tell_each("not pruned", [(each, reason) for each in unknown])
        else:
            complain("not pruned: the unreadable records cannot be identified; fix them, and run it again")


def _counted(kinds: Counter[str]) -> str:
    """Return the number of files of each frequent kind, and the total of all other kinds."""
    said = [f"{number:,} {shown(kind)}" for kind, number in kinds.most_common(_KINDS)]
    others = kinds.total() - sum(number for _, number in kinds.most_common(_KINDS))
    return ", ".join([*said, f"{others:,} of {len(kinds) - _KINDS:,} other kinds"] if others else said)
