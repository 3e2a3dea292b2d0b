"""`harrier delete` and `harrier drop`. Neither needs a model."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from harrier_cli import failures
from harrier_cli.options import AsJson, InPlace, WhereJson, Yes, place_of, where_of
from harrier_cli.output import complain, confirmed, report, say_json, shown, tell
from harrier_cli.places import contents_of
from harrier_core import SettingError, open_store
from harrier_core.plurals import counted


def delete(
    *,
    ids: Annotated[list[str] | None, typer.Argument(metavar="ID", help="Ids of records.", show_default=False)] = None,
    place: InPlace = None,
    where: WhereJson = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all records; asks first.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> int:
    """Remove records from an index: those with certain ids, those that meet conditions, or all.

    Given both ids and conditions, remove the records with these ids that meet the conditions. The exit code is 1 if an
    id is not found.
    """
    asked, conditions = ids or [], where_of(where)
    if everything == bool(asked or where is not None):
        raise SettingError("name the records to delete: by ids, by --where, or by --all")
    with contents_of(place_of(place, "--in")) as contents:
        if everything:
            if not confirmed(f"Remove all {counted(contents.count(), 'chunk')} of {contents.store}?", yes=yes):
                tell("nothing was removed")
                return failures.UNSOUND
            missing, deleted = [], contents.clear()
        else:
            missing = contents.missing(asked)
            deleted = contents.delete(asked if ids else None, where=conditions)
    if as_json:
        say_json({"deleted": deleted, "missing": missing})
    else:
        for each in missing:
            complain(f"not found: {shown(each)}")
        report(f"{counted(deleted, 'chunk')} deleted")
    return failures.UNSOUND if missing else failures.FINE


def drop(
    *,
    place: Annotated[str, typer.Argument(metavar="PLACE", help="The index.")],
    yes: Yes = False,
) -> int:
    """Remove an index itself: the table or collection, with all that is in it. It asks first."""
    with closing(open_store(place)) as store:
        chunks = store.describe().chunks
        held = "" if chunks is None else f" with {counted(chunks, 'chunk')}"
        if not confirmed(f"Remove {store}{held}?", yes=yes):
            tell("nothing was removed")
            return failures.UNSOUND
        store.drop()
        report(f"{store} is removed")
    return failures.FINE
