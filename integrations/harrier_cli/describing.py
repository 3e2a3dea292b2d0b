"""`harrier info`, `ls`, `verify` and `models`: descriptions and checks of indexes and models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import typer

from harrier_cli import failures
from harrier_cli.defaults import setting
from harrier_cli.encoders import Choice
from harrier_cli.options import (
    ApiKeyFile,
    AsJson,
    Device,
    Dtype,
    ModelName,
    NoServer,
    Place,
    Server,
    place_of,
    refuse_server,
)
from harrier_cli.output import report, say, say_json, shown, tell, tell_each
from harrier_cli.places import existing
from harrier_cli.progress import CountBar
from harrier_core import Facts, open_store, open_stores

_BYTES = ("B", "kB", "MB", "GB", "TB")


def info(*, place: Place = None, as_json: AsJson = False) -> int:
    """Describe an index and its health.

    The exit code is 1 if it is not healthy.
    """
    with closing(open_store(place_of(place, "a PLACE"))) as store:
        facts, named = store.describe(), str(store)
    if as_json:
        say_json(_as_json(named, facts))
    else:
        for name, value in _told(named, facts):
            say(f"{name:<9}{shown(value)}")
    return failures.FINE if facts.health == "fine" else failures.UNSOUND


def _as_json(named: str, facts: Facts) -> dict[str, Any]:
    space = json.loads(facts.space.to_json()) if facts.space else None
    said = {"place": named, "chunks": facts.chunks, "records": facts.records, "space": space}
    more = {"indexed": facts.indexed, "keywords": facts.keywords, "bytes": facts.bytes, "health": facts.health}
    more["ingested"] = facts.ingested.isoformat() if facts.ingested else None
    return {**said, **more}


def _told(named: str, facts: Facts) -> list[tuple[str, str]]:
    """Return names and values, except those that are unknown to the store."""
    space = facts.space
    dimensions = f", {space.dimensions:,} dimensions" if space else ""
    found = {
        "place": named,
        "records": _number(facts.records),
        "chunks": _number(facts.chunks),
        "model": f"{space}{dimensions}" if space else None,
        "indexed": None if facts.indexed is None else "yes" if facts.indexed else "no, a search compares all chunks",
        "keywords": None if facts.keywords is None else "yes" if facts.keywords else "no, 'harrier keywords' adds them",
        "size": size_of(facts.bytes),
        "ingested": f"{facts.ingested.astimezone():%Y-%m-%d %H:%M}" if facts.ingested else None,
        "health": facts.health,
    }
    return [(name, value) for name, value in found.items() if value is not None]


def _number(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def size_of(number: int | None) -> str | None:
    """Return a number of bytes with about three significant digits."""
    if number is None:
        return None
    size, unit = float(number), _BYTES[0]
    for unit in _BYTES:
        if size < 999.5 or unit == _BYTES[-1]:
            break
        size /= 1_000
    return f"{size:,.0f} {unit}" if size >= 99.5 or unit == _BYTES[0] else f"{size:,.1f} {unit}"


def ls(*, place: Place = None, as_json: AsJson = False) -> None:
    """List the indexes in a database, on a server or in a folder.

    A PLACE is that of any of them, or without ?table= and ?collection=.
    """
    found = []
    stores = open_stores(place_of(place, "a PLACE"))
    try:
        for store in stores:
            found.append((str(store), store.describe()))
            store.close()
    finally:
        for store in stores:
            store.close()
    if as_json:
        say_json([_as_json(named, facts) for named, facts in found])
    elif found:
        _say_table(["place", "records", "chunks", "size", "model"], [_row(*each) for each in found])
    else:
        tell("there is no index yet; ingest something first")


def _row(named: str, facts: Facts) -> list[str]:
    numbers = [_number(facts.records), _number(facts.chunks), size_of(facts.bytes)]
    model = str(facts.space) if facts.space else facts.health
    return [shown(named), *(each or "-" for each in numbers), shown(model)]


def _say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns, with numbers right-aligned; nothing is truncated, so that a place can be copied."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        first, *numbers, last = (
            cell.ljust(width) if column == 0 else cell if column == len(head) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        say("  ".join([first, *numbers, last]))


def verify(
    *,
    place: Place = None,
    sample: Annotated[int, typer.Option(metavar="N", help="Number of chunks to encode again, approximately.")] = 100,
    as_json: AsJson = False,
    model: ModelName = None,
    server: Server = None,
    api_key_file: ApiKeyFile = None,
    device: Device = None,
    dtype: Dtype = None,
) -> int:
    """Check every stored vector, and encode a sample of the texts again; an ingest repairs what is wrong.

    The exit code is 1 if something is wrong.
    """
    choice = Choice(model=model, server=server, api_key_file=api_key_file, device=device, dtype=dtype)
    with (
        existing(place_of(place, "a PLACE"), choice) as (index, _),
        CountBar("verifying", "chunks", index.count()) as bar,
    ):
        found = index.verify(sample, lambda found: bar.count(found.checked))
    if as_json:
        problems = [{"id": name, "problem": problem} for name, problem in found.problems]
        numbers = {"checked": found.checked, "encoded": found.encoded, "least_cosine": found.least_cosine}
        say_json({"sound": found.sound, **numbers, "problems": problems})
    else:
        tell_each("unsound", found.problems)
        report(shown(str(found)))
    return failures.FINE if found.sound else failures.UNSOUND


def models(*, model: ModelName = None, server: NoServer = None, as_json: AsJson = False) -> None:
    """List the published models, their requirements, and the device and dtype that this machine would use, and why."""
    refuse_server(server, "it describes this machine, and contacts no server")
    from harrier_cli.listing import listed

    found = listed(setting("model", model))
    if as_json:
        say_json(found)
        return
    for each in found:
        say(f"{each['name']}  ({each['model']})" if each["model"] != each["name"] else each["name"])
        weights = f", {each['gigabytes']:,.1f} GB of weights in {each['dtype']}" if each["gigabytes"] else ""
        say(f"    {each['dimensions']:,} dimensions{weights}")
        if each["fits"]:
            say(f"    would run on {each['device']}, {each['dtype']}: {each['reason']}")
        else:
            has = "this machine" if each["device"] == "cpu" else each["device"]
            say(f"    does not fit: needs {each['gigabytes']:,.0f} GB, {has} has {each['memory']:,.0f} GB")
