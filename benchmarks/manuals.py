"""Manuals from Debian's packages with queries that people wrote for them, and generated codes.

Index entries of LibreOffice's help name the pages that they lead to. Each question of Perl's and Python's FAQs has an
answer, from which the question was removed. Each code occurs in one passage, and three codes that differ from it in
one character occur in others.
"""

from __future__ import annotations

import random
import re
import string
import subprocess
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from semantic_text_splitter import TextSplitter

_ENGLISH = "en-us"
LANGUAGES = (_ENGLISH, "de", "fr", "fi", "hu", "ru", "hi", "ja", "ko", "zh-cn", "km")
PACKAGES = (*(f"libreoffice-help-{language}" for language in LANGUAGES), "perl-doc", "python3.11-doc")
_SHORTER = {"ja": 450, "ko": 450, "zh-cn": 450}  # characters of a chunk; they carry more meaning there
_CHUNK = 900


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a page."""

    page: str
    text: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query, and the pages that answer it. Similar queries share a `group`."""

    text: str
    pages: frozenset[str]
    group: str


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages, and queries about them."""

    name: str
    passages: Sequence[Passage]
    queries: Sequence[Query]


def fewer(collection: Collection, passages: int, seed: int) -> Collection:
    """Return about so many passages, those of answers first, and the queries whose pages are all included."""
    chance = random.Random(seed)
    pages = {page for query in collection.queries for page in query.pages}
    order = sorted({each.page for each in collection.passages})
    chance.shuffle(order)
    order.sort(key=lambda page: page not in pages)
    sizes = Counter(each.page for each in collection.passages)
    kept: set[str] = set()
    number = 0
    for page in order:
        if number < passages:
            kept.add(page)
            number += sizes[page]
    return Collection(
        collection.name,
        [each for each in collection.passages if each.page in kept],
        [each for each in collection.queries if each.pages <= kept],
    )


def fetch(corpus: Path, packages: Sequence[str] = PACKAGES, marker: str = "fetched") -> None:
    """Unpack packages into a folder, unless its marker exists."""
    if (corpus / marker).exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=folder, check=True, stderr=subprocess.DEVNULL)
        for package in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(corpus)], check=True)
    (corpus / marker).touch()


def chunks(page: str, text: str, size: int = _CHUNK) -> Iterator[Passage]:
    """Cut a page into passages."""
    return (Passage(page, chunk) for chunk in TextSplitter(size).chunks(text))


# -- index entries


def index_entries(corpus: Path, language: str, most: int, seed: int, most_of_page: int = 3) -> Collection:
    """Return the help in a language, and some of its index entries, at most `most_of_page` per page.

    Entries that are not translated (equal to those of the English help) are left out.
    """
    english = (
        set()
        if language == _ENGLISH
        else {each.text for each in index_entries(corpus, _ENGLISH, 10**6, 0, 10**6).queries}
    )
    [folder] = (
        each
        for each in (corpus / "usr/share/libreoffice/help").iterdir()
        if each.name.lower() == language and (each / "text").exists()
    )
    passages: list[Passage] = []
    entries: dict[str, set[str]] = {}
    for file in sorted((folder / "text").rglob("*.html")):
        html = file.read_text(encoding="utf-8").partition('<div id="DisplayArea"')[2]
        page = file.relative_to(folder / "text").as_posix()
        own = [*chunks(page, _said(html), _SHORTER.get(language, _CHUNK))]
        passages += own
        for entry in re.findall(r'<meta itemprop="keywords" content="([^"]*)"', html) if own else ():
            entries.setdefault(" ".join(unescape(entry).replace(",", " ").split()), set()).add(page)
    chance = random.Random(seed)
    order = sorted(entry for entry in entries if entry and entry not in english)
    chance.shuffle(order)
    taken: dict[str, int] = {}
    queries: list[Query] = []
    for entry in order:
        first = min(entries[entry])
        taken[first] = taken.get(first, 0) + 1
        if taken[first] <= most_of_page and len(queries) < most:
            queries.append(Query(entry, frozenset(entries[entry]), first))
    return Collection(f"index entries, {language}", passages, queries)


def _said(html: str) -> str:
    """Return the text of a page, one line per paragraph."""
    html = re.sub(r"(?s)<(script|style|footer)\b.*?</\1>|<!--.*?-->", " ", html)
    html = re.sub(r"</(p|h\d|li|td|th|pre|div)>|<br>", "\n", html)
    lines = (" ".join(line.split()) for line in unescape(re.sub(r"<[^>]*>", "", f"<{html}")).splitlines())
    return "\n".join(line for line in lines if line)


# -- questions


def questions(corpus: Path) -> Collection:
    """Return Perl's and Python's manuals, and the questions of their FAQs."""
    passages: list[Passage] = []
    queries: list[Query] = []
    perl = sorted((corpus / "usr/share/perl").rglob("pod/*.pod"))
    python = sorted((corpus / "usr/share/doc/python3.11/html/_sources").rglob("*.rst.txt"))
    kept = ("faq", "howto", "tutorial", "reference", "using", "extending")
    for file in [*perl, *(each for each in python if each.parent.name in kept)]:
        if re.match(r"perl5\d+delta|perlfaq\.pod|index", file.name):
            continue
        parts = _of_pod(file) if file.suffix == ".pod" else _of_rst(file)
        for number, (heading, text) in enumerate(parts):
            page = f"{file.parent.name}/{file.name}#{number}"
            own = [*chunks(page, text if heading.endswith("?") else f"{heading}\n{text}")]
            passages += own
            if heading.endswith("?") and own:
                queries.append(Query(heading, frozenset([page]), page))
    return Collection("questions", passages, queries)


def _of_pod(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the headings of one of Perl's pages, each with the text below it."""
    text = file.read_text(encoding="utf-8", errors="replace")
    for part in re.split(r"(?m)^=head\d +", text)[1:]:
        heading, _, below = part.partition("\n\n")
        yield _plain_pod(heading), _plain_pod(re.sub(r"(?m)^=\w+ ?", "", below))


def _plain_pod(text: str) -> str:
    for _ in range(3):  # they are nested
        text = re.sub(r"[BCEFILSXZ]<([^<>]*)>", r"\1", text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()


def _of_rst(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the headings of one of Python's pages, each with the text below it."""
    text = re.sub(r":\w+:`([^`<]*)[^`]*`", r"\1", file.read_text(encoding="utf-8"))
    parts = re.split(r"(?m)^(\S.*)\n(?:[-=~^*\"]{4,})\n", text)
    for heading, below in zip(parts[1::2], parts[2::2], strict=True):
        yield heading.replace("`", "").strip(), below.strip()


# -- codes

_Make = Callable[[random.Random], str]


def _some(chance: random.Random, letters: str, number: int) -> str:
    return "".join(chance.choices(letters, k=number))


KINDS: dict[str, _Make] = {
    "ERR_CONN_1042": lambda chance: f"ERR_{_some(chance, string.ascii_uppercase, 4)}_{chance.randint(1000, 9999)}",
    "KB5034441": lambda chance: f"KB{chance.randint(5_000_000, 5_099_999)}",
    "AB-1234/5": lambda chance: (
        f"{_some(chance, string.ascii_uppercase, 2)}-{chance.randint(1000, 9999)}/{chance.randint(1, 9)}"
    ),
    "0x80070005": lambda chance: f"0x{chance.randint(0x80000000, 0x8FFFFFFF):08X}",
    "v1.23.4": lambda chance: f"v{chance.randint(1, 9)}.{chance.randint(10, 99)}.{chance.randint(0, 9)}",
    "a UUID": lambda chance: str(uuid.UUID(int=chance.getrandbits(128), version=4)),
    "ORA-00942": lambda chance: f"ORA-{chance.randint(1, 29_999):05}",
    "an address": lambda chance: (
        f"{_some(chance, string.ascii_lowercase, 6)}{chance.randint(10, 99)}@{_some(chance, 'abcdefgh', 5)}.example"
    ),
    "a double name": lambda chance: "-".join(
        "".join(_some(chance, "bdfgklmnprst", 1) + _some(chance, "aeiou", 1) for _ in range(3)).title() for _ in "ab"
    ),
}
_PUT = (
    "The log says {code} at that point.",
    "See {code} for the details.",
    "This was reported as {code} and closed.",
    "{code} applies here.",
    "Ask for {code} by name.",
)
_ASKED = (
    "what does {code} mean",
    "how can I get rid of {code} on my machine",
    "is there anything known about {code}?",
    "please explain {code}, and what to do next",
    "we saw {code} again after the last update",
)


def codes(passages: Sequence[Passage], number: int, seed: int) -> tuple[Sequence[Passage], dict[str, list[Query]]]:
    """Return passages with codes in them, and queries for these: alone, in a sentence, and spelled differently."""
    chance = random.Random(seed)
    made: dict[str, str] = {}  # with the kind of each
    own: list[tuple[str, str]] = []
    while len(own) < number:
        kind = [*KINDS][len(own) % len(KINDS)]
        code = KINDS[kind](chance)
        near = [_mistyped(code, chance) for _ in range(3)]
        if len({code, *near, *made}) == len(made) + 4:
            made |= dict.fromkeys([code, *near], kind)
            own.append((code, kind))
    places = dict(zip(chance.sample(range(len(passages)), len(made)), made, strict=True))
    kept = [
        Passage(f"of {places[at]}", f"{each.text}\n{chance.choice(_PUT).format(code=places[at])}")
        if at in places
        else each
        for at, each in enumerate(passages)
    ]
    asked: dict[str, list[Query]] = {"alone": [], "in a sentence": [], "written otherwise": []}
    for code, kind in own:
        right = frozenset([f"of {code}"])
        asked["alone"].append(Query(code, right, kind))
        asked["in a sentence"].append(Query(chance.choice(_ASKED).format(code=code), right, kind))
        asked["written otherwise"].append(Query(_otherwise(code, chance), right, kind))
    return kept, asked


def _mistyped(code: str, chance: random.Random) -> str:
    """Return the code with one letter or digit changed; the first two stay, because they often identify the kind."""
    at = chance.choice([at for at, letter in enumerate(code) if letter.isalnum() and at > 1])
    like = next(each for each in (string.digits, string.ascii_lowercase, string.ascii_uppercase) if code[at] in each)
    return code[:at] + chance.choice(like.replace(code[at], "")) + code[at + 1 :]


def _otherwise(code: str, chance: random.Random) -> str:
    """Return the code in another case, or with other separators or none; a point between digits stays."""
    while True:
        case = chance.choice([str.lower, str.upper, str.title])
        joint = chance.choice(["-", " ", "_", ""])
        other = re.sub(r"(?<=\d)[-_](?=\D)|(?<=\D)[-_](?=\w)|(?<=[A-Za-z])(?=\d{4})", joint, case(code))
        if other != code:
            return other
