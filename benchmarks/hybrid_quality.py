"""Measure dense, keyword and hybrid search, and whether other constants of the kit would find more.

Queries are index entries of a manual in eleven languages, questions from FAQs, and codes among near misses: see
manuals.py. They are split by page into two halves. The values of each constant are compared on one half; the other half
shows the difference from the kit's value, with 95 % intervals (bootstrap over pages). Debian's packages are downloaded
once.

    make bench-hybrid-quality CORPUS=folder MODEL=folder    # an English retrieval model of sentence-transformers
    make bench-hybrid-quality CORPUS=folder                 # keyword search only
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from manuals import LANGUAGES, Collection, Query, codes, fetch, fewer, index_entries, questions
from numpy.typing import NDArray
from postings import Postings, Recorded
from ready import Instant, Noise
from retriever import Retriever

from harrier_core import Embedder, Index, Match, Record, fusion, lexical, ranking
from harrier_core.lexical import document_terms, has_code, query_terms
from harrier_core.options import Options
from harrier_core.query import Mode, Search, WordSearch

DEPTH = 50
K = 10
DRAWS = 1_000
MODES: tuple[Mode, ...] = ("dense", "keyword", "hybrid")
MEASURES = ("MRR@10", "nDCG@10", "in 10")

Scores = NDArray[np.float64]  # (queries, measures)


@dataclass(frozen=True, eq=False)
class Case:
    """A collection in an index, with a mask of the queries that tune; the others report."""

    collection: Collection
    index: Index
    store: Postings
    tuning: NDArray[np.bool_]
    has_vectors: bool

    @property
    def queries(self) -> Sequence[Query]:
        """Return the collection's queries."""
        return self.collection.queries

    @property
    def texts(self) -> list[str]:
        """Return the texts of the queries."""
        return [query.text for query in self.queries]


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--passages", type=int, default=2_000, help="passages of each collection")
    parser.add_argument("--queries", type=int, default=1_200, help="number of index entries in each language")
    parser.add_argument("--codes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    fetch(options.corpus)
    prose, words, coded, blind = cases(options)
    print("\nheld-out halves\n")
    report([*prose, *words, *coded, *blind])
    print("\nqueries from people that are treated as codes:", flags([*prose, *words]))
    speed([*words, *prose])
    if prose:
        tune_fusion(prose, coded or blind)
    tune_words(words, blind)


def cases(options: argparse.Namespace) -> tuple[list[Case], list[Case], list[Case], list[Case]]:
    """Return cases: prose and codes with the model's vectors, index entries by word, and codes with noise."""
    seed, size = options.seed, options.passages
    helps = [index_entries(options.corpus, language, options.queries, seed) for language in LANGUAGES]
    helps = [each for each in helps if len(each.queries) >= options.queries / 4]
    words = [case(fewer(each, size, seed), Instant(16), seed) for each in helps]
    english = helps[0]
    blind = of_codes(english, options.codes, Noise(64), seed + 1)
    if not options.model:
        return [], words, [], blind
    model = Retriever(options.model, options.corpus)
    few = fewer(english, size, seed)
    prose = [case(each, model, seed) for each in (few, fewer(questions(options.corpus), size, seed))]
    number = min(options.codes, len(few.passages) // 8)
    return prose, words, of_codes(few, number, model, seed + 1), blind


def of_codes(collection: Collection, number: int, embedder: Embedder, seed: int) -> list[Case]:
    """Return a case for each way of writing a code, all over one index."""
    passages, asked = codes(collection.passages, number, seed)
    name = f"{number} codes, {{}}, {embedder.name}"
    made = [Collection(name.format(way), passages, queries) for way, queries in asked.items()]
    first = case(made[0], embedder, seed)
    return [first, *(replace(first, collection=each, tuning=halves(each.queries, seed)) for each in made[1:])]


def case(collection: Collection, embedder: Embedder, seed: int) -> Case:
    """Ingest a collection."""
    store = Postings()
    index = Index(store, embedder)
    index.ingest(Record(f"{each.page}\t{at:06}", each.text) for at, each in enumerate(collection.passages))
    made = Case(collection, index, store, halves(collection.queries, seed), type(embedder) is not Instant)
    print(f"{collection.name}: {len(collection.passages):,} passages, {len(collection.queries):,} queries", flush=True)
    return made


def halves(queries: Sequence[Query], seed: int) -> NDArray[np.bool_]:
    """Return a mask of the queries for tuning: those of half of the pages, or of half of the codes of each kind."""
    groups = sorted({_page(query) for query in queries})
    chosen = set(random.Random(seed).sample(groups, len(groups) // 2))
    return np.array([_page(query) in chosen for query in queries])


def _page(query: Query) -> str:
    return min(query.pages)


# -- measures


def scored(queries: Sequence[Query], found: Iterable[Sequence[Match]]) -> Scores:
    """Return each query's measures; a page counts once, at its first rank."""
    rows: list[tuple[float, float, float]] = []
    for query, matches in zip(queries, found, strict=True):
        pages = dict.fromkeys(match.record_id.partition("\t")[0] for match in matches[:K])
        right = [place for place, page in enumerate(pages) if page in query.pages]
        best = sum(1 / np.log2(place + 2) for place in range(min(len(query.pages), K)))
        gain = sum(1 / np.log2(place + 2) for place in right)
        rows.append((1 / (right[0] + 1) if right else 0.0, float(gain / best), float(bool(right))))
    return np.array(rows)


def interval(values: Sequence[Scores], queries: Sequence[Sequence[Query]]) -> tuple[Scores, Scores, Scores]:
    """Return the mean over cases, and both ends of its interval; pages are redrawn, not queries."""
    chance = np.random.default_rng(0)
    draws = np.zeros((DRAWS, values[0].shape[1]))
    for own, asked in zip(values, queries, strict=True):
        groups = {page: at for at, page in enumerate(dict.fromkeys(map(_page, asked)))}
        places = [groups[_page(query)] for query in asked]
        sums, sizes = np.zeros((len(groups), own.shape[1])), np.zeros(len(groups))
        np.add.at(sums, places, own)
        np.add.at(sizes, places, 1)
        drawn = chance.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), DRAWS)
        draws += (drawn @ sums) / (drawn @ sizes)[:, None] / len(values)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return np.mean([own.mean(axis=0) for own in values], axis=0), low, high


def report(every: Sequence[Case]) -> None:
    """Print the measures of each mode for the queries that report."""
    print(f"{'':44}{'mode':<9}" + "".join(f"{name:<22}" for name in MEASURES))
    for each in every:
        kept = [query for query, tuning in zip(each.queries, each.tuning, strict=True) if not tuning]
        for mode in MODES if each.has_vectors else ("keyword",):
            found = each.index.search_many([query.text for query in kept], K, mode=mode)
            mean, low, high = interval([scored(kept, found)], [kept])
            cells = "".join(f"{m:.3f} ({a:.3f}-{b:.3f})   " for m, a, b in zip(mean, low, high, strict=True))
            print(f"{each.collection.name:<44}{mode:<9}{cells}", flush=True)


def flags(every: Sequence[Case]) -> str:
    """Return how many queries are treated as codes, with examples."""
    texts = list(dict.fromkeys(text for each in every for text in each.texts))
    found = [text for text in texts if has_code(text)]
    return f"{len(found)} of {len(texts):,}, such as {found[:: max(1, len(found) // 12)]}"


def speed(every: Sequence[Case]) -> None:
    """Print the CPU time of the analyzer, and that of counting words with a regular expression."""
    texts = [passage.text for each in every for passage in each.collection.passages]
    random.Random(0).shuffle(texts)
    words = re.compile(r"\w+")
    lexical._TERMS.clear()
    lexical._IDS.clear()
    took: dict[str, list[float]] = {"first": [], "again": [], "words": []}
    for start in range(0, len(texts), 50):
        some = texts[start : start + 50]
        for name, times in took.items():
            begin = time.process_time()
            for text in some:
                Counter(words.findall(text.lower())) if name == "words" else document_terms(text)
            times.append((time.process_time() - begin) / len(some) * 1e6)
    first, again, plain = (float(np.median(each)) for each in took.values())
    print(
        f"\nanalyzer: {first:.0f} us per passage of {sum(map(len, texts)) / len(texts):.0f} characters, {again:.0f} us "
        f"if it was just seen; counting words {plain:.0f} us ({len(texts):,} passages, median of 50 together)"
    )


# -- constants


@contextmanager
def constants(module: ModuleType, values: Mapping[str, Any]) -> Iterator[None]:
    """Set other constants temporarily, and clear the analyzer's cache."""
    before = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        lexical._TERMS.clear()
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)
        lexical._TERMS.clear()


def compared(every: Sequence[Case], own: Sequence[Scores], other: Sequence[Scores]) -> str:
    """Return MRR on the tuning halves, and the difference from the kit's on the others."""
    tuned = np.mean([scores[each.tuning, 0].mean() for each, scores in zip(every, other, strict=True)])
    kept = [[q for q, tuning in zip(each.queries, each.tuning, strict=True) if not tuning] for each in every]
    differences = [(b - a)[~each.tuning] for each, a, b in zip(every, own, other, strict=True)]
    mean, low, high = interval(differences, kept)
    return f"{tuned:.3f}   {mean[0]:+.3f} ({low[0]:+.3f} to {high[0]:+.3f})"


def recorded(each: Case) -> Recorded:
    """Return both lists of each query."""
    vectors = each.index.encoder.encode_queries(each.texts)
    terms = [query_terms(text) for text in each.texts]
    return Recorded(each.store.search_words(WordSearch(terms, DEPTH, near=Search(vectors, DEPTH))), vectors)


def tune_fusion(prose: Sequence[Case], coded: Sequence[Case]) -> None:
    """Print RRF's constant and the weights, and the cost of rounding scores if cosines are narrow."""
    every = [*prose, *coded]
    lists = {id(each): recorded(each) for each in every}
    options = Options(K, None, mode="hybrid")

    def by_both(cases: Sequence[Case], narrow: float = 1.0) -> list[Scores]:
        return [
            scored(each.queries, ranking.ranked(own.narrowed(narrow), each.texts, own.vectors, options))
            for each, own in ((each, lists[id(each)]) for each in cases)
        ]

    prosaic, of_code = by_both(prose), by_both(coded)
    print(
        "\nRRF's constant and the weight of keywords: MRR@10 of tuning queries, difference of the others; then codes\n"
    )
    for constant in (1, 2, 5, 10, 60):
        for weight in (0.25, 0.35, 0.5, 0.7, 1.0):
            with constants(fusion, {"_CONSTANT": constant}), constants(ranking, {"_WORDS": weight}):
                print(f"{constant:>3} {weight:>5}   {compared(prose, prosaic, by_both(prose))}", flush=True)
    print("\nRRF's constant and the weight of codes\n")
    for constant in (1, 2, 5, 10, 60):
        for weight in (1.0, 2.0, 3.0, 5.0):
            with constants(fusion, {"_CONSTANT": constant}), constants(ranking, {"_CODES": weight}):
                print(f"{constant:>3} {weight:>5}   {compared(coded, of_code, by_both(coded))}", flush=True)
    print("\ncosines squeezed into a tenth and a hundredth of their range (scores are compared to four digits)\n")
    for narrow in (0.1, 0.01):
        print(f"{narrow:>9}   {compared(prose, prosaic, by_both(prose, narrow))}", flush=True)


def tune_words(words: Sequence[Case], blind: Sequence[Case]) -> None:
    """Print the analyzer's constants."""

    def by_word(cases: Sequence[Case]) -> list[Scores]:
        for each in cases:
            each.store.forget()
        return [scored(each.queries, each.index.search_many(each.texts, K, mode="keyword")) for each in cases]

    entries, of_code = by_word(words), by_word(blind)
    print("\nkeyword search alone: index entries of all languages; codes\n")
    variants: list[dict[str, Any]] = [
        *({"_PREFIX_OF": 1 + size, "_PREFIX": size} for size in (10**6, 4, 5, 6)),
        *({"_K1": k1} for k1 in (0.9, 1.5)),
        *({"_B": b} for b in (0.4, 0.9)),
        *({"_AVERAGE": average} for average in (128, 512)),
        *({"_CODE_BOOST": boost} for boost in (1.0, 1.5, 3.0)),
    ]
    for variant in variants:
        with constants(lexical, variant):
            of_entries = "" if "_CODE_BOOST" in variant else compared(words, entries, by_word(words))
            print(f"{variant!s:<40}{of_entries:<36}{compared(blind, of_code, by_word(blind))}", flush=True)


if __name__ == "__main__":
    main()
