"""Operators of other filter languages, and what to write instead: for error messages. Pure."""

from __future__ import annotations

# As written in MongoDB, Chroma, Pinecone, Qdrant, LangChain, LlamaIndex and SQL, without $, spaces and underscores, in
# lowercase. FIELD stands for the field's name.
_OF_FIELDS = {
    **dict.fromkeys(("eq", "=", "==", "is", "term", "value"), "$eq"),
    **dict.fromkeys(("ne", "neq", "!=", "<>", "isnot"), "$ne"),
    **dict.fromkeys(("in", "any", "anyof", "terms", "overlap"), "$in"),
    **dict.fromkeys(("nin", "notin", "except", "none"), "$nin"),
    **dict.fromkeys(("gt", ">"), "$gt"),
    **dict.fromkeys(("gte", "ge", ">="), "$gte"),
    **dict.fromkeys(("lt", "<"), "$lt"),
    **dict.fromkeys(("lte", "le", "<="), "$lte"),
    **dict.fromkeys(("between", "range"), "$between, with [low, high]"),
    **dict.fromkeys(("contains", "text", "textmatch", "substring", "search"), "$contains"),
    **dict.fromkeys(("like", "match"), "$like"),
    **dict.fromkeys(("ilike", "icontains", "textmatchinsensitive"), "$ilike"),
    **dict.fromkeys(("startswith", "prefix"), "$like, with 'text%'"),
    **dict.fromkeys(("endswith", "suffix"), "$like, with '%text'"),
    **dict.fromkeys(("regex", "regexp", "~", "~*", "options"), "$like or $ilike; there are no regular expressions"),
    **dict.fromkeys(("exists", "isempty", "ismissing", "isdefined"), "$exists"),
    **dict.fromkeys(("null", "isnull"), "{FIELD: None}"),
    "notnull": '{"$not": {FIELD: None}}',
    **dict.fromkeys(("ncontains", "notcontains", "notcontain"), '{"$not": {FIELD: {"$contains": ...}}}'),
    **dict.fromkeys(("nlike", "notlike", "notilike"), '{"$not": {FIELD: {"$like": ...}}}'),
    "not": '{"$not": {FIELD: ...}}',
    "all": '{"$and": [{FIELD: first}, {FIELD: second}]}: a list meets what one of its elements meets',
    "elemmatch": "the condition on FIELD itself: a list meets what one of its elements meets",
    **dict.fromkeys(("and", "or"), 'it above the field, {"$or": [{FIELD: ...}, {FIELD: ...}]}'),
    "nor": '{"$not": {"$or": [{FIELD: ...}, {FIELD: ...}]}}',
}

_OF_FILTERS = {
    **dict.fromkeys(("and", "must", "&&"), '{"$and": [...]}'),
    **dict.fromkeys(("or", "should", "anyof", "||"), '{"$or": [...]}'),
    **dict.fromkeys(("nor", "mustnot", "noneof"), '{"$not": {"$or": [...]}}'),
    **dict.fromkeys(("not", "!"), '{"$not": {...}}'),
}


def for_field(operator: object, field: str) -> str:
    """Return what to write instead of an operator on a field, as a sentence's end after "; "; or an empty string."""
    return _write(_OF_FIELDS.get(_bare(operator), "").replace("FIELD", repr(field)))


def for_filter(key: str) -> str:
    """Return what to write instead of an operator that joins filters, or that lacks its field."""
    bare = _bare(key)
    if key.startswith("$") and bare in _OF_FIELDS and bare not in _OF_FILTERS:
        return _write(f"the field first, {{field: {{{key!r}: ...}}}}")
    return _write(_OF_FILTERS.get(bare, ""))


def _bare(operator: object) -> str:
    return str(operator).lower().translate({ord(each): None for each in "$_- "})


def _write(words: str) -> str:
    return f"; write {words}" if words else ""
