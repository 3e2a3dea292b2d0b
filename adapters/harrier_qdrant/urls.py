"""URLs of collections: qdrant://host:6334/docs on a server, qdrant:FOLDER?collection=docs in a folder.

Both also accept options for a new collection: keywords=true, with the words of its chunks, precision=float16, m=32,
ef_construction=128, indexes=year:integer,lang:keyword.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from harrier_core.errors import SettingError
from harrier_core.layout import OPTIONS, StoreLayout
from harrier_qdrant.given import COLLECTION
from harrier_qdrant.store import QdrantStore

_GRPC_PORT, _PORT = 6334, 6333
_SERVER = "a Qdrant URL must be qdrant://host:6334/collection, with ?tls=true for https and the key in QDRANT_API_KEY"


def open_url(url: str) -> QdrantStore:
    """Return the store that a URL names. It does not connect yet.

    qdrant://host:6334/docs?tls=true: a port of 6334, the gRPC interface, 6333, or none means a server with these two
    ports; any other port is that of a REST interface, and gRPC is not used. The API key is read from the environment
    variable QDRANT_API_KEY: in a URL, lists of processes would show it.
    qdrant:FOLDER?collection=docs: by Qdrant Edge.
    """
    rest = url.removeprefix("qdrant:")
    return _server(url) if rest.startswith("//") else _folder(rest)


def _server(url: str) -> QdrantStore:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORT
    except ValueError:  # it may quote a password
        raise SettingError(_SERVER) from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls, layout = options.pop("tls", "false"), StoreLayout.of_options(options)
    unknown = options.keys() - set(OPTIONS) or tls not in ("true", "false")
    if unknown or "@" in parts.netloc or parts.fragment or not parts.hostname:
        raise SettingError(_SERVER)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    scheme = "https" if tls == "true" else "http"
    return QdrantStore(
        f"{scheme}://{host}:{_PORT if port == _GRPC_PORT else port}",
        collection=unquote(parts.path.strip("/")) or COLLECTION,
        api_key=os.environ.get("QDRANT_API_KEY"),
        **_settings(layout),
    )


def _folder(rest: str) -> QdrantStore:
    folder, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    collection, layout = options.pop("collection", COLLECTION), StoreLayout.of_options(options)
    if options.keys() - set(OPTIONS) or not folder:
        raise SettingError(
            f"a Qdrant folder must be qdrant:FOLDER?collection=NAME, optionally with {', '.join(OPTIONS)}"
        )
    return QdrantStore.embedded(folder, collection=collection, **_settings(layout))


def _settings(layout: StoreLayout) -> dict[str, Any]:
    return {each.name: getattr(layout, each.name) for each in fields(layout)}
