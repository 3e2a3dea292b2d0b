"""Detection of hosts that embed queries as documents, by calling `embed_documents` for what they search for."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from harrier_core import RoleWarning

# LangGraph's stores search in this method, and turn a plain function into Embeddings with one role.
_SEARCHES = {
    "_batch_search_ops": "langgraph.store.",
    "embed_query": "langgraph.store.base.",
    "aembed_query": "langgraph.store.base.",
}
_DEEPEST = 3  # frames between a search and the embeddings, including LangGraph's wrapper of a function


def warn_of_queries() -> None:
    """Warn if the caller of `embed_documents` is about to search. It takes a microsecond, and changes no vector."""
    frame: FrameType | None = sys._getframe(2)
    for _ in range(_DEEPEST):
        if frame is None:
            return
        module = _SEARCHES.get(frame.f_code.co_name)
        if module is not None and str(frame.f_globals.get("__name__")).startswith(module):
            _warn(frame)
            return
        frame = frame.f_back


def _warn(frame: FrameType) -> None:
    warnings.warn_explicit(
        "LangGraph embeds this query by embed_documents, so without the task's instruction; create the store with "
        "langchain_harrier.langgraph.with_roles(...), and give it the HarrierEmbeddings themselves as 'embed'",
        RoleWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),  # without it, each search would warn
    )
