"""Debian's manual pages in four languages: the description of a page is a question, and the rest its answer."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path

from manuals import fetch

from harrier_core import Record
from harrier_core.evaluation import Judgements, Question

_PACKAGES = ("manpages", "manpages-dev", "coreutils", "manpages-de", "manpages-fr", "manpages-es")
_PAGES = Path("usr/share/man")
_LANGUAGES = ("de", "es", "fr")  # English pages are in folders without a language
_SIZE = 4_000  # characters of a page; the rest is left out
_LEAST = 200  # characters: a shorter page only points to another one

_NAMED = re.compile(r"^(?:\S+(?:, | , | |,))*?\S+ +(?:\\-|\\\(en|\\\(em|-|–|—) *(.*)", re.DOTALL)
_DROPPED = re.compile(
    r"^[.']\\\"|^\.(?:TH|PP|P|LP|TP|IP|RS|RE|nf|fi|EX|EE|sp|br|ad|hy|nh|ne|in|ta|TS|TE|ft|ps|de|\.|if|ie|el|so)\b"
)
_FONTS = re.compile(r"^\.(?:B|I|BI|BR|IB|IR|RB|RI|SM|SB|Nm|Op)\b ?")
_ESCAPES = re.compile(r"\\f(?:\[[^]]*\]|\(..|.)|\\[&,/|^)%:]|\\s[-+]?\d|\\\((?:..)|\\\*\(..|\\\*.")
_SIGNS = {
    "\\-": "-",
    "\\(aq": "'",
    "\\(dq": '"',
    "\\e": "\\",
    "\\ ": " ",
    "\\~": " ",
    "\\(en": "–",
    "\\(em": "—",
    "\\(bu": "•",
}


def pages(corpus: Path) -> tuple[list[Record], Judgements]:
    """Return the pages as records, and their descriptions as questions, grouped by page across languages."""
    fetch(corpus, _PACKAGES, "fetched manual pages")
    records: list[Record] = []
    asked: dict[tuple[str, str], list[str]] = {}  # language and description, to pages
    groups: dict[tuple[str, str], str] = {}
    for language, file in _files(corpus / _PAGES):
        description, text = _read(gzip.decompress(file.read_bytes()).decode("utf-8", errors="replace"))
        page = file.name.removesuffix(".gz")
        if len(text) < _LEAST or not description:
            continue
        records.append(
            Record(f"{language}/{page}", text[:_SIZE], {"lang": language, "section": page.rpartition(".")[2][:1]})
        )
        asked.setdefault((language, description), []).append(f"{language}/{page}")
        groups.setdefault((language, description), page)
    questions = (
        Question(
            f"{language}: {answers[0].partition('/')[2]}",
            description,
            dict.fromkeys(answers, 1),
            group=groups[language, description],
            metadata={"lang": language},
        )
        for (language, description), answers in asked.items()
    )
    return records, Judgements(questions, "manual pages")


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for language, top in (("en", folder), *((each, folder / each) for each in _LANGUAGES)):
        for section in sorted(top.glob("man[1-8]")):
            for file in sorted(section.glob("*.gz")):
                if not file.is_symlink():
                    yield language, file


def _read(source: str) -> tuple[str, str]:
    """Return the description of a page, and the rest of the page, including its names."""
    parts = re.split(r"(?m)^\.SH +", source)
    if len(parts) < 3:
        return "", ""
    named = " ".join(_plain(parts[1].partition("\n")[2]).split())
    found = _NAMED.match(named)
    return (found[1].strip() if found else ""), "\n\n".join(_plain(part) for part in parts[2:])


def _plain(source: str) -> str:
    """Return the text of a page's source, without macros and fonts."""
    lines = []
    for line in source.splitlines():
        if _DROPPED.match(line):
            continue
        plain = _FONTS.sub("", line)
        plain = plain.replace('"', "") if plain != line else plain
        plain = re.sub(r"^\.\S+ ?", "", plain)
        for sign, said in _SIGNS.items():
            plain = plain.replace(sign, said)
        if plain := _ESCAPES.sub("", plain).strip():
            lines.append(plain)
    return "\n".join(lines)
