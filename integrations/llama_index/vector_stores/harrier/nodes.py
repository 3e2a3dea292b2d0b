"""LlamaIndex's nodes as Records, and back.

A record's text is what LlamaIndex embeds of the node. Its metadata are the node's, under the same keys, plus three
keys: `ref_doc_id` and `_lists`, for filters, and `_node`, all else that is needed to restore the node.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any
from uuid import UUID

from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MetadataMode,
    Node,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.vector_stores.harrier.filters import LISTS, SOURCE, lists_in

from harrier_core import Chunk, Match, Record
from harrier_core.records import chunk_id
from harrier_core.values import plain

_NODE = "_node"

_KINDS = {kind.class_name(): kind for kind in (Node, Document, TextNode, ImageNode, ImageDocument, IndexNode)}
_ELSEWHERE: Any = {"id_": True, "embedding": True, "metadata": True, "text": True, "text_resource": {"text"}}

# Kinds of nodes that do not say where their text is from, and the fields that a TextNode has as well.
_WHOLE = (Node, Document)
_OF_TEXT = {
    *("excluded_embed_metadata_keys", "excluded_llm_metadata_keys", "relationships", "metadata_template"),
    *("metadata_separator", "text_template"),
}

_RANDOM = 4  # the version of UUIDs that LlamaIndex gives to whatever has no id


# -- to records


def records_of(nodes: Iterable[BaseNode], *, keep_ids: bool = False) -> Iterator[Record]:
    """Yield records of nodes or documents for `Index.ingest`, under ids that are the same in every run.

    LlamaIndex gives random ids, UUIDs of version 4, to documents and nodes that have none. Such an id is replaced by
    one that is computed from the node's content and origin, in relationships as well, so that a second run changes
    nothing; after a change, `ingest(..., prune=True)` removes what is gone. keep_ids: keep ids that only look random.
    """
    for _, group in groupby(nodes, key=lambda node: node.ref_doc_id or node.node_id):
        together = list(group)
        ids = {} if keep_ids else _lasting_ids(together)
        yield from (record_of(_renamed(node, ids)) for node in together)


def node_id(number: int, document: BaseNode) -> str:
    """Return an id for a node parser, as in SentenceSplitter(id_func=node_id): the same in every run.

    Documents with random ids are the same if they are equal, so two uploads of one page are one document, and deleting
    one deletes both. Set the ids of documents, Document(id_=...), if they are to be deleted one by one.
    """
    return chunk_id(_lasting(document.node_id, document.hash), number)


def own_text(node: BaseNode) -> str:
    """Return the text of a node without its metadata."""
    return node.get_content(metadata_mode=MetadataMode.NONE)


def record_of(node: BaseNode, *, alone: bool = False) -> Record:
    """Return the record of a node, under its id. alone: only its own text, without the metadata embedded with it."""
    own = own_text(node)
    text = own if alone else node.get_content(metadata_mode=MetadataMode.EMBED)
    try:
        metadata: dict[str, Any] = plain(node.metadata)
        rest = node.model_dump(mode="json", exclude=_ELSEWHERE, exclude_defaults=True)
    except ValueError:  # the ingest reports and rejects the record: these are objects, which JSON cannot represent
        return Record(node.node_id, text, {**node.metadata, _NODE: node.relationships or node})
    rest |= _place(text, own)
    reserved: dict[str, Any] = {_NODE: "", **({SOURCE: node.ref_doc_id} if node.ref_doc_id else {})}
    if lists := lists_in({key: value for key, value in metadata.items() if key not in reserved}):
        reserved[LISTS] = lists
    rest["keys"] = list(metadata)  # a database may reorder them, and the embedded text has them in this order
    if hidden := {key: metadata[key] for key in reserved if key in metadata}:
        rest["hidden"] = hidden
    reserved[_NODE] = json.dumps(rest, ensure_ascii=False)
    return Record(node.node_id, text, {**metadata, **reserved})


def _place(text: str, own: str) -> dict[str, Any]:
    """Return the position of the node's own text in its record's, and the white space that LlamaIndex has stripped.

    If a template has changed the text, return the whole text of the node.
    """
    if text == own:
        return {"text": [0, len(own)]}
    core = own.strip()
    at = text.rfind(core)
    if at < 0:
        return {"text": own}
    before = len(own) - len(own.lstrip())
    start, end = at - before, at - before + len(own)
    if start >= 0 and text[start:end] == own:
        return {"text": [start, end]}
    return {"text": [at, at + len(core)], "stripped": [own[:before], own[before + len(core) :]]}


def _lasting_ids(nodes: Sequence[BaseNode]) -> dict[str, str]:
    """Return replacements for the random ids of one document's nodes, and of the document."""
    ids: dict[str, str] = {}
    times: Counter[str] = Counter()
    for node in nodes:
        source = ""
        if node.source_node is not None:
            source = ids[node.source_node.node_id] = _lasting(node.source_node.node_id, node.source_node.hash)
        ids[node.node_id] = _lasting(node.node_id, f"{source}\0{node.hash}" if source else node.hash, times)
    return ids


def _lasting(id_: str, hash_: str | None, times: Counter[str] | None = None) -> str:
    """Return the id, or a replacement if it is random; times: equal hashes are numbered in order of appearance."""
    try:
        random = UUID(id_).version == _RANDOM
    except ValueError:
        random = False
    if not random or hash_ is None:
        return id_
    number = 0 if times is None else times[hash_]
    if times is not None:
        times[hash_] += 1
    return chunk_id(hash_, number)


def _renamed(node: BaseNode, ids: Mapping[str, str]) -> BaseNode:
    def renamed(related: RelatedNodeInfo) -> RelatedNodeInfo:
        return related.model_copy(update={"node_id": ids.get(related.node_id, related.node_id)})

    relationships = {
        kind: [renamed(each) for each in related] if isinstance(related, list) else renamed(related)
        for kind, related in node.relationships.items()
    }
    return node.model_copy(update={"id_": ids.get(node.node_id, node.node_id), "relationships": relationships})


# -- and back


def is_listed(found: Chunk | Match) -> bool:
    """Return whether a record's node is of a kind whose ids a VectorStoreIndex keeps: an image or index node."""
    stored = json.loads(found.metadata.get(_NODE, "null")) or {}
    return issubclass(_KINDS.get(stored.get("class_name", ""), TextNode), ImageNode | IndexNode)


def node_of(found: Chunk | Match, *, number_key: str | None = None) -> BaseNode:
    """Return the node of a record; if the Index has split the record, its text is the passage that was found.

    Then `start_char_idx` and `end_char_idx` are the passage's position in the source: in the document of the node, if
    the node has its own position in that, and in the record's own text otherwise. A piece of a Document, and a record
    that was not made from a node, become a TextNode. number_key: the metadata key for the chunk's number.
    """
    stored = dict(found.metadata)
    rest: dict[str, Any] = json.loads(stored.pop(_NODE, "null")) or {"keys": list(stored), "text": [0, None]}
    values = {**stored, **rest.pop("hidden", {})}
    metadata = {key: values[key] for key in rest.pop("keys", []) if key in values}
    text, span = _passage(found, rest.pop("text", None), *rest.pop("stripped", ("", "")))
    kind = _KINDS.get(rest.pop("class_name", ""), TextNode)
    if span is not None and kind in _WHOLE and _of_text_alone(rest):
        kind = TextNode
    if issubclass(kind, TextNode):
        rest["text"] = text
        if span is not None:
            first = rest.get("start_char_idx") or 0
            rest |= {"start_char_idx": first + span[0], "end_char_idx": first + span[1]}
    else:
        rest["text_resource"] = {**(rest.get("text_resource") or {}), "text": text}
    node: BaseNode = kind.from_dict({**rest, "id_": found.record_id, "metadata": metadata})
    return node if number_key is None else _numbered(node, number_key, found.number)


def _of_text_alone(rest: dict[str, Any]) -> bool:
    """Return whether a TextNode can hold it all; if so, remove what a TextNode does not have."""
    alone = rest.keys() <= {*_OF_TEXT, "text_resource"} and not any((rest.get("text_resource") or {}).values())
    if alone:
        rest.pop("text_resource", None)
    return alone


def _passage(
    found: Chunk | Match, place: list[int | None] | str | None, before: str, after: str
) -> tuple[str, tuple[int, int] | None]:
    """Return the part of the node's text that was found, without the metadata that were embedded before it.

    Also return its position in the node's text, unless it is all of it.
    """
    if place is None:
        return found.text, None
    if isinstance(place, str):
        return place, None
    start, end = place[0] or 0, place[1]
    chunks = [_clipped(chunk, start, end) for chunk in _chunks(found)]
    own = [chunk for chunk in chunks if chunk.text] or chunks[:1]
    text = Match(own[0], 0.0, around=tuple(own)).passage
    if own[0].start <= start and own[-1].end == end:
        return before + text + after, None
    offset = len(before) - start
    return text, (own[0].start + offset, own[-1].end + offset)


def _chunks(found: Chunk | Match) -> Sequence[Chunk]:
    return [found] if isinstance(found, Chunk) else found.around or [found.chunk]


def _clipped(chunk: Chunk, start: int, end: int | None) -> Chunk:
    """Return the part of a chunk between two positions in its record's text."""
    first, last = max(chunk.start, start), chunk.end if end is None else min(chunk.end, end)
    text = chunk.text[first - chunk.start : max(first, last) - chunk.start]
    return replace(chunk, text=text, start=first, end=first + len(text))


def _numbered(node: BaseNode, key: str, number: int) -> BaseNode:
    """Add a number to a node's metadata, which neither a model nor an embedding reads."""
    node.metadata[key] = number
    node.excluded_embed_metadata_keys = [*node.excluded_embed_metadata_keys, key]
    node.excluded_llm_metadata_keys = [*node.excluded_llm_metadata_keys, key]
    return node
