"""The keywords that LangChain passes through; one that is not known is an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.vectorstores import VectorStoreRetriever

from harrier_core import SettingError

Where = Mapping[str, Any]

WRITING = ("batch_size",)  # of LangChain's index(): an Index makes windows of its own
_SEARCHING = ("filter", "where")  # LangChain's name and ours
RETRIEVER = [name for name in VectorStoreRetriever.model_fields if name != "vectorstore"]


def refuse_unknown(options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise an error that says which keywords there are."""
    if unknown := [name for name in options if name not in known]:
        said = f"besides its own keywords it takes {' and '.join(known)}" if known else "it takes no more keywords"
        raise SettingError(f"unknown keyword {unknown[0]!r}; {said}")


def where_of(options: Mapping[str, Any]) -> Where | None:
    """The conditions among a search's keywords: both, if it has both."""
    refuse_unknown(options, _SEARCHING)
    given = [options[name] for name in _SEARCHING if options.get(name) is not None]
    return {"$and": given} if len(given) > 1 else next(iter(given), None)
