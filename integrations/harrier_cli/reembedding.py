"""`harrier reembed`: change the model of an index that is in use; it can be searched at all times."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Literal, Self

import typer

from harrier_cli import failures
from harrier_cli.describing import size_of
from harrier_cli.encoders import Choice, no_model
from harrier_cli.options import ApiKeyFile, AsJson, Device, Dtype, ModelName, Place, Server, Workers, place_of
from harrier_cli.output import report, say, say_json, shown, tell, tell_each
from harrier_cli.progress import CountBar, duration
from harrier_core import ModelNotFound, SettingError, open_store
from harrier_core.plurals import counted

if TYPE_CHECKING:
    from harrier_core import EmbeddingSpace, VectorStore
    from harrier_core.choosing import AnyEncoder
    from harrier_core.migration import Check, ReembedReport

_NICE = 15  # with --rate

_ACTIONS = ("--plan", "--check", "--switch", "--back", "--drop-old")


def reembed(
    *,
    place: Place = None,
    planned: Annotated[
        bool, typer.Option("--plan", help="Only print the plan: what would be encoded, and how long it would take.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Verify the new space, and compare its searches with the current ones.")
    ] = False,
    switch: Annotated[
        bool, typer.Option("--switch", help="Make the index use the new space, in one atomic step.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="Undo --switch, in one atomic step.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Remove the old content that --switch kept.")] = False,
    recut: Annotated[
        bool,
        typer.Option(
            "--recut",
            help="With --check and --switch: the new space has different chunks. It is the place with '_recut' after "
            "its name, into which 'harrier ingest' has ingested the source.",
        ),
    ] = False,
    rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Encode at most this many chunks a second, and give way to other work."),
    ] = None,
    precision: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="Precision of the new vectors; unchanged by default.")
    ] = None,
    workers: Workers = None,
    judgements: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Questions for --check, as 'harrier eval' takes them.", show_default=False),
    ] = None,
    old_model: Annotated[
        str | None,
        typer.Option("--old-model", metavar="NAME", help="The model in use, for --check; the recorded one by default."),
    ] = None,
    sample: Annotated[
        int, typer.Option(metavar="N", help="Number of chunks that --check encodes again and searches for.")
    ] = 100,
    as_json: AsJson = False,
    model: ModelName = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Change the model of an index while it is in use.

    A place with the index's name plus "_next" is filled from the stored texts by the model of --model. Readers
    and writers keep using the index. Run the same command again after an interruption, or to catch up with what was
    written meanwhile.

    --check examines the result. --switch takes over what was written since, while writers wait, and exchanges the two
    in one step; from then on the index has the new model. Its old content is kept under its name plus "_before": --back
    returns to it, with what was written since, and --drop-old removes it.

    A Qdrant server cannot keep writers out, so its collections are refused.

    The exit code is 1 if a record could not be encoded, or if --check finds something unsound.
    """
    url = place_of(place, "a PLACE")
    chosen = [name for name, on in zip(_ACTIONS, (planned, check, switch, back, drop_old), strict=True) if on]
    if len(chosen) > 1:
        raise SettingError(f"{chosen[0]} and {chosen[1]} exclude each other; give only one of them")
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    if recut and not (check or switch):
        raise SettingError(
            "other chunks are cut from the source: ingest it, with the new model and --chunk-tokens, into the table or "
            "collection with the same name plus '_recut', and pass --recut with --check or --switch"
        )
    if (rate is not None or precision is not None) and chosen not in ([], ["--plan"]):
        raise SettingError(f"--rate and --precision cannot be combined with {chosen[0]}")
    if workers is not None and chosen:
        raise SettingError(f"--workers cannot be combined with {chosen[0]}")
    if (judgements is not None or old_model is not None) and not check:
        raise SettingError("--judgements and --old-model need --check")
    if drop_old:
        return _drop(url, as_json=as_json)
    if check:
        return _check(url, choice, old_model, judgements, sample, recut=recut, as_json=as_json)
    if planned:
        return _plan(url, choice, rate, precision, as_json=as_json)
    if chosen:
        return _exchange(url, choice, chosen[0], recut=recut, as_json=as_json)
    return _fill(url, choice, rate, precision, workers, as_json=as_json)


def _fill(
    url: str,
    choice: Choice,
    rate: float | None,
    precision: Literal["float16", "float32"] | None,
    workers: int | None,
    *,
    as_json: bool,
) -> int:
    from harrier_core.migration import reembed

    with choice.encoder() as encoder, closing(open_store(url)) as store, _Bars() as bars, _resumable():
        if rate is not None:
            _give_way(store)
        done = reembed(store, encoder, rate=rate, precision=precision, workers=workers, on_progress=bars.follow)
    return _told(done, "reembed", None, as_json=as_json)


def _exchange(url: str, choice: Choice, action: str, *, recut: bool, as_json: bool) -> int:
    from harrier_core import migration

    back = action == "--back"
    with _before(url, choice) if back else choice.encoder() as encoder, _Bars() as bars, _resumable():
        if back:
            done = migration.back(url, encoder, on_progress=bars.follow)
        else:
            done = migration.switch(url, encoder, recut=recut, on_progress=bars.follow)
    model = "the index has the old model again" if back else "the index has the new model now"
    return _told(done, action[2:], model, as_json=as_json)


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted; run the same command again to continue") from None


def _told(done: ReembedReport, action: str, model: str | None, *, as_json: bool) -> int:
    if as_json:
        say_json({**_as_json(done), "action": action})
    else:
        tell_each("rejected", done.rejected)
        report(shown(str(done)))
        if model is not None:
            tell(model)
    return failures.UNSOUND if done.rejected else failures.FINE


def _give_way(store: VectorStore) -> None:
    """Lower the priority of this process, but not that of an embedded server that others may use as well."""
    store.space()
    if hasattr(os, "nice"):
        os.nice(_NICE)


def _plan(
    url: str, choice: Choice, rate: float | None, precision: Literal["float16", "float32"] | None, *, as_json: bool
) -> int:
    from harrier_core.migration import plan_reembedding

    with choice.encoder() as encoder:
        would = plan_reembedding(url, encoder, rate=rate, precision=precision)
    if as_json:
        say_json({**_as_json(would), "action": "plan"})
    else:
        size, time = size_of(would.bytes), duration(would.seconds)
        encoding = f"{would.encoded:,} of {counted(would.total, 'chunk')}, about {would.tokens:,} tokens and {size}"
        say(f"to encode: {encoding}, in about {time}; {would.described:,} to describe, {would.deleted:,} to delete")
    return failures.FINE


def _check(
    url: str, choice: Choice, old_model: str | None, judgements: Path | None, sample: int, *, recut: bool, as_json: bool
) -> int:
    from harrier_core.evaluation import Judgements
    from harrier_core.migration import check, spaces

    questions = None if judgements is None else Judgements.load(judgements)
    with choice.encoder() as encoder, _of(choice, old_model, spaces(url).now) as old:
        found = check(url, encoder, old, judgements=questions, sample=sample, recut=recut)
    if as_json:
        say_json(_check_as_json(found))
    else:
        tell_each("unsound", found.verified.problems)
        say(shown(str(found)))
        if found.evaluated is not None:
            say(str(found.evaluated))
    return failures.FINE if found.sound else failures.UNSOUND


def _drop(url: str, *, as_json: bool) -> int:
    from harrier_core.migration import drop_old

    drop_old(url)
    if as_json:
        say_json({"action": "drop-old"})
    else:
        report("dropped the space of the old model")
    return failures.FINE


# -- models


def _before(url: str, choice: Choice) -> AnyEncoder:
    """Return an encoder of the model that the index had before a switch."""
    from harrier_core.migration import spaces

    remote = choice.remote()
    if remote is not None:
        return remote
    kept = spaces(url).before
    return choice.loaded_here() if kept is None else _of(choice, choice.model, kept)


def _of(choice: Choice, name: str | None, space: EmbeddingSpace) -> AnyEncoder:
    """Return an encoder of a model by its name, or of the one that a space was made with."""
    encoder = choice.of(space.model, space.revision) if name is None else choice.of(name)
    try:
        encoder.dimensions  # noqa: B018  # it looks for the model's files
    except ModelNotFound as error:
        raise no_model(f"the model in use is not available here ({error})") from None
    return encoder


class _Bars:
    """A bar for each stage."""

    def __init__(self) -> None:
        self._bar: CountBar | None = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def follow(self, done: ReembedReport) -> None:
        """Show a report."""
        if done.stage != self._stage:
            self.__exit__(None, None, None)
            self._stage, self._bar = done.stage, CountBar(done.stage, "chunks", done.total or None).__enter__()
        if self._bar is not None and done.stage == "encoding":
            self._bar.count(done.encoded)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)
            self._bar = None


def _as_json(done: ReembedReport) -> dict[str, object]:
    numbers = ("total", "encoded", "described", "deleted", "tokens", "bytes", "passes", "complete")
    return {
        **{name: getattr(done, name) for name in numbers},
        "rejected": [{"id": name, "reason": reason} for name, reason in done.rejected],
        "seconds": round(done.seconds, 3),
    }


def _check_as_json(found: Check) -> dict[str, object]:
    return {
        "action": "check",
        **{name: getattr(found, name) for name in ("chunks", "new_chunks", "differing", "agreement", "asked", "sound")},
        "checked": found.verified.checked,
        "least_cosine": found.verified.least_cosine,
        "problems": [{"id": name, "problem": problem} for name, problem in found.verified.problems],
        "evaluation": None if found.evaluated is None else json.loads(found.evaluated.to_json()),
    }
