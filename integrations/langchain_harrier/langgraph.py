"""LangGraph's stores with queries embedded as queries.

PostgresStore, SqliteStore and their async twins call `embed_documents` for what they search for, so a query lacks its
instruction. `with_roles` makes a store of the same kind that distinguishes the two:

    from langchain_harrier import HarrierEmbeddings
    from langchain_harrier.langgraph import with_roles
    from langgraph.store.postgres import PostgresStore

    embeddings = HarrierEmbeddings(model="harrier-0.6b")
    index = {"dims": 1024, "embed": embeddings, "fields": ["text"]}
    with with_roles(PostgresStore).from_conn_string("postgresql://user@host/db", index=index) as store:
        store.setup()

It uses only `batch` and `abatch`, the two methods that each LangGraph store has, so it works with other stores too,
even with one that already embeds its queries as queries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.embeddings import Embeddings

from harrier_core import Embedder, EmptyText, Encoder, InvalidText, Problem, RemoteEncoder, SettingError
from harrier_core.blanks import blank
from harrier_core.errors import positions_of_all, raise_problems, too_long
from langchain_harrier.embeddings import HarrierEmbeddings

if TYPE_CHECKING:
    from langgraph.store.base import BaseStore, Op, Result, SearchItem, SearchOp

    S = TypeVar("S", bound=BaseStore)

# Whether the store is embedding a search query. A context variable: each thread and each task has its own.
_searching: ContextVar[bool] = ContextVar("searching", default=False)

# A token is at least a byte, so a text of fewer bytes than the model's limit is not too long; an instruction and the
# ends take some of the limit.
_FRAME = 500


@cache
def with_roles(store: type[S]) -> type[S]:
    """Return a store class of the same kind, whose `index={"embed": ...}` keeps the roles of HarrierEmbeddings apart.

    A blank query lists what is stored, as an empty one does. An error in one caller's text affects only that caller,
    although the async stores batch simultaneous calls.
    """
    return cast("type[S]", type(f"Harrier{store.__name__}", (_WithRoles, store), {"__doc__": store.__doc__}))


class _ByRole(Embeddings):
    """HarrierEmbeddings that embed texts as queries while the store searches."""

    def __init__(self, embeddings: HarrierEmbeddings) -> None:
        self.embeddings = embeddings

    def __eq__(self, other: object) -> bool:
        """Compare as the embeddings do: `store.embeddings` and `index_config` return what the store was given."""
        return self.embeddings == (other.embeddings if isinstance(other, _ByRole) else other)

    def __hash__(self) -> int:
        return hash(self.embeddings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        embed = self.embeddings.embed_queries if _searching.get() else self.embeddings.embed_documents
        return embed(texts)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        embed = self.embeddings.aembed_queries if _searching.get() else self.embeddings.aembed_documents
        return await embed(texts)

    def embed_query(self, text: str) -> list[float]:
        return self.embeddings.embed_query(text)

    async def aembed_query(self, text: str) -> list[float]:
        return await self.embeddings.aembed_query(text)


if TYPE_CHECKING:
    _Store = BaseStore
else:
    _Store = object  # LangGraph need not be installed to import this


class _WithRoles(_Store):
    """Overrides that precede a store's own methods."""

    __slots__ = ()

    def __init__(self, *args: Any, index: Mapping[str, Any] | None = None, **options: Any) -> None:
        if index is not None:
            index = {**index, "embed": _by_role(index.get("embed"))}
        super().__init__(*args, index=index, **options)  # type: ignore[call-arg]  # the store's own, which comes next

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        results: list[Result] = [None] * len(given)
        for places, part, searching in _apart(given):
            with _role(searching=searching):
                _put(results, places, super().batch(part))  # type: ignore[safe-super]
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        results: list[Result] = [None] * len(given)
        for places, part, searching in _apart(given):
            with _role(searching=searching):
                _put(results, places, await super().abatch(part))  # type: ignore[safe-super]
        return results

    async def aput(
        self, namespace: tuple[str, ...], key: str, value: Mapping[str, Any], index: Any = None, **options: Any
    ) -> None:
        await _refuse_unusable(self, _texts_of(self, value, index))
        await super().aput(namespace, key, value, index, **options)

    async def asearch(self, namespace_prefix: tuple[str, ...], /, **options: Any) -> list[SearchItem]:
        query = options.get("query")
        if query is not None and not blank(query):
            await _refuse_unusable(self, [query], queries=True)
        return await super().asearch(namespace_prefix, **options)


@contextmanager
def _role(*, searching: bool) -> Iterator[None]:
    token = _searching.set(searching)
    try:
        yield
    finally:
        _searching.reset(token)


def _by_role(embed: object) -> _ByRole:
    if not isinstance(embed, HarrierEmbeddings):
        raise SettingError(
            f"'embed' must be HarrierEmbeddings, got {type(embed).__name__}: a function or another class has only "
            "one role; pass HarrierEmbeddings(model=...)"
        )
    return _ByRole(embed)


def _apart(ops: Sequence[Op]) -> Iterator[tuple[list[int], list[Op], bool]]:
    """Yield searches and all other operations, with their positions; searches first, as stores read before writing."""
    from langgraph.store.base import SearchOp

    for searching in (True, False):
        places = [place for place, op in enumerate(ops) if isinstance(op, SearchOp) == searching]
        part = [ops[place] for place in places]
        if part:
            yield places, [_not_blank(op) if isinstance(op, SearchOp) else op for op in part], searching


def _not_blank(op: SearchOp) -> SearchOp:
    return op._replace(query=None) if blank(op.query) else op


def _put(results: list[Result], places: Sequence[int], found: Sequence[Result]) -> None:
    for place, result in zip(places, found, strict=True):
        results[place] = result


def _embeddings(store: object) -> HarrierEmbeddings | None:
    held = getattr(store, "embeddings", None)
    return held.embeddings if isinstance(held, _ByRole) else None


def _texts_of(store: object, value: Mapping[str, Any] | None, index: Any) -> list[str]:
    """Return what the store will embed of a value: the texts at the call's paths, or at those of its settings."""
    from langgraph.store.base import get_text_at_path, tokenize_path

    if value is None or index is False or _embeddings(store) is None:
        return []
    settings: Mapping[str, Any] = getattr(store, "index_config", None) or {}
    paths = (
        [tokens for _, tokens in settings.get("__tokenized_fields", ())]
        if index is None
        else [tokenize_path(path) for path in index]
    )
    return [text for path in paths for text in get_text_at_path(value, path)]


async def _refuse_unusable(store: object, texts: Sequence[str], *, queries: bool = False) -> None:
    """Raise what embedding these texts would raise, before they are batched with others' texts.

    This runs on the loop, so that calls keep their order; only texts that may be too long are counted, on a thread.
    """
    embeddings = _embeddings(store)
    if embeddings is None or not texts:
        return
    kept = [at for at, text in enumerate(texts) if embeddings.on_blank == "error" or not blank(text)]
    raise_problems([problem for at in kept if (problem := _problem(at, texts[at]))])
    if embeddings.on_overflow == "error":
        embedder = embeddings.index_encoder
        room = embedder.max_tokens - _FRAME
        long = [at for at in kept if len(texts[at].encode()) > room]
        if long:
            with positions_of_all(long.__getitem__):
                await asyncio.to_thread(_refuse_long, embedder, [texts[at] for at in long], queries)


def _problem(at: int, text: str) -> Problem | None:
    if blank(text):
        return Problem(at, EmptyText, "is empty or blank, which has no meaning to embed; omit it")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Problem(at, InvalidText, "has a lone surrogate, which is half a character; decode its source again")
    return None


def _refuse_long(embedder: Embedder, texts: Sequence[str], queries: bool) -> None:
    encoder, limit = embedder.uncached, embedder.max_tokens
    # No other embedder reveals its prompt, which is counted as well.
    if queries and isinstance(encoder, Encoder | RemoteEncoder):
        texts = [encoder.prompt(text) for text in texts]
    counts = embedder.count_tokens(texts)
    raise_problems([too_long(at, count, limit) for at, count in enumerate(counts) if count > limit])
