"""Highlighting of a query's words in many scripts, and selection of the best sentences."""

from __future__ import annotations

import pytest
from harrier_cli.marking import Query, Weights, best_part, found_in, merged, sentences
from hypothesis import given
from hypothesis import strategies as st


def marked(text: str, query: str) -> list[str]:
    found = found_in(text, Query.of(query))
    return [text[begin:end] for begin, end in merged((each.begin, each.end) for each in found)]


@pytest.mark.parametrize(
    ("text", "query", "parts"),
    [
        ("Vaccines train the body. A VACCINE!", "vaccine", ["Vaccines", "VACCINE"]),
        ("Le résumé, la RESUME", "Résumé", ["résumé", "RESUME"]),
        ("re\u0301sume\u0301", "resume", ["re\u0301sume\u0301"]),  # combining marks
        ("Straße und STRASSE", "strasse", ["Straße", "STRASSE"]),
        ("the art of startling", "art", ["art"]),  # a whole word
        ("carts and cars", "car", []),  # short words have no forms
        ("東京の天気は晴れ", "天気", ["天気"]),
        ("今日の京都", "東京都", ["京都"]),  # a pair of its characters
        ("酵母は砂糖を", "酵", ["酵"]),
        ("ガスとカス", "ガス", ["ガス"]),  # voiced kana are other letters
        ("आज का मौसम", "मौसम", ["मौसम"]),
        ("Привет, мир", "привет", ["Привет"]),
        ("what is it", "is it", ["is", "it"]),  # there are no longer ones
        ("the bread is here", "is the bread", ["the", "bread"]),
        ("", "bread", []),
        ("bread", "?!", []),
        ("a vaccination of children", "vaccine", ["vaccination"]),  # by its beginning, as search by word finds it
        ("see KB5034441 and KB5034442", "5034441", ["KB5034441"]),
        ("see KB 5034441", "KB5034441", ["5034441"]),
        ("ERR_CONN_1042, err-conn-1043", "err conn-1042", ["ERR_CONN_1042", "err-conn-1043"]),
        ("ERR_CONN_1042 and 1043", "err_conn_1042", ["ERR_CONN_1042"]),
        ("v1.2.3, but 2 of 3", "v1.2.3", ["v1.2.3"]),
        ("(AB-1234).", "ab1234", ["AB-1234"]),
    ],
)
def test_matching_words(text: str, query: str, parts: list[str]) -> None:
    """Case, accents and endings are ignored; scripts without spaces match by pairs."""
    assert marked(text, query) == parts


@given(st.text(max_size=60), st.text(max_size=20))
def test_parts_of_any_text_are_within_it(text: str, query: str) -> None:
    """Parts are non-empty pieces of the text in order, whatever case folding does."""
    for each in found_in(text, Query.of(query)):
        assert 0 <= each.begin < each.end <= len(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Version 2.5 is out.\nA line\n\n- an item", ["Version 2.5 is out.", "A line", "- an item"]),
        ("一つ。二つ。", ["一つ。", "二つ。"]),
        ('He said "No." Then he went.', ['He said "No.', "Then he went."]),
        ("  \n ", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    """They end with a mark and a blank, an East Asian mark, or a line end."""
    assert [text[begin:end] for begin, end in sentences(text)] == parts


@given(st.text(max_size=200), st.integers(1, 100))
def test_the_best_part_is_a_part(text: str, room: int) -> None:
    """It is a part of any text for any query and width."""
    query = Query.of("a b")
    begin, end = best_part(text, query, Weights.of(query, [text]), room)
    assert 0 <= begin <= end <= len(text)


TEXT = "The day is long. Bread is old. Yeast turns sugar into gas. The night is short."


@pytest.mark.parametrize(
    ("question", "room", "part"),
    [
        ("what does yeast turn", 30, "Yeast turns sugar into gas."),
        ("what does yeast turn", 50, "Yeast turns sugar into gas. The night is short."),
        ("bread and sugar", 60, "Bread is old. Yeast turns sugar into gas."),
        ("nothing of that", 20, "The day is long."),
        ("gas", 5, "Yeast turns sugar into gas."),  # a sentence is not cut here
    ],
)
def test_the_best_part(question: str, room: int, part: str) -> None:
    """It has the most query words, or is the beginning if no part has any."""
    query = Query.of(question)
    begin, end = best_part(TEXT, query, Weights.of(query, [TEXT]), room)
    assert TEXT[begin:end] == part


def test_frequent_words_are_not_marked() -> None:
    """A word in most sentences is not marked, unless it is the only one."""
    text = " ".join(f"The number {number} is here." for number in range(9)) + " The yeast."
    query = Query.of("the yeast")
    weights = Weights.of(query, [text])
    assert {each.term for each in weights.telling(found_in(text, query))} == {"yeast"}
    query = Query.of("the")
    assert len(Weights.of(query, [text]).telling(found_in(text, query))) == 10
