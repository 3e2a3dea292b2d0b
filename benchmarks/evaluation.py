"""Evaluate a worked case with `harrier_core.evaluation`: 2,800 manual pages in four languages, and a small model.

The model is one of sentence-transformers, such as all-MiniLM-L6-v2. It is not Harrier, and was not trained with
instructions. Debian's packages are downloaded once, and vectors are kept.

    make bench-eval CORPUS=folder MODEL=folder    # writes report.html and report.json to CORPUS
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path

from harrier_pgvector import PgVectorStore
from manual_pages import pages
from retriever import Retriever

from harrier_core import Chunking, Encoded, Index, Task
from harrier_core.evaluation import evaluate

_TASK = Task("Given a description, retrieve the manual page that it describes")
_CHUNKING = Chunking(tokens=100)  # of five characters each, as the Retriever counts


class Instructed(Retriever):
    """Put an instruction before each query, if one is given."""

    def submit_queries(self, texts: Iterable[str], *, task: object = None) -> Future[Encoded]:
        """Encode queries with prompts in Harrier's format."""
        if isinstance(task, Task):
            texts = [f"Instruct: {task.instruction}\nQuery: {text}" for text in texts]
        return self.submit_documents(texts)


def main() -> None:
    """Ingest the pages, ask the questions, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    records, judgements = pages(options.corpus)
    store = PgVectorStore.embedded(options.corpus / "index", table="pages", keywords=True)
    with Index(store, Instructed(options.model, options.corpus), chunking=_CHUNKING) as index:
        print(index.ingest(records), flush=True)
        report = evaluate(index, judgements, compare=["hybrid", "keyword", "exact", _TASK], slices=["lang", "section"])
    report.to_html(options.corpus / "report.html")
    (options.corpus / "report.json").write_text(report.to_json(), encoding="utf-8")
    print(report)


if __name__ == "__main__":
    main()
