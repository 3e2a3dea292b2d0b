"""Objects attached to a table of chunks, and how an exchange with another table treats them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection, sql

from harrier_pgvector.noting import NOTED
from harrier_pgvector.schema import COLUMNS, STAMP, Name, literal, written
from harrier_pgvector.session import ask
from harrier_pgvector.words import COLUMNS as WORDS

# Objects that the new table would lack, or that would keep using the old one: a word for each, and its name. The
# table's view, if a live sync has made one, is exchanged as well.
_HANGING = """
    SELECT 'a trigger', tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
        WHERE tgrelid IN (%(oid)s, %(view)s) AND NOT tgisinternal
        AND NOT (p.proname ~ %(noted)s AND pg_has_role(p.proowner, 'USAGE'))
    UNION ALL SELECT 'a rule', rulename::text FROM pg_rewrite
        WHERE ev_class IN (%(oid)s, %(view)s) AND rulename <> '_RETURN'
    UNION ALL SELECT 'a policy', polname::text FROM pg_policy WHERE polrelid = %(oid)s
    UNION ALL SELECT 'row-level security', '' FROM pg_class WHERE oid = %(oid)s AND relrowsecurity
    UNION ALL SELECT 'partitions', '' FROM pg_class WHERE oid = %(oid)s AND relkind = 'p'
    UNION ALL SELECT 'a foreign key', conname::text FROM pg_constraint
        WHERE contype = 'f' AND %(oid)s IN (conrelid, confrelid)
    UNION ALL SELECT 'inheritance', inhrelid::regclass::text FROM pg_inherits WHERE %(oid)s IN (inhrelid, inhparent)
    UNION ALL SELECT 'a publication', p.pubname::text FROM pg_publication_rel r
        JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = %(oid)s
    UNION ALL SELECT 'a subscription', '' FROM pg_subscription_rel WHERE srrelid = %(oid)s
    UNION ALL SELECT 'a replica identity', indexrelid::regclass::text FROM pg_index
        WHERE indrelid = %(oid)s AND indisreplident
    UNION ALL SELECT DISTINCT 'a view', v.oid::regclass::text FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
        JOIN pg_class v ON v.oid = w.ev_class WHERE d.classid = 'pg_rewrite'::regclass
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (%(oid)s, %(view)s)
        AND v.oid NOT IN (%(oid)s, %(view)s)
    UNION ALL SELECT 'a dependent object', pg_describe_object(d.classid, d.objid, d.objsubid) FROM pg_depend d
        JOIN pg_class c ON c.oid IN (%(oid)s, %(view)s) AND (
            d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid OR d.refclassid = 'pg_type'::regclass
            AND d.refobjid IN (c.reltype, (SELECT t.typarray FROM pg_type t WHERE t.oid = c.reltype))
        )
        WHERE d.deptype = 'n' AND d.classid <> 'pg_rewrite'::regclass AND NOT EXISTS (
            SELECT FROM pg_constraint k WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                AND k.conrelid = %(oid)s
        )
    UNION ALL SELECT 'a column', attname::text FROM pg_attribute
        WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped AND attname <> ALL (%(columns)s)
    UNION ALL SELECT 'privileges on a column', attname::text FROM pg_attribute
        WHERE attrelid IN (%(oid)s, %(view)s) AND attnum > 0 AND attacl IS NOT NULL
    LIMIT 1"""

# Indexes, constraints and statistics of the owner's that another table lacks. Names do not count; the kit's own indexes
# are built anyway.
_OWN = """
    WITH indexes AS (
        SELECT i.indrelid, x.relname, i.indisunique, i.indpred IS NULL AND i.indnatts = 1 AND NOT i.indisunique AND (
                m.amname::text, coalesce(a.attname::text, ''), o.opcname::text
            ) IN (
                ('hnsw', 'embedding', 'halfvec_cosine_ops'), ('hnsw', 'embedding', 'vector_cosine_ops'),
                ('hnsw', '', 'bit_hamming_ops'), ('gin', 'metadata', 'jsonb_path_ops'), ('gin', 'terms', 'array_ops')
            ) OR coalesce(starts_with(obj_description(x.oid, 'pg_class'), %(stamp)s), false) AS ours,
            regexp_replace(pg_get_indexdef(x.oid), '^.*? USING ', '') AS def
        FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
        JOIN pg_opclass o ON o.oid = i.indclass[0]
        LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid IN (%(live)s, %(new)s) AND i.indisvalid AND NOT i.indisprimary
    ), checks AS (
        SELECT conrelid, conname, pg_get_constraintdef(oid) AS def FROM pg_constraint
        WHERE conrelid IN (%(live)s, %(new)s) AND contype = 'c' AND conname <> 'harrier_words'
    ), extended AS (
        SELECT stxrelid, stxname, regexp_replace(
                regexp_replace(pg_get_statisticsobjdef(oid), '^CREATE STATISTICS [^ ]+', ''), ' FROM [^ ]+$', ''
            ) AS def FROM pg_statistic_ext WHERE stxrelid IN (%(live)s, %(new)s)
    )
    SELECT 'an index', a.relname::text FROM indexes a WHERE a.indrelid = %(live)s AND NOT a.ours AND NOT EXISTS (
        SELECT FROM indexes b WHERE b.indrelid = %(new)s AND (b.def, b.indisunique) = (a.def, a.indisunique)
    )
    UNION ALL SELECT 'a constraint', a.conname::text FROM checks a WHERE a.conrelid = %(live)s AND NOT EXISTS (
        SELECT FROM checks b WHERE b.conrelid = %(new)s AND b.def = a.def
    )
    UNION ALL SELECT 'statistics', a.stxname::text FROM extended a WHERE a.stxrelid = %(live)s AND NOT EXISTS (
        SELECT FROM extended b WHERE b.stxrelid = %(new)s AND b.def = a.def
    )
    LIMIT 1"""

# Publications that contain the table without naming it.
_PUBLISHED = """
    SELECT t.pubname::text FROM pg_publication_tables t WHERE (t.schemaname, t.tablename) = (%s, %s)
    ORDER BY t.pubname LIMIT 1"""

# Storage parameters, those of the table for large values included, and how rows are identified to subscribers.
_SETTINGS = """
    SELECT c.relreplident::text, ARRAY(
        SELECT o FROM unnest(c.reloptions) AS o UNION ALL
        SELECT 'toast.' || o FROM pg_class t CROSS JOIN unnest(t.reloptions) AS o WHERE t.oid = c.reltoastrelid
    ) FROM pg_class c WHERE c.oid = %s"""
_IDENTITIES = {"d": "DEFAULT", "f": "FULL", "n": "NOTHING"}

# The privileges on a table of roles other than its owner: none if nothing was ever granted. 0 is PUBLIC.
_RIGHTS = """
    SELECT coalesce(r.rolname, ''), a.grantee = 0, a.privilege_type, a.is_grantable
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.oid = %s AND a.grantee <> c.relowner AND (a.grantee = 0 OR r.rolname IS NOT NULL)"""

_OWNER = "SELECT r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = %s"


def hanging(connection: Connection[Any], oid: int, view: int) -> str | None:
    """Return an object that an exchange would break or lose, or None; view: the oid of the table's view, or 0."""
    bound: Any = {"oid": oid, "view": view, "columns": [*COLUMNS, *WORDS], "noted": NOTED}
    return _said(ask(connection, _HANGING, bound).fetchone())


def own(connection: Connection[Any], live: int, new: int) -> str | None:
    """Return an index, a constraint or statistics of the owner's that only the first table has, or None."""
    bound: Any = {"live": live, "new": new, "stamp": STAMP}
    return _said(ask(connection, _OWN, bound).fetchone())


def published(connection: Connection[Any], names: Sequence[str]) -> str | None:
    """Return the name of a publication that contains the table, or None."""
    row = ask(connection, _PUBLISHED, names).fetchone()
    return None if row is None else str(row[0])


def _said(row: Sequence[str] | None) -> str | None:
    if row is None:
        return None
    return f"{row[0]} {row[1]!r}" if row[1] else row[0]


def take_settings(connection: Connection[Any], table: Name, live: int, new: int) -> None:
    """Give a table the storage parameters and the replica identity of another one, and no others."""
    [(identity, options)], [(had, others)] = (ask(connection, _SETTINGS, [oid]).fetchall() for oid in (live, new))
    alter = sql.SQL("ALTER TABLE {} ").format(table)
    if gone := {each.partition("=")[0] for each in others} - {each.partition("=")[0] for each in options}:
        names = sql.SQL(", ").join(map(_option, sorted(gone)))
        connection.execute(alter + sql.SQL("RESET ({})").format(names), [])
    if missing := [each.partition("=") for each in options if each not in others]:
        values = (sql.SQL("{} = {}").format(_option(name), literal(value)) for name, _, value in missing)
        connection.execute(alter + sql.SQL("SET ({})").format(sql.SQL(", ").join(values)), [])
    if identity != had and identity in _IDENTITIES:
        connection.execute(alter + sql.SQL("REPLICA IDENTITY {}").format(written(_IDENTITIES[identity])), [])


def _option(name: str) -> sql.Composable:
    return sql.SQL(".").join(map(Name, name.split(".")))


def take_rights(connection: Connection[Any], table: Name, live: int, new: int) -> None:
    """Give a table or a view the owner and the grants of another one, and no others."""
    wanted, found = (ask(connection, _RIGHTS, [oid]).fetchall() for oid in (live, new))
    if set(wanted) == set(found):  # so that a role that is not the owner can continue
        wanted = found = []
    for role, public, _, _ in found:
        connection.execute(sql.SQL("REVOKE ALL ON {} FROM {}").format(table, _grantee(role, public=public)), [])
    for role, public, right, grantable in wanted:
        grant = sql.SQL("GRANT {} ON {} TO {}{}").format(
            written(right), table, _grantee(role, public=public),
            sql.SQL(" WITH GRANT OPTION" if grantable else ""),
        )  # fmt: skip
        connection.execute(grant, [])
    [[owner]], [[other]] = (ask(connection, _OWNER, [oid]).fetchall() for oid in (live, new))
    if owner != other:
        connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(table, Name(owner)), [])


def _grantee(role: str, *, public: bool) -> sql.Composable:
    return sql.SQL("PUBLIC") if public else Name(role)
