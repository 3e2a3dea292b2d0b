"""A text in one role has one vector, through every integration and in every store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harrier_pgvector import PgVectorStore
from harrier_qdrant import QdrantStore
from haystack import Document
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder
from langchain_harrier import HarrierEmbeddings
from llama_index.embeddings.harrier import HarrierEmbedding

from harrier_core import Encoder, Index, Record

TEXT = "Bread rises\nbecause yeast turns sugar into gas."


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_one_vector(built: Callable[..., Path], postgres: str, table: str, tmp_path: Path, family: str) -> None:
    """Vectors are identical everywhere, within the precision of the store."""
    folder = str(built(family))
    with Encoder(folder) as encoder:
        [document], [query] = encoder.encode_documents([TEXT]), encoder.encode_queries([TEXT])
        assert abs(document - query).max() > 0.01
        chain, llama = HarrierEmbeddings(model=folder), HarrierEmbedding(model_name=folder)
        stack = (
            HarrierDocumentEmbedder(folder, progress_bar=False).run([Document(content=TEXT)])["documents"][0].embedding
        )
        for given in (chain.embed_documents([TEXT])[0], llama.get_text_embedding(TEXT), stack):
            assert np.array_equal(np.array(given, np.float32), document)
        stack = HarrierTextEmbedder(folder).run(TEXT)["embedding"]
        for given in (chain.embed_query(TEXT), llama.get_query_embedding(TEXT), stack):
            assert np.array_equal(np.array(given, np.float32), query)
        for store in (PgVectorStore(postgres, table=table, precision="float32"), QdrantStore.embedded(tmp_path)):
            with Index(store, encoder) as index:
                index.ingest([Record("bread", TEXT)])
                [stored] = index.read()
                np.testing.assert_allclose(stored.vector, document, atol=1e-6)
                [match] = index.search(TEXT)
                assert match.score == pytest.approx(float(query @ document), abs=1e-5)
        assert encoder.stats.texts == 2 + 6 + 2 * 2  # one loaded model has made them all
