"""`harrier copy`: copy an index to another place, or to a Parquet file and back. It needs no model."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self

import typer

from harrier_cli import failures
from harrier_cli.describing import size_of
from harrier_cli.options import AsJson
from harrier_cli.output import report, say, say_json, shown, tell, tell_each
from harrier_cli.progress import CountBar
from harrier_core import SettingError
from harrier_core.plurals import counted

if TYPE_CHECKING:
    from harrier_core.migration import CopyReport


def copy(
    *,
    source: Annotated[str, typer.Argument(metavar="FROM", help="An index, or FILE.parquet.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TO", help="Another index, or FILE.parquet.", show_default=False)],
    planned: Annotated[bool, typer.Option("--plan", help="Only print the plan.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove records of TO that FROM does not have.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep such records; by default, they are an error.")] = False,
    as_json: AsJson = False,
) -> int:
    """Copy an index to another place, or to a Parquet file and back. It needs no model.

    Texts, metadata, vectors and hashes are copied: an ingest of the same records into TO encodes nothing. A run that
    was interrupted continues when it is repeated. At the end all hashes are compared, and a sample in full.

    A new index is made like the old one, unless the URL of TO says otherwise: precision=float16 or float32, m=32,
    ef_construction=128, indexes=year:integer,lang:keyword and keywords=true or false.

    A file has a row for each chunk: id, number, text, metadata as JSON, start, end, hash, vector. Embedding Atlas shows
    it as a map: embedding-atlas FILE.parquet --text text --vector vector

    The exit code is 1 if something was not copied.
    """
    from harrier_core import migration

    if prune and keep:
        raise SettingError("--prune and --keep exclude each other; give only one of them")
    extra = "remove" if prune else "keep" if keep else "refuse"
    if planned:
        _say_plan(migration.plan(source, target, extra=extra), as_json=as_json)  # type: ignore[arg-type]
        return failures.FINE
    with _Bars() as bars:
        try:
            done = migration.copy(source, target, extra=extra, on_progress=bars.follow)  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; run the same command again to continue") from None
    if as_json:
        say_json({**_as_json(done), "plan": False})
    else:
        tell_each("rejected", done.rejected)
        tell_each("differs", done.problems)
        for each in done.lost:
            tell(f"not kept: {shown(each)}")
        report(shown(str(done)))
    return failures.FINE if done.sound else failures.UNSOUND


class _Bars:
    """A bar for each stage of a copy."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: CountBar
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def follow(self, done: CopyReport) -> None:
        """Show a report."""
        if done.stage != self._stage:
            self._open.close()
            self._stage, self._bar = done.stage, self._open.enter_context(CountBar(done.stage, "chunks", done.total))
        if done.stage == "indexing":
            self._bar.advance(None, counted(done.chunks, "chunk"))
        else:
            copied = done.copied if done.stage == "copying" else 0
            self._bar.count(min(done.total, copied + done.checked))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()


def _say_plan(would: CopyReport, *, as_json: bool) -> None:
    if as_json:
        say_json({**_as_json(would), "plan": True})
        return
    copying = f"{counted(would.copied, 'chunk')} of {counted(would.records, 'record')}, about {size_of(would.bytes)}"
    say(f"to copy: {copying}; {would.unchanged:,} unchanged, {would.deleted:,} to be deleted")
    for each in would.lost:
        say(f"not kept: {shown(each)}")


def _as_json(done: CopyReport) -> dict[str, object]:
    numbers = ("records", "chunks", "copied", "unchanged", "deleted", "bytes", "compared", "identical", "least_cosine")
    return {
        **{name: getattr(done, name) for name in numbers},
        "rejected": [{"id": name, "reason": reason} for name, reason in done.rejected],
        "problems": [{"id": name, "problem": problem} for name, problem in done.problems],
        "lost": done.lost,
        "seconds": round(done.seconds, 3),
    }
