"""Matches in readable form: an entry for each record, the sentences that match best, the query's words marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from harrier_cli.locating import heading_of, part_of, path_of
from harrier_cli.marking import Query, Weights, best_part, found_in, merged
from harrier_cli.output import Screen, shown
from harrier_core import Match

_INDENT = 4
_LINES = 3  # on a terminal, taken by an entry's sentences
_PIPED = 300  # characters of sentences if there is no terminal
_LISTED = 4  # locations of a record's other chunks
_LEAST_ROOM = 20

_PATH, _PLACE, _SCORE, _HEADING, _MARK = "bold magenta", "green", "dim", "italic", "bold red"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record that was found: its best chunk, and the others that were found."""

    best: Match
    others: Sequence[Match] = ()


def entries_of(matches: Sequence[Match]) -> list[Entry]:
    """Return an entry for each record, in the order of the best chunks."""
    by_record: dict[str, list[Match]] = {}
    for match in matches:
        by_record.setdefault(match.record_id, []).append(match)
    return [Entry(found[0], found[1:]) for found in by_record.values()]


def show(screen: Screen, question: str, entries: Sequence[Entry], *, whole: bool) -> None:
    """Print entries. whole: print the whole text, including the chunks around it, not just the best sentences."""
    query = Query.of(question)
    weights = Weights.of(query, [entry.best.passage for entry in entries])
    for number, entry in enumerate(entries):
        if number:
            screen.line()
        screen.line(_head(entry.best))
        if heading := heading_of(entry.best.metadata):
            screen.line(Text(shown(heading), style=_HEADING), _INDENT)
        for line in _whole(entry.best) if whole else [_sentences(screen, entry.best, query, weights)]:
            screen.line(_marked(line, query, weights), _INDENT)
        if entry.others:
            screen.line(Text(_more(entry), style="dim"), _INDENT)


def _head(match: Match) -> Text:
    part = part_of(match)
    head = Text().append(shown(path_of(match.record_id, match.metadata)), style=_PATH)
    if part:
        head.append(part if part.startswith(":") else f"  {part}", style=_PLACE)
    return head.append(f"  {match.score:.2f}", style=_SCORE)


def _more(entry: Entry) -> str:
    """Return how many other chunks of the record were found, and where the first of them are."""
    parts = [part_of(each).removeprefix(":") or "chunk 0" for each in entry.others]
    label = "line " if part_of(entry.others[0]).startswith(":") else ""
    places = ", ".join(dict.fromkeys(f"{label}{part}" for part in parts[:_LISTED]))
    return f"+ {len(entry.others):,} more in it: {places}{', …' if len(parts) > _LISTED else ''}"


def _whole(match: Match) -> list[str]:
    return [shown(line.expandtabs(4)) for line in match.passage.strip("\n").splitlines()]


def _sentences(screen: Screen, match: Match, query: Query, weights: Weights) -> str:
    """Return the sentences of a chunk that match best; on a terminal at most as much as fits into three lines."""
    text = match.text
    room = max(_LEAST_ROOM, screen.width - _INDENT) * _LINES if screen.wraps else _PIPED
    begin, end = best_part(text, query, weights, room)
    line = " ".join(shown(text[begin:end]).split())
    # A line that breaks between words is not full.
    return _cut(line, query, room - _LINES * 4) if screen.wraps else line


def _cut(line: str, query: Query, room: int) -> str:
    """Return what fits into the given number of cells, around the first word of the query."""
    if cell_len(line) <= room:
        return line
    first = next((each.begin for each in found_in(line, query)), 0)
    begin = 0
    if cell_len(line[: first + 1]) > room * 2 // 3:
        begin = max(0, first - room // 4)
        begin = line.find(" ", begin, first) + 1 or begin
    end, cells = begin, 1 if begin else 0
    while end < len(line) and cells + cell_len(line[end]) < room:
        cells += cell_len(line[end])
        end += 1
    if end < len(line) and (blank := line.rfind(" ", max(begin, end - 15), end)) > begin:
        end = blank
    return f"{'…' if begin else ''}{line[begin:end].rstrip()}{'…' if end < len(line) else ''}"


def _marked(line: str, query: Query, weights: Weights) -> Text:
    text = Text(line)
    for begin, end in merged((each.begin, each.end) for each in weights.telling(found_in(line, query))):
        text.stylize(_MARK, begin, end)
    return text
