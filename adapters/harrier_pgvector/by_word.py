"""The statement that finds chunks by their words: BM25, with the rarity of each term as the table has it now.

No statistics are kept. How many rows have a term is counted by the index, up to a budget; of more frequent ones
ANALYZE knows it. Rows that have one of the rarest terms are candidates, as many terms as the budget allows, and all
terms score them. Frequent terms alone hardly ever decide, and there are too many rows with them to look at.

Row-level security hides what ANALYZE knows, and a new table has none of it: then frequent terms are counted to the
budget, which takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from harrier_pgvector.filters import Compiled
from harrier_pgvector.near import UNPLANNED
from harrier_pgvector.schema import literal
from harrier_pgvector.typed import compile_where
from harrier_pgvector.words import DIMENSIONS, asked

if TYPE_CHECKING:
    from harrier_core.lexical import Terms
    from harrier_core.query import WordSearch
    from harrier_pgvector.opening import Opened
    from harrier_pgvector.schema import Table
    from harrier_pgvector.session import Request

BUDGET = 5_000  # rows with the rarest terms; a table of no more is searched exactly
_MOST = 4 * BUDGET  # rows that are looked at where the budget does not do
_BYTES = 3_000  # of a row, in a table whose rows nobody has counted yet

# The second part is executed only if the first one finds too few: where hardly any row with the rarest terms meets the
# condition, or where hardly any has them. It looks at rows with other terms: with a condition at rows with any, without
# one at those with the next terms. Of a term that too many rows have, some of them are taken.
_SEARCH = """
    WITH asked (term, boost) AS MATERIALIZED (SELECT * FROM unnest(%s::int[], %s::float8[])),
    estimate (n) AS MATERIALIZED (
        SELECT sum((
            SELECT pg_relation_size(p.oid)::float8 * CASE WHEN p.reltuples >= 0 AND p.relpages > 0
                THEN p.reltuples / (p.relpages * current_setting('block_size')::float8) ELSE 1 / {bytes}::float8 END
            FROM pg_class p WHERE p.oid = coalesce(l.relid, c.oid)
        ))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL pg_partition_tree(c.oid) l ON l.isleaf
        WHERE n.nspname = %s AND c.relname = %s
    ),
    size (n) AS MATERIALIZED (
        SELECT CASE WHEN estimate.n > {most}::float8 THEN estimate.n
            ELSE (SELECT count(*) FROM (SELECT FROM {table} LIMIT 2 * {most}) AS seen)::float8 END
        FROM estimate
    ),
    common (term, df) AS MATERIALIZED (
        SELECT e.term, max(e.frequency)::float8 * (SELECT n FROM size)
        FROM pg_stats s
        CROSS JOIN LATERAL unnest(s.most_common_elems::text::int[], s.most_common_elem_freqs) AS e (term, frequency)
        WHERE s.schemaname = %s AND s.tablename = %s AND s.attname = 'terms' AND (SELECT n FROM size) > {budget}::float8
            AND e.term = ANY(ARRAY(SELECT term FROM asked))
        GROUP BY 1
    ),
    counted (term, boost, df) AS MATERIALIZED (
        SELECT asked.term, asked.boost, coalesce(common.df, (
            SELECT count(*) FROM (
                SELECT FROM {table} AS chunks WHERE chunks.terms @> ARRAY[asked.term] LIMIT {budget}
            ) AS seen
        )::float8)
        FROM asked LEFT JOIN common USING (term)
    ),
    weighed (term, weight, rare, upto) AS MATERIALIZED (
        SELECT term, boost * ln(1 + (greatest(n, df) - df + 0.5) / (df + 0.5)), n <= {budget}::float8
            OR sum(df) OVER rarest <= {budget}::float8 OR row_number() OVER rarest = 1, sum(df) OVER rarest
        FROM counted CROSS JOIN size WHERE df > 0 WINDOW rarest AS (ORDER BY df, term ROWS UNBOUNDED PRECEDING)
    ),
    other (term, upto) AS MATERIALIZED (
        SELECT term, upto FROM (
            SELECT term, upto, row_number() OVER (ORDER BY upto) = 1 OR upto <= {most}::float8 OR {all} FROM weighed
            WHERE NOT rare
        ) AS ranked (term, upto, near) WHERE near
    ),
    query (lex, rare, others, most, more, often, oftener) AS MATERIALIZED (
        SELECT ('{{' || string_agg((term + 1)::text || ':' || weight::text, ',' ORDER BY term) || '}}/{dimensions}')
            ::{sparse}, array_agg(term) FILTER (WHERE rare), ARRAY(SELECT term FROM other),
            CASE WHEN {all} OR max(upto) FILTER (WHERE rare) <= {most}::float8 THEN {most} ELSE {budget} END,
            CASE WHEN {all} OR (SELECT max(upto) FROM other) <= {most}::float8 THEN {most} ELSE {budget} END,
            max(upto) FILTER (WHERE rare) > greatest({most}::float8, (SELECT n FROM size) / 2),
            (SELECT max(upto) FROM other) > greatest({most}::float8, (SELECT n FROM size) / 2)
        FROM weighed
    ),
    best AS MATERIALIZED (
        SELECT {rows} FROM (
            {by_rare} LIMIT (SELECT most FROM query)
        ) AS candidates ORDER BY far, record_id, number LIMIT %s
    ),
    few (few) AS MATERIALIZED (SELECT count(*) < %s AND EXISTS (SELECT FROM other) FROM best)
    SELECT * FROM best
    UNION ALL SELECT * FROM (
        SELECT {rows} FROM (
            {by_others} LIMIT (SELECT more FROM query)
        ) AS candidates ORDER BY far, record_id, number LIMIT %s
    ) AS others ORDER BY far, record_id, number LIMIT %s"""
_ROWS = """
    record_id, number, text, metadata, start_at, end_at, {stored} AS stored,
    lex {unlike} (SELECT lex FROM query) AS far"""


# Rows that have one of some terms. Without a condition, those with a term that half of the table has are found sooner
# without an index; with one that indexes serve, its rows are fewer than those with frequent terms.
_INDEXED = "SELECT * FROM {table} WHERE {only} AND terms && (SELECT {terms} FROM query) AND {where}"
_TESTED = "SELECT * FROM {table} WHERE {only} AND (terms && (SELECT {terms} FROM query)) IS TRUE AND {where}"
_EITHER = """
    SELECT * FROM {table} WHERE {only} AND (SELECT NOT {often} FROM query) AND terms && (SELECT {terms} FROM query)
    UNION ALL
    SELECT * FROM {table}
    WHERE {only} AND (SELECT {often} FROM query) AND (terms && (SELECT {terms} FROM query)) IS TRUE"""
_IF_FEW = "(SELECT few FROM few) AND NOT terms && (SELECT rare FROM query)"


# Else a scan would begin anywhere, and find something else each time.
_SETTINGS = UNPLANNED | {"synchronize_seqscans": "off"}


def request(opened: Opened, search: WordSearch, rows: Sequence[int]) -> Request:
    """What is asked for the queries in some of the rows, and the settings for it."""
    where = search.where
    condition = None if where is None else compile_where(where, opened.typed)
    options = {"served": opened.serves(where), "with_vectors": search.with_vectors}
    queries = (statement(opened.table, search.terms[at], search.k, condition, **options) for at in rows)
    return [(*query, False) for query in queries], dict(_SETTINGS)


def statement(
    table: Table, terms: Terms, k: int, condition: Compiled | None, *, served: bool, with_vectors: bool
) -> tuple[sql.Composed, list[object]]:
    """The k that meet the condition and have the highest scores, best first, and what is bound in it.

    served: indexes find the rows that meet the condition, and no others.
    """
    where, values = condition or (sql.SQL("true"), [])
    by_rare, by_others = (_INDEXED, _TESTED if served else _INDEXED) if condition else (_EITHER, _EITHER)
    rare = {"only": sql.SQL("true"), "terms": sql.SQL("rare"), "often": sql.SQL("often")}
    others = {"only": sql.SQL(_IF_FEW), "terms": sql.SQL("others"), "often": sql.SQL("oftener")}
    parts: dict[str, sql.Composable] = {
        "all": sql.SQL("true" if condition else "false"),
        "by_rare": table.format(by_rare, where=where, **rare),
        "by_others": table.format(by_others, where=where, **others),
        "rows": table.format(_ROWS, stored=table.stored if with_vectors else sql.SQL("NULL::bytea")),
        "dimensions": literal(DIMENSIONS),
        "budget": literal(BUDGET),
        "most": literal(_MOST),
        "bytes": literal(_BYTES),
    }
    bound: list[object] = [*asked(terms), *table.names, *table.names, *values, k, k, *values, k, k]
    return table.format(_SEARCH, **parts), bound


def read(table: Table, after: tuple[str, int]) -> tuple[sql.Composed, list[object]]:
    """The next chunks by their keys, with their words as they are sent, and what is bound in it."""
    query = """
        SELECT record_id, number, text, metadata, start_at, end_at, hash, array_send(terms), {sent}(lex) FROM {table}
        WHERE (record_id, number) > (%s::text, %s::int) ORDER BY record_id, number LIMIT 500"""
    return table.format(query, sent=table.of_extension("sparsevec_send")), [*after]
