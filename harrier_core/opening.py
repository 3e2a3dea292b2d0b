"""A URL to a store, by what adapters declare as entry points: the kit's own adapters and others'.

For each URL scheme, an adapter's distribution declares a function that takes the whole URL and returns a VectorStore.
The function does not connect to anything. If `keywords=true` is among the URL's options, its store keeps words, or the
function raises SettingError.

    [project.entry-points."harrier.stores"]
    postgresql = "harrier_pgvector.urls:open_url"
"""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from harrier_core.errors import SettingError
from harrier_core.store import Neighbours

if TYPE_CHECKING:
    from harrier_core.store import VectorStore

_GROUP = "harrier.stores"
_DRIVER = re.compile(r"\A(\w+)\+\w+(?=://)")


def open_stores(url: str) -> list[VectorStore]:
    """Return a store for each of the kit's tables or collections in the database or folder that a URL names.

    It makes no difference which of them the URL names. Close each of the stores. Raise StoreMissing if there is no such
    folder, and SettingError if the adapter cannot list its stores.
    """
    store = open_store(url)
    try:
        if not isinstance(store, Neighbours):
            raise SettingError(f"{store} cannot list other indexes next to it; name each index by its URL")
        return store.neighbours()
    finally:
        store.close()


def open_store(url: str, *, keywords: bool = False) -> VectorStore:
    """Return the store that a URL names: postgresql://user@host/db?table=docs, pgvector:FOLDER?table=docs, and more.

    It does not connect yet. The available schemes depend on the installed adapters. A driver in the scheme, as in
    SQLAlchemy's postgresql+psycopg://, is ignored: an adapter has its own.

    keywords: if the store does not exist yet, create it with the words of its chunks, for mode="keyword" and "hybrid";
    the option keywords=true in a URL does the same.
    """
    found = {each.name: each for each in entry_points(group=_GROUP)}
    if url.partition(":")[0] not in found:
        url = _DRIVER.sub(r"\1", url)
    scheme = url.partition(":")[0]
    if ":" not in url or scheme not in found:
        known = ", ".join(f"{name}:" for name in sorted(found)) or "none, because no adapter is installed"
        raise SettingError(f"a store's URL must begin with one of {known}")  # not shown: the URL may contain a password
    opener = found[scheme].load()
    store: VectorStore = opener(with_keywords(url) if keywords else url)
    return store


def with_keywords(url: str) -> str:
    """Return the URL of a store that keeps the words of its chunks."""
    return f"{url}{'&' if '?' in url else '?'}keywords=true"
