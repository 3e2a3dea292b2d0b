"""`harrier keywords`: add the words of existing texts, for search by word and by both."""

from __future__ import annotations

from contextlib import suppress

from harrier_cli.options import AsJson, Place, place_of
from harrier_cli.output import report, say_json, shown
from harrier_cli.places import contents_of
from harrier_cli.progress import CountBar
from harrier_core import StoreMissing, StoreUnsuitable, VectorStore
from harrier_core.plurals import counted


def keywords(*, place: Place = None, as_json: AsJson = False) -> None:
    """Give an index the words of its texts, for search --mode keyword and hybrid. It needs no model.

    Others may search and write meanwhile. An interrupted run continues when it is repeated.
    """
    with contents_of(place_of(place, "a PLACE")) as contents:
        chunks = contents.count()
        had = contents.store.describe().keywords is True
        with CountBar("adding words", "chunks", chunks) as bar:
            try:
                contents.add_keywords(bar.count)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("interrupted; run the same command again to continue") from None
        named = str(contents.store)
    if as_json:
        say_json({"place": named, "chunks": chunks, "added": not had})
    elif had:
        report(shown(f"{named} already has the words of its texts"))
    else:
        report(shown(f"{named} has the words of its texts now: {counted(chunks, 'chunk')}"))


def refuse_wordless(store: VectorStore) -> None:
    """Raise StoreUnsuitable if the index exists and was made without words, because an ingest adds none to it."""
    with suppress(StoreMissing):
        if store.describe().keywords is False:
            raise StoreUnsuitable(
                f"{store} exists, and was created without --keywords; run `harrier keywords PLACE` to add the words "
                "of its texts and of all later ones"
            )
