"""The roles whose tables a worker works for.

SQL code of a table's owner runs with the rights of any reader or writer of the table: triggers, defaults, and the
functions of index expressions, which Postgres evaluates when it plans a query. SET ROLE does not confine such code,
because it may say RESET ROLE. Tables of other roles are therefore left alone unless these are superusers or are named.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from harrier_core.errors import StoreUnsuitable


class StrangersError(StoreUnsuitable):
    """Something belongs to a role that is not trusted."""


# Owners who are neither superusers nor this session's own role. current_user is no help, because it can be reset.
STRANGERS = """
    ARRAY(SELECT r.rolname::text FROM pg_roles AS r
        WHERE r.oid = ANY({}) AND NOT r.rolsuper AND r.rolname <> session_user ORDER BY 1)"""

# Owners of the types of a table's columns, and of what those are made of. Checks of a domain, and casts to text and
# json, are code of the type's owner, who may add them at any time.
TYPE_OWNERS = """
    ARRAY(WITH RECURSIVE kinds (oid) AS (
        SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped
        UNION SELECT part.oid FROM kinds JOIN pg_type AS y ON y.oid = kinds.oid CROSS JOIN LATERAL (
            SELECT y.typbasetype UNION ALL SELECT y.typelem
            UNION ALL SELECT a.atttypid FROM pg_attribute AS a WHERE a.attrelid = y.typrelid AND a.attnum > 0
        ) AS part (oid) WHERE part.oid <> 0
    ) SELECT y.typowner FROM kinds JOIN pg_type AS y ON y.oid = kinds.oid)"""


def refuse_strangers(what: str, owners: Iterable[str], trust: Collection[str]) -> None:
    """Raise an error if some of these owners are not trusted."""
    if unknown := [owner for owner in owners if owner not in trust]:
        raise StrangersError(
            f"{what} belongs to role {unknown[0]}, whose SQL code would run with the rights of this connection; "
            f"connect as {unknown[0]}, or trust that role by name (trust=, --trust)"
        )
