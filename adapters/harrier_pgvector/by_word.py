"""The statement that finds chunks by their words: BM25, with the rarity of each term as the table has it now.

No statistics are kept. The index counts how many rows have a term, up to a bound; for more frequent terms, ANALYZE
knows the number. Candidates are the rows with one of the rarest terms, as many terms as the budget allows, and all
terms score them. Frequent terms alone hardly ever decide, and too many rows have them.

Row-level security hides the results of ANALYZE, and a new table has none: then frequent terms are counted up to the
bound, which takes longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from psycopg import sql

from harrier_core.query import BM25_DECIMALS
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

_EXACT = 5_000  # rows of a table that is searched exactly; also the limit for counting the rows that have a term
_BUDGET = 2_000  # rows with the rarest terms: of 100,000, they include 98 % of the ten best; each costs reading a page
_MOST = 4 * _BUDGET  # rows that are checked if the budget is not enough
_TIMES = 2  # rows for each of the k best that are checked at least; a longer list than _BUDGET needs all terms
_LEAST = 200  # rows that are scored under a condition, for the k best to be among them
_BYTES = 3_000  # size of a row, in a table whose rows have not been counted yet

# `best` are rows with the rarest terms. If they are too few, because hardly any row has these or meets the condition,
# rows with the next terms are checked (`nearby`) and, with a condition, finally rows that meet it and have any other
# term. Parts that are not needed are not executed. If too many rows have a term, only some of them are taken.
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
        WHERE s.schemaname = %s AND s.tablename = %s AND s.attname = 'terms' AND (SELECT n FROM size) > {exact}::float8
            AND e.term = ANY(ARRAY(SELECT term FROM asked))
        GROUP BY 1
    ),
    counted (term, boost, df) AS MATERIALIZED (
        SELECT asked.term, asked.boost, coalesce(common.df, (
            SELECT count(*) FROM (
                SELECT FROM {table} AS chunks WHERE chunks.terms @> ARRAY[asked.term] LIMIT {exact}
            ) AS seen
        )::float8)
        FROM asked LEFT JOIN common USING (term)
    ),
    weighed (term, weight, rare, upto) AS MATERIALIZED (
        SELECT term, boost * ln(1 + (greatest(n, df) - df + 0.5) / (df + 0.5)), n <= {exact}::float8
            OR sum(df) OVER rarest <= {budget}::float8 OR row_number() OVER rarest = 1, sum(df) OVER rarest
        FROM counted CROSS JOIN size WHERE df > 0 WINDOW rarest AS (ORDER BY df, term ROWS UNBOUNDED PRECEDING)
    ),
    other (term, upto, near) AS MATERIALIZED (
        SELECT term, upto, row_number() OVER (ORDER BY upto) = 1 OR upto <= {most}::float8 OR {deep}
        FROM weighed WHERE NOT rare
    ),
    query (lex, rare, near, others, upto, nearupto) AS MATERIALIZED (
        SELECT ('{{' || string_agg((term + 1)::text || ':' || weight::text, ',' ORDER BY term) || '}}/{dimensions}')
            ::{sparse}, array_agg(term) FILTER (WHERE rare), ARRAY(SELECT term FROM other WHERE near),
            ARRAY(SELECT term FROM other), max(upto) FILTER (WHERE rare), (SELECT max(upto) FROM other WHERE near)
        FROM weighed
    ),
    {tried}
    best AS MATERIALIZED (
        SELECT * FROM (SELECT {rows} FROM ({by_rare} LIMIT {seen}) AS candidates OFFSET 0) AS scored
        ORDER BY {order} LIMIT %s
    ),
    few (few, wide) AS MATERIALIZED (
        SELECT {few} AND EXISTS (SELECT FROM other), {wide} FROM best
    ),
    nearby AS MATERIALIZED (
        SELECT * FROM (SELECT {rows} FROM ({by_near} LIMIT {seen_near}) AS candidates OFFSET 0) AS scored
        ORDER BY {order} LIMIT %s
    )
    SELECT * FROM (SELECT * FROM best UNION ALL SELECT * FROM nearby {rest}) AS found ORDER BY {order} LIMIT %s"""
_REST = """
    UNION ALL SELECT * FROM (
        SELECT * FROM (SELECT {rows} FROM ({by_others} LIMIT {many}) AS candidates OFFSET 0) AS scored
        ORDER BY {order} LIMIT %s
    ) AS others"""
_ROWS = """
    record_id, number, text, metadata, start_at, end_at, {stored} AS stored,
    lex {unlike} (SELECT lex FROM query) AS far"""

# As all stores compare scores, so that a longer list begins like a shorter one. OFFSET 0 keeps the planner from
# computing the score twice.
_ORDER = "round(far * {scale}), record_id, number"

# Without a condition, rows with a term that half of the table has are found faster without an index.
_HAVING = """
    SELECT * FROM {table} WHERE {only} AND terms && (SELECT {terms} FROM query)
        AND (SELECT {upto} <= greatest({most}::float8, (SELECT n FROM size) / 2) FROM query)
    UNION ALL
    SELECT * FROM {table} WHERE {only} AND (terms && (SELECT {terms} FROM query)) IS TRUE
        AND (SELECT {upto} > greatest({most}::float8, (SELECT n FROM size) / 2) FROM query)"""
_SEEN = "(SELECT CASE WHEN {upto} <= {most}::float8 THEN {many} ELSE {some} END FROM query)"
_RARE = {"only": "true", "terms": "rare", "upto": "upto"}
_NEAR = {"only": "(SELECT few FROM few) AND NOT terms && (SELECT rare FROM query)", "terms": "near", "upto": "nearupto"}

# With a condition, some rows with rare terms are tested first, to estimate what share meets it. If it is large, all
# such rows are tested one by one; if not, the condition's own index finds the rows that meet it, which takes longer the
# more there are. If `best` are too few, the share of those that met it decides how the others are found in the same way
# (`wide`). If most rows with rare terms did not meet it, more than k are needed: the budget was spent on others, and
# the best of what is left may not be the best of all that meet it.
_TRIED = """
    tried (share) AS MATERIALIZED (
        SELECT (count(*) FILTER (WHERE {where}) + 1)::float8 / (count(*) + 2)
        FROM (SELECT * FROM {table} WHERE terms && (SELECT rare FROM query) LIMIT 30) AS chunks
    ),
    choice (testing) AS MATERIALIZED (
        SELECT {row} * least(upto, {most}::float8 / share) * (1 - share) < n * share FROM query, tried, size
    ),"""
_FEW = "(count(*) < %s OR count(*) < {least} AND {share} * count(*) < (SELECT upto FROM query))"
_SHARE = 4  # at most one in so many met the condition
_ROW = 40  # the cost of reading and testing a row, relative to finding one in an index
_RARE_AND = """
    SELECT * FROM {table} WHERE terms && (SELECT rare FROM query) AND ({where}) IS TRUE
        AND (SELECT testing FROM choice)
    UNION ALL
    SELECT * FROM {table} WHERE terms && (SELECT rare FROM query) AND {where}
        AND (SELECT NOT testing FROM choice)"""
_WIDE = "(SELECT n FROM size) * (count(*) + 1) / ((SELECT upto FROM query) + 2) > {most}::float8"
_NEAR_AND = """
    SELECT * FROM {table} WHERE (SELECT few AND wide FROM few) AND NOT terms && (SELECT rare FROM query)
        AND terms && (SELECT near FROM query) AND ({where}) IS TRUE"""
_OTHERS_AND = """
    SELECT * FROM {table} WHERE (SELECT few FROM few)
        AND (SELECT count(*) FROM best) + (SELECT count(*) FROM nearby) < %s
        AND NOT terms && (SELECT rare FROM query) AND NOT ((SELECT wide FROM few) AND terms && (SELECT near FROM query))
        AND {others} AND {where}"""
_OTHERS = "terms && (SELECT others FROM query)"
_OTHERS_TESTED = f"({_OTHERS}) IS TRUE"  # when the condition's index is used, and only that


# Otherwise a scan would begin at an arbitrary page, and find different rows each time.
_SETTINGS = UNPLANNED | {"synchronize_seqscans": "off"}


def request(opened: Opened, search: WordSearch, rows: Sequence[int]) -> Request:
    """Return the request for the queries in some of the rows, with its settings."""
    where = search.where
    condition = None if where is None else compile_where(where, opened.typed)
    options = {"served": opened.serves(where), "with_vectors": search.with_vectors}
    queries = (statement(opened.table, search.terms[at], search.k, condition, **options) for at in rows)
    return [(*query, False) for query in queries], dict(_SETTINGS)


def statement(
    table: Table, terms: Terms, k: int, condition: Compiled | None, *, served: bool, with_vectors: bool
) -> tuple[sql.Composed, list[object]]:
    """Return the statement for the k best chunks that meet the condition, best first, and its parameters.

    served: indexes find the rows that meet the condition, and no others.
    """
    parts: dict[str, sql.Composable] = {
        "dimensions": literal(DIMENSIONS),
        "exact": literal(_EXACT),
        "budget": literal(_BUDGET),
        "most": literal(_MOST),
        "bytes": literal(_BYTES),
        "many": literal(max(_MOST, _TIMES * k)),
        "some": literal(max(_EXACT, _TIMES * k)),
        "deep": literal(k > _BUDGET),
        "order": table.format(_ORDER, scale=literal(10**BM25_DECIMALS)),
        "rows": table.format(_ROWS, stored=table.stored if with_vectors else sql.SQL("NULL::bytea")),
    }
    bound: list[object] = [*asked(terms), *table.names, *table.names]
    if condition is None:
        rare, near = ({name: sql.SQL(text) for name, text in each.items()} for each in (_RARE, _NEAR))
        parts |= {
            "by_rare": table.format(_HAVING, **rare, **parts),
            "by_near": table.format(_HAVING, **near, **parts),
            "seen": table.format(_SEEN, **rare, **parts),
            "seen_near": table.format(_SEEN, **near, **parts),
            "few": sql.SQL("count(*) < %s"),
            "wide": sql.SQL("true"),
            "tried": sql.SQL(""),
            "rest": sql.SQL(""),
        }
        return table.format(_SEARCH, **parts), [*bound, k, k, k, k]
    parts["where"], values = condition
    parts |= {"row": literal(_ROW), "least": literal(_LEAST), "share": literal(_SHARE)}
    parts["others"] = sql.SQL(_OTHERS_TESTED if served else _OTHERS)
    parts |= {
        "tried": table.format(_TRIED, **parts),
        "by_rare": table.format(_RARE_AND, **parts),
        "by_near": table.format(_NEAR_AND, **parts),
        "by_others": table.format(_OTHERS_AND, **parts),
        "seen": parts["many"],
        "seen_near": parts["many"],
        "few": table.format(_FEW, **parts),
        "wide": table.format(_WIDE, **parts) if served else sql.SQL("true"),
    }
    parts["rest"] = table.format(_REST, **parts)
    least = max(k, _LEAST)
    enough = least if served else k  # without an index on the condition, all other rows would be tested one by one
    bound += [*values, *values, *values, least, k, *values, least, enough, *values, least, k]
    return table.format(_SEARCH, **parts), bound


def read(table: Table, after: tuple[str, int]) -> tuple[sql.Composed, list[object]]:
    """Return the statement for the next chunks by their keys, with their words in binary form, and its parameters."""
    query = """
        SELECT record_id, number, text, metadata, start_at, end_at, hash, array_send(terms), {sent}(lex) FROM {table}
        WHERE (record_id, number) > (%s::text, %s::int) ORDER BY record_id, number LIMIT 500"""
    return table.format(query, sent=table.of_extension("sparsevec_send")), [*after]
