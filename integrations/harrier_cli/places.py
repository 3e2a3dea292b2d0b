"""The place of an index: a URL, which only its store's adapter understands."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

from harrier_cli.defaults import setting
from harrier_cli.encoders import Choice, no_model
from harrier_core import Contents, EmbeddingSpace, Encoder, Index, ModelNotFound, VectorStore, open_store
from harrier_core.choosing import AnyEncoder

FORMS = (
    "postgresql://user@host/db?table=docs, pgvector:FOLDER?table=docs, qdrant://host:6334/docs or "
    "qdrant:FOLDER?collection=docs"
)

_SOON = 0.2  # seconds in which it is usually known whether there is an index


@contextmanager
def existing(url: str, choice: Choice) -> Iterator[tuple[Index, AnyEncoder]]:
    """Open the index at a URL, with the chosen model, or with the one that made it if it is in a folder.

    Raise StoreMissing if it does not exist, before any model is loaded.
    """
    remote = choice.remote()
    named = setting("model", choice.model)
    if remote is None and named is None and (choice.model is not None or not is_folder(url)):
        raise no_model()
    store = open_store(url)
    try:
        space = _awake(store) if remote is None else _open(store)
        with remote or (_recorded(space, choice) if named is None else choice.of(named)) as encoder:
            yield Index(store, encoder), encoder
    finally:
        store.close()


@contextmanager
def contents_of(url: str) -> Iterator[Contents]:
    """Open the contents of an index, which needs no model. Raise StoreMissing if it does not exist."""
    with Contents(url) as contents:
        _space_of(contents.store)
        yield contents


def is_folder(url: str) -> bool:
    """Return whether a URL names an index in a folder of this machine, not on a server."""
    return not url.partition(":")[2].startswith("//")


def _recorded(space: EmbeddingSpace, choice: Choice) -> Encoder:
    """Return an encoder of the model that an index was made with; the index itself refuses it if it has changed."""
    encoder = choice.of(space.model, space.revision)
    try:
        encoder.dimensions  # noqa: B018  # it looks for the model's files
    except ModelNotFound as error:
        raise no_model(f"no model is given, and the model of this index is not available here ({error})") from None
    return encoder


def _awake(store: VectorStore) -> EmbeddingSpace:
    """Return the space of a store once its server or engine answers; torch is imported in the meantime."""
    with ThreadPoolExecutor(1, thread_name_prefix="harrier-opening") as aside:
        opening = aside.submit(_open, store)
        if not wait([opening], timeout=_SOON).done:
            with suppress(ImportError):  # code that needs it says which extra is missing
                importlib.import_module("torch")
        return opening.result()


def _open(store: VectorStore) -> EmbeddingSpace:
    space = _space_of(store)
    store.open(space).known([""])  # an engine in a folder starts with the first request
    return space


def _space_of(store: VectorStore) -> EmbeddingSpace:
    return Contents(store).space()
