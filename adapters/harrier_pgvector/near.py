"""The statement that finds chunks near a vector, by an index or by comparing all rows, and its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from harrier_core.query import COSINE_DECIMALS
from harrier_pgvector.filters import Compiled
from harrier_pgvector.schema import literal
from harrier_pgvector.typed import compile_where

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harrier_core.query import Search
    from harrier_pgvector.opening import Opened
    from harrier_pgvector.schema import Table
    from harrier_pgvector.session import Request

# A recall above 0.99 takes a list of at least a hundred candidates; pgvector allows a thousand.
_LEAST_WIDTH, _MOST_WIDTH = 100, 1_000

# How many rows, and how many rows for each of the k, an index looks at before all rows that meet a condition are
# compared. An index that has given up returns what it has seen, much of which is not the nearest: so it must find more
# than k, of which only the first k are taken.
_LEAST_SCANNED, _SCANNED = 1_000, 80
_MORE, _TIMES = 10, 2

# The planner includes parts that are hardly ever executed, such as the comparison of all rows, in its estimate, and
# would compile the statement and start workers.
UNPLANNED = {"jit": "off", "max_parallel_workers_per_gather": "0"}

# The rows of a search. Equal ones are in the order of their keys (harrier_core.query); no index contains what is
# rounded, so none is used to order all rows. An index returns some more than k, as equal ones may follow.
_ROWS = "record_id, number, text, metadata, start_at, end_at, {stored} AS stored, {far} AS far"
_NEAR = "SELECT {rows} FROM {table} WHERE {where} ORDER BY {far} LIMIT %s"
_NEAR_BY_SIGN = """
    SELECT * FROM (
        SELECT {rows} FROM (
            SELECT * FROM {table} WHERE {where}
            ORDER BY {signs_of}(embedding)::{bits} {differing} {signs_of}(%s::{type})::{bits} LIMIT %s
        ) AS candidates OFFSET 0
    ) AS compared ORDER BY round(far * {scale}), record_id, number LIMIT %s"""
_ALL = "SELECT {rows} FROM {table} WHERE {gate} AND {where} ORDER BY round({far} * {scale}), record_id, number LIMIT %s"
_NEAR_OR_ALL = """
    WITH near AS MATERIALIZED ({near}), enough (enough) AS MATERIALIZED (SELECT count(*) >= %s FROM near)
    SELECT * FROM (
        SELECT * FROM near WHERE (SELECT enough FROM enough) UNION ALL SELECT * FROM ({otherwise}) AS compared
    ) AS found ORDER BY round(far * {scale}), record_id, number LIMIT %s"""


def request(opened: Opened, search: Search) -> Request:
    """Return the request for some queries, with its settings."""
    condition = compile_where(search.where, opened.typed)
    exact = search.exact or not opened.is_indexed
    options = {"exact": exact, "with_vectors": search.with_vectors, "bounded": is_bounded(opened, search)}
    queries = (statement(opened.table, each, search.k, condition, **options) for each in search.vectors)
    return [(*query, False) for query in queries], {} if exact else _settings(opened, search)


def _settings(opened: Opened, search: Search) -> dict[str, str]:
    """Return the settings for a search by an index."""
    width = _width(opened.table, search.k, search.ef)
    settings = {"hnsw.ef_search": str(width)} | UNPLANNED
    if not opened.iterative:
        return settings
    settings["hnsw.iterative_scan"] = "strict_order"
    if is_bounded(opened, search):
        settings["hnsw.max_scan_tuples"] = str(max(_LEAST_SCANNED, _SCANNED * search.k))
    return settings


def is_bounded(opened: Opened, search: Search) -> bool:
    """Return whether the index of the vectors gives up early, because an index finds the rows that meet the condition.

    The fewer these are, the longer it would look for k of them, and the faster it is to compare them all. By signs,
    more than k are looked for anyway.
    """
    return opened.iterative and not opened.table.by_sign and opened.serves(search.where)


def statement(
    table: Table,
    vector: NDArray[np.float32],
    k: int,
    condition: Compiled,
    *,
    exact: bool,
    with_vectors: bool,
    bounded: bool = False,
) -> tuple[sql.Composed, list[object]]:
    """Return the statement for the k nearest chunks that meet the condition, nearest first, and its parameters.

    An index may give up before it has found enough. Then all rows are compared, which is decided in the same statement:
    a part whose condition is false before any row is read is not executed. bounded: the index gives up early, and must
    find more than k.
    """
    where, values = condition
    written = "[" + ",".join(map(str, vector)) + "]"  # each in the shortest form of a float32
    stored = table.stored if with_vectors else sql.SQL("NULL::bytea")
    far = table.format("(embedding {distance} %s::{type})")
    scale = literal(10**COSINE_DECIMALS)
    parts: dict[str, sql.Composable] = {
        "where": where,
        "far": far,
        "scale": scale,
        "rows": sql.SQL(_ROWS).format(stored=stored, far=far),
    }
    of_all: list[object] = [written, *values, written, k]
    enough = _TIMES * k + _MORE if bounded else k
    if exact:
        return table.format(_ALL, gate=sql.SQL("true"), **parts), of_all
    if table.by_sign:
        near = table.format(_NEAR_BY_SIGN, differing=table.operator("<~>"), **parts)
        bound: list[object] = [written, *values, written, _candidates(k), k]
    else:
        limit = enough if values else max(enough, k + _MORE)  # under a condition, each one more takes long to find
        near, bound = table.format(_NEAR, **parts), [written, *values, written, limit]
    otherwise = table.format(_ALL, gate=sql.SQL("NOT (SELECT enough FROM enough)"), **parts)
    return table.format(_NEAR_OR_ALL, near=near, otherwise=otherwise, scale=scale), [*bound, enough, *of_all, k]


def _width(table: Table, k: int, ef: int | None = None) -> int:
    """Return how many candidates an index keeps while it looks for k; ef: the number that the caller wants."""
    wanted = _candidates(k) if table.by_sign else 2 * k
    return min(max(_LEAST_WIDTH, wanted) if ef is None else max(ef, k), _MOST_WIDTH)


def _candidates(k: int) -> int:
    """Return how many chunks are found by their signs and ranked by their vectors."""
    return max(100, 10 * k)
