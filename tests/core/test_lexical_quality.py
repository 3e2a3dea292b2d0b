"""Keyword search finds identifiers among near misses, and rare words in twelve scripts."""

from __future__ import annotations

import random
import string
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import numpy as np
import pytest

from harrier_core.embedder import Embedder, Encoded
from harrier_core.index import Index
from harrier_core.query import Mode
from harrier_core.records import Record
from harrier_core.space import EmbeddingSpace
from harrier_core.testing.memory import MemoryStore
from harrier_core.testing.sample import PROSE


class Blind(Embedder):
    """An embedder with random vectors per text, which finds no identifier."""

    name = "blind"
    max_tokens = 1_000_000

    @property
    def space(self) -> EmbeddingSpace:
        return EmbeddingSpace("blind", None, "w", "t", 16, "last token", "l2", "{text}")

    def count_tokens(self, texts: Iterable[str]) -> list[int]:
        return [len(text) for text in texts]

    def submit_documents(self, texts: Iterable[str]) -> Future[Encoded]:
        rows = [np.random.default_rng(list(text.encode())).normal(size=16) for text in texts]
        vectors = np.array([row / np.linalg.norm(row) for row in rows], np.float32)
        done: Future[Encoded] = Future()
        done.set_result(Encoded(vectors, [0] * len(rows)))
        return done

    def submit_queries(self, texts: Iterable[str], *, task: object = None) -> Future[Encoded]:  # noqa: ARG002
        return self.submit_documents(texts)


def some(chance: random.Random, letters: str, number: int) -> str:
    return "".join(chance.choices(letters, k=number))


KINDS: list[Callable[[random.Random], str]] = [
    lambda chance: f"ERR_{some(chance, string.ascii_uppercase, 4)}_{chance.randint(1000, 9999)}",
    lambda chance: f"KB{chance.randint(5_000_000, 5_099_999)}",
    lambda chance: f"{some(chance, string.ascii_uppercase, 2)}-{chance.randint(1000, 9999)}/{chance.randint(1, 9)}",
    lambda chance: f"0x{chance.randint(0x80000000, 0x8FFFFFFF):08X}",
    lambda chance: f"v{chance.randint(1, 9)}.{chance.randint(10, 99)}.{chance.randint(0, 9)}",
    lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    lambda chance: f"ORA-{chance.randint(1, 29_999):05}",
    lambda chance: f"{some(chance, string.ascii_lowercase, 6)}{chance.randint(10, 99)}@{some(chance, 'abcde', 5)}.org",
    lambda chance: "-".join(
        "".join(some(chance, "bdfgklmnprst", 1) + some(chance, "aeiou", 1) for _ in range(3)).title() for _ in "ab"
    ),
]
ASKED = ("what does {} mean", "how can I get rid of {} on my machine", "please explain {}, and what to do next")
# Other ways to write a code: in another case, or with other separators; the points within a number stay.
OTHERWISE: list[Callable[[str], str]] = [
    str.lower,
    str.upper,
    lambda code: code.replace("_", "-"),
    lambda code: code.replace("-", " ").replace("_", " ") if code[-1].isalpha() or "_" in code else code.lower(),
]


def mistyped(code: str, chance: random.Random) -> str:
    """Return the code with one letter or digit changed, after the second character."""
    at = chance.choice([at for at, letter in enumerate(code) if letter.isalnum() and at > 1])
    like = next(each for each in (string.digits, string.ascii_lowercase, string.ascii_uppercase) if code[at] in each)
    return code[:at] + chance.choice(like.replace(code[at], "")) + code[at + 1 :]


CODES = 108


@pytest.fixture(scope="module")
def codes() -> tuple[list[str], list[Record]]:
    """Return codes of nine kinds, and records with the codes, near misses and neither."""
    chance = random.Random(11)
    words = " ".join(PROSE).split()
    wanted = [KINDS[number % len(KINDS)](chance) for number in range(CODES)]
    every = dict.fromkeys([*wanted, *(mistyped(code, chance) for code in wanted for _ in range(3))])
    texts = [" ".join(chance.choices(words, k=chance.randint(10, 40))) for _ in range(1_000 - len(every))]
    texts += [" ".join([*chance.choices(words, k=chance.randint(10, 40)), f"({code})."]) for code in every]
    chance.shuffle(texts)
    return wanted, [Record(f"r{number}", text) for number, text in enumerate(texts)]


@pytest.fixture(scope="module")
def index(codes: tuple[list[str], list[Record]]) -> Iterator[Index]:
    with Index(MemoryStore(keywords=True), Blind()) as index:
        index.ingest(codes[1])
        yield index


def places(index: Index, codes: Iterable[str], queries: Iterable[str], mode: Mode) -> list[int]:
    """Return the rank of each code's record among the first ten, or 0."""
    found = index.search_many(queries, 10, mode=mode)
    return [
        next((place for place, match in enumerate(own, 1) if f"({code})" in match.text), 0)
        for code, own in zip(codes, found, strict=True)
    ]


def first(found: list[int]) -> float:
    return found.count(1) / len(found)


def mrr(found: list[int]) -> float:
    return sum(1 / place for place in found if place) / len(found)


def test_identifiers(index: Index, codes: tuple[list[str], list[Record]]) -> None:
    """Their record comes first, before near misses, alone and in a sentence."""
    wanted, _ = codes
    assert first(places(index, wanted, wanted, "keyword")) >= 0.95
    asked = [ASKED[number % len(ASKED)].format(code) for number, code in enumerate(wanted)]
    assert first(places(index, wanted, asked, "keyword")) >= 0.95


def test_identifiers_in_other_spellings(index: Index, codes: tuple[list[str], list[Record]]) -> None:
    wanted, _ = codes
    for number, otherwise in enumerate(OTHERWISE):
        assert first(places(index, wanted, map(otherwise, wanted), "keyword")) >= 0.8, number


def test_identifiers_in_hybrid_search_with_random_vectors(index: Index, codes: tuple[list[str], list[Record]]) -> None:
    wanted, _ = codes
    asked = [ASKED[number % len(ASKED)].format(code) for number, code in enumerate(wanted)]
    assert mrr(places(index, wanted, asked, "dense")) < 0.15
    assert mrr(places(index, wanted, asked, "hybrid")) >= 0.85
    assert mrr(places(index, wanted, wanted, "hybrid")) >= 0.85


# A word of a sentence, and the sentence; the others of the same script have other words.
SCRIPTS: dict[str, list[tuple[str, str]]] = {
    "Latin": [
        ("Zürichsee", "Das Boot liegt am Zürichsee, und der Wind weht."),
        ("crème", "La crème est dans le pot."),
        ("boot", "Das Boot fährt."),
    ],
    "Cyrillic": [("ёлка", "В доме стоит ёлка."), ("Ветер", "Сильный ветер дует с моря.")],
    "Greek": [("θάλασσα", "Η θάλασσα είναι ήρεμη."), ("άνεμος", "Ο άνεμος φυσά δυνατά.")],
    "Arabic": [("مُدَرِّسَة", "هذه مُدَرِّسَة جديدة"), ("البحر", "البحر هادئ اليوم")],
    "Hebrew": [("שָׁלוֹם", "אמר לו שָׁלוֹם והלך"), ("הים", "הים שקט היום")],
    "Devanagari": [("हिन्दी", "वह हिन्दी पढ़ता है"), ("हिन्दु", "वह हिन्दु धर्म है"), ("समुद्र", "समुद्र शांत है")],
    "Thai": [("ภาษาไทย", "เขาพูดภาษาไทยได้ดี"), ("ทะเล", "วันนี้ทะเลสงบมาก")],
    "Khmer": [("ភាសាខ្មែរ", "គាត់និយាយភាសាខ្មែរបានល្អ"), ("សមុទ្រ", "ថ្ងៃនេះសមុទ្រស្ងប់ស្ងាត់")],
    "Han": [("東京都庁", "昨日東京都庁為新宿"), ("京東", "他在京東工作很久了"), ("北京", "我住在北京的城市")],
    "Kana": [("カタカナ", "これはカタカナです"), ("ひらがな", "それはひらがなだ"), ("猫", "白い猫がいる")],
    "Hangul": [("한국어", "그는 한국어를 배운다"), ("바다", "오늘 바다는 잔잔하다")],
    "Georgian": [("თბილისი", "ქალაქი თბილისი დიდია"), ("ზღვა", "დღეს ზღვა წყნარია")],
}
ACCENTLESS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Index]:
    """Return an index of all sentences."""
    texts = [text for sentences in SCRIPTS.values() for _, text in sentences]
    with Index(MemoryStore(keywords=True), Blind()) as index:
        index.ingest(Record(text, text) for text in texts)
        yield index


def without_marks(word: str) -> str:
    return "".join(each for each in unicodedata.normalize("NFD", word) if unicodedata.category(each) != "Mn")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_word_finds_its_sentence(scripts: Index, script: str) -> None:
    """A word finds its sentence in each script, in any spelling."""
    for word, sentence in SCRIPTS[script]:
        written = {word, word.upper(), word.lower(), unicodedata.normalize("NFD", word)}
        if script in ACCENTLESS:
            written.add(without_marks(word))
        for query in sorted(written):
            found = scripts.search(query, mode="keyword")
            assert found, query
            assert found[0].text == sentence, query


def test_half_width_forms(scripts: Index) -> None:
    assert scripts.search("ｶﾀｶﾅ", mode="keyword")[0].text == "これはカタカナです"
    assert scripts.search("ＢＯＯＴ", 2, mode="keyword")[0].text == "Das Boot fährt."


def test_another_form_of_a_word(scripts: Index) -> None:
    """Other inflections share the beginning of the word."""
    assert scripts.search("Zürichseen", mode="keyword")[0].text == SCRIPTS["Latin"][0][1]
