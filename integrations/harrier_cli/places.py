"""Where an index is: a URL, which only the adapter of its store understands."""

from __future__ import annotations

from harrier_core import Embedder, Index, open_store

FORMS = (
    "postgresql://user@host/db?table=docs, pgvector:FOLDER?table=docs, qdrant://host:6334/docs or "
    "qdrant:FOLDER?collection=docs"
)


def existing(url: str, encoder: Embedder) -> Index:
    """Return the index at a place. Raise StoreMissing if there is none, before any model is loaded to find that out."""
    store = open_store(url)
    try:
        if store.space() is None:
            store.describe()  # it raises StoreMissing, in the store's own words
    except BaseException:
        store.close()
        raise
    return Index(store, encoder)
