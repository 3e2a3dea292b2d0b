"""Catalog queries about a table and the extension; all values are bound."""

from __future__ import annotations

# The type comes with its schema. The vectors' row includes the indexes: for each one its access method, the column that
# it begins with unless it is an expression, and, after a blank, its comment, which says which field it is on
# (typed.py).
LOOK_UP = """
    SELECT c.oid, a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum),
        CASE WHEN a.attname = 'embedding' THEN ARRAY(
            SELECT m.amname || ':' || coalesce(f.attname, '') || ' ' || coalesce(obj_description(x.oid, 'pg_class'), '')
            FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
            LEFT JOIN pg_attribute f ON f.attrelid = c.oid AND f.attnum = i.indkey[0]
            WHERE i.indrelid = c.oid AND i.indisvalid
        ) END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')"""

# For each index its access method and its first column, which is null for an expression.
INDEXES = """
    SELECT m.amname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am m ON m.oid = x.relam LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
    WHERE i.indisvalid AND n.nspname = %s AND c.relname = %s"""

# The indexes with a prefix that are not complete, because building them was interrupted, or is not over.
UNFINISHED = """
    SELECT x.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class x ON x.oid = i.indexrelid
    WHERE NOT i.indisvalid AND n.nspname = %s AND c.relname = %s AND starts_with(x.relname, %s)"""

# The options of the index of the vectors, if any were given.
HNSW = """
    SELECT x.reloptions FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class x ON x.oid = i.indexrelid
    JOIN pg_am m ON m.oid = x.relam
    WHERE i.indisvalid AND m.amname = 'hnsw' AND n.nspname = %s AND c.relname = %s LIMIT 1"""

# Whether another session is currently writing to the table, or to one of its partitions.
WRITERS = """
    SELECT EXISTS (
        SELECT FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'RowExclusiveLock' AND l.granted
            AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.relation IN (
                SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = %s AND c.relname = %s
            )
    )"""

SIZE = """
    SELECT sum(pg_total_relation_size(coalesce(p.relid, c.oid)))::bigint FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN LATERAL pg_partition_tree(c.oid) p ON p.isleaf
    WHERE n.nspname = %s AND c.relname = %s"""

# The extension, its type of that name, and its type for sparse vectors.
EXTENSION = """
    SELECT e.extversion, n.nspname, t.oid, s.oid FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    LEFT JOIN pg_type t ON t.typnamespace = e.extnamespace AND t.typname = %s
    LEFT JOIN pg_type s ON s.typnamespace = e.extnamespace AND s.typname = 'sparsevec' WHERE e.extname = 'vector'"""

# Building an index that does not fit into this memory takes three times as long. Unless the server's own setting is
# higher, it is the least of what the index needs, the server's shared buffers, and a gigabyte. The first parameter is
# whether that ends with the transaction.
BUILD_MEMORY = """
    SELECT set_config('maintenance_work_mem', (greatest(
        pg_size_bytes(current_setting('maintenance_work_mem')),
        least(pg_size_bytes('1GB'), pg_size_bytes(current_setting('shared_buffers')), 2 * s.bytes)
    ) / 1024)::text || 'kB', %s)
    FROM (
        SELECT greatest(pg_relation_size(c.oid), (SELECT max(pg_relation_size(relid)) FROM pg_partition_tree(c.oid)))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
    ) AS s (bytes)"""
