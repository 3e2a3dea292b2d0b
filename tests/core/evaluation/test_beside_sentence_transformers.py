"""Evaluations equal those of sentence-transformers' evaluator for the same model and judgements."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.evaluation import InformationRetrievalEvaluator  # type: ignore[import-not-found]

from harrier_core import Encoder, Index, Record
from harrier_core.evaluation import Judgements, Question, evaluate
from harrier_core.testing import PROSE, MemoryStore
from harrier_core.testing.sample import PROMPTS

K = [1, 3, 10]
NAMES = {"ndcg": "ndcg", "mrr": "mrr", "recall": "recall", "success": "accuracy", "map": "map"}


def texts() -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Return passages, queries made of some of their words, and up to three relevant passages for each."""
    chance = random.Random(4)
    passages = {f"p{number}": text for number, text in enumerate(PROSE)}
    queries, relevant = {}, {}
    for number in range(40):
        own = f"p{chance.randrange(len(PROSE))}"
        words = passages[own].split()
        queries[f"q{number}"] = " ".join(chance.sample(words, min(3, len(words))))
        relevant[f"q{number}"] = {own, *(f"p{chance.randrange(len(PROSE))}" for _ in range(number % 3))}
    return passages, queries, relevant


def test_equal_to_their_evaluator(built: Callable[..., Path]) -> None:
    """All metrics agree at all cut-offs; MAP only at large k, because theirs divides by at most k."""
    passages, queries, relevant = texts()
    folder = str(built("qwen3", vectors="words"))
    theirs = InformationRetrievalEvaluator(
        queries,
        passages,
        relevant,
        mrr_at_k=K,
        ndcg_at_k=K,
        accuracy_at_k=K,
        precision_recall_at_k=K,
        map_at_k=K,
        query_prompt=PROMPTS["web_search_query"],
        write_csv=False,
    )(SentenceTransformer(folder, device="cpu"))
    judgements = Judgements(Question(name, text, dict.fromkeys(relevant[name], 1)) for name, text in queries.items())
    with Encoder(folder) as encoder, Index(MemoryStore(), encoder) as index:
        index.ingest(Record(name, text) for name, text in passages.items())
        ours = evaluate(index, judgements, k=K, latency=0, floor=False)
    compared = [(kind, k) for kind in NAMES for k in K if kind != "map" or k >= 3]
    for kind, k in compared:
        assert ours[f"{kind}@{k}"].mean == pytest.approx(theirs[f"cosine_{NAMES[kind]}@{k}"], abs=1e-9), (kind, k)
    assert 0.1 < ours["ndcg@10"].mean < 0.99  # neither nothing nor everything was found
