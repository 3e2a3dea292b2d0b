"""Tables of the kit, read by programs that know only pgvector."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest
from harrier_pgvector import PgVectorStore
from pgvector.psycopg import register_vector

from harrier_core import Encoder, Index, Record

RECORDS = [Record(str(number), f"text {number}", {"even": number % 2 == 0}) for number in range(20)]
NEAREST = """
SELECT record_id, 1 - (embedding <=> %s::vector::{kind}) FROM documents
WHERE NOT (metadata -> 'even')::bool ORDER BY embedding <=> %s::vector::{kind} LIMIT 5
"""


@pytest.mark.parametrize(("precision", "kind"), [("float16", "halfvec"), ("float32", "vector")])
def test_pgvectors_own_client(database: str, encoder: Encoder, precision: str, kind: str) -> None:
    """It reads the vectors, and its distances match the scores of a search."""
    with Index(PgVectorStore(database, precision=precision), encoder) as index:
        index.ingest(RECORDS)
        matches = index.search("text 7", k=5, where={"even": False})
    [query], [document] = encoder.encode_queries(["text 7"]), encoder.encode_documents(["text 7"])
    with psycopg.connect(database) as connection:
        register_vector(connection)
        found = connection.execute(NEAREST.format(kind=kind), [query, query]).fetchall()
        [[stored]] = connection.execute("SELECT embedding FROM documents WHERE record_id = '7'").fetchall()
    assert [each for each, _ in found] == [match.record_id for match in matches]
    assert np.allclose([score for _, score in found], [match.score for match in matches], atol=2e-3)
    vector = stored.to_numpy() if hasattr(stored, "to_numpy") else stored  # an array in releases before 0.4
    assert np.allclose(vector, document, atol=1e-3)
