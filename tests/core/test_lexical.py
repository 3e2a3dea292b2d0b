"""Terms of words in any script: equal for spelling variants, and different for different words."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harrier_core.lexical import (
    _IDS,
    _TERMS,
    Terms,
    _Remembered,
    _spelled,
    document_terms,
    has_code,
    has_code_of,
    query_terms,
    term_id,
)


def spelled(text: str) -> set[str]:
    return {term for token in text.split() for term in _spelled(token)[0]}


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Bread rises", {"bread", "rises"}),
        ("ERR_CONN_1042", {"err", "conn", "1042", "errconn1042"}),
        ("512GB", {"512gb", "512", "gb"}),
        ("v1.23.4", {"v1", "v", "1", "23", "4", "v1.23.4"}),
        ("internationally", {"internationally", "inter*"}),
        ("1234567", {"1234567"}),
        ("l'eau", {"l", "eau", "leau"}),
        ("Straße", {"strasse", "stras*"}),
        ("CAFÉ", {"cafe"}),
        ("Ёлка", {"елка"}),
        ("ΆΛΦΑ", {"αλφα"}),
        ("مُدَرِّسَة", {"مدرسه"}),
        ("ســلام", {"سلام"}),
        ("שָׁלוֹם", {"שלום"}),
        ("हिन्दी", {"हिन्दी"}),
        ("東京都", {"東京", "京都"}),
        ("鮨", {"鮨"}),
        ("カタカナ", {"カタ", "タカ", "カナ"}),
        ("ｶﾞｽ", {"ガス"}),
        ("한국어", {"한국", "국어"}),
        ("ภาษา", {"ภา", "าษ", "ษา"}),
        ("น้ำ", {unicodedata.normalize("NFKC", "น้ำ")}),
        ("東京2020", {"東京", "2020"}),
        ("GPT-4のAPI", {"gpt", "4", "の", "api"}),
        ("猫が好き", {"猫が", "が好", "好き", "猫", "好"}),
        ("葛\U000e0100飾", {"葛飾"}),
        ("(Bread),", {"bread"}),
        ("don’t", {"don", "t", "dont"}),
        ("Sili\u00adcon", {"sili", "con", "silicon"}),
        ("---", set()),
        ("", set()),
        ("①", {"1"}),
        ("ﬁle", {"file"}),
    ],
)
def test_terms_of(text: str, terms: set[str]) -> None:
    assert spelled(text) == terms


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KB5034441", "kb 5034441"),
        ("err-conn-1042", "ERR_CONN_1042"),
        ("résumé", "RESUME"),
        ("naïve", unicodedata.normalize("NFD", "naïve")),
        ("ＦＵＬＬ", "full"),
    ],
)
def test_spelling_variants(one: str, other: str) -> None:
    """All terms of the shorter form occur in the other form."""
    assert min(spelled(one), spelled(other), key=len) <= max(spelled(one), spelled(other), key=len)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ısparta", "Isparta"),
        ("IŞIK", "ışık"),
        ("İstanbul", "istanbul"),
        ("Łódź", "Lodz"),
        ("KØBENHAVN", "Kobenhavn"),
        ("đường", "duong"),
        ("Ħamrun", "hamrun"),
        ("ŒUVRE", "oeuvre"),
        ("Æble", "aeble"),
        ("ǽ", "ae"),
        ("کتاب", "كتاب"),
        ("یک", "يك"),
        ("على", "علي"),
        ("مدرسة", "مدرسه"),
        ("پاکستان میں ہے", "پاكستان ميں هے"),
        ("خانۀ", "خانه"),
        ("١٢٣٤٥", "12345"),
        ("KB۵۰۳۴۴۴۱", "KB5034441"),
        ("१२३४५", "12345"),
        ("ปี๒๕๖๓", "ปี2563"),
        ("𝟙𝟚", "12"),
    ],
)
def test_letters_that_users_type_differently(one: str, other: str) -> None:
    """Letters that one keyboard has and another lacks, or that change with the case, are one; and so are digits."""
    assert spelled(one) == spelled(other)
    assert spelled(one.upper()) == spelled(one.lower()) == spelled(one)
    assert has_code(one) == has_code(other)


@pytest.mark.parametrize(
    ("one", "other"), [("ہے", "ہی"), ("بھ", "به"), ("ґрати", "грати"), ("þing", "thing"), ("७", "७०")]
)
def test_different_letters_stay_different(one: str, other: str) -> None:
    assert spelled(one) != spelled(other)


@pytest.mark.parametrize(
    ("one", "other"), [("1.23", "12.3"), ("KB5034441", "KB5034442"), ("ORA-00942", "ORA-00943"), ("v1.2.3", "v12.3")]
)
def test_near_misses_differ(one: str, other: str) -> None:
    """Each has a term of more than one character that the other lacks."""
    assert any(len(term) > 1 for term in spelled(one) - spelled(other))
    assert any(len(term) > 1 for term in spelled(other) - spelled(one))


def test_ids_equal_those_of_other_clients() -> None:
    """Ids are absolute values of MurmurHash3, as computed by `mmh3.hash`."""
    known = {"": 0, "hello": 613_153_351, "foo": 156_908_512}  # of which mmh3's is negative
    assert {term: term_id(term) for term in known} == known


@given(text=st.text())
def test_any_text(text: str) -> None:
    """Ids ascend, fit 31 bits, and do not depend on Unicode composition."""
    found = document_terms(text)
    assert list(found.ids) == sorted(set(found.ids))
    assert all(0 <= term < 2**31 for term in found.ids)
    assert all(0 < weight < 2.2 for weight in found.weights)
    assert query_terms(text).ids == found.ids
    assert isinstance(has_code(text), bool)


WIDE = "abcdefghijklmnopqrstuvwxyz"
WORDS = st.text("abcdefgäöüé", min_size=1, max_size=9)


@given(words=st.lists(WORDS, min_size=1))
def test_case_accents_and_order_change_nothing(words: list[str]) -> None:
    before = document_terms(" ".join(words))
    assert document_terms(" ".join(reversed(words)).upper()) == before
    assert document_terms(unicodedata.normalize("NFD", " \n".join(words))) == before


def test_weights_are_those_of_bm25() -> None:
    """Weights grow with frequency, fall with text length, and equal BM25 at the average length."""
    text = " ".join(["bread", "bread", *(f"w{number}" for number in range(254))])
    weights = dict(zip(document_terms(text).ids, document_terms(text).weights, strict=True))
    assert weights[term_id("bread")] == pytest.approx(2 * 2.2 / (2 + 1.2))
    short, long = document_terms("bread rises"), document_terms("bread rises " + "and " * 500)
    place = short.ids.index(term_id("bread"))
    assert short.weights[place] > long.weights[long.ids.index(term_id("bread"))]


def test_codes_weigh_more_in_a_query() -> None:
    found = query_terms("restart ERR_CONN_1042 now")
    weights = dict(zip(found.ids, found.weights, strict=True))
    assert weights[term_id("errconn1042")] == weights[term_id("1042")] == 2
    assert weights[term_id("restart")] == weights[term_id("resta*")] == 1


def test_a_query_of_any_length() -> None:
    """It has at most some hundreds of terms, with those of codes first."""
    found = query_terms(" ".join(f"word{letter}{other}" for letter in WIDE for other in WIDE) + " KB5034441")
    assert len(found.ids) == 256
    assert term_id("kb5034441") in found.ids
    assert list(found.ids) == sorted(found.ids)


def test_a_very_long_query() -> None:
    """What is beyond its first 32,768 letters is not read: a megabyte would take seconds."""
    found = query_terms("KB5034441 " + "word " * 6_000 + "KB5034442 " + "word " * 6_000 + "KB5034443")
    assert term_id("kb5034441") in found.ids
    assert term_id("kb5034442") in found.ids
    assert term_id("kb5034443") not in found.ids
    assert query_terms("東" * 40_000 + "京").ids == query_terms("東東").ids
    assert query_terms(" " * 40_000 + "bread") == query_terms("bread")


def test_unlimited_combining_marks() -> None:
    """A letter keeps thirty marks, so that no text takes minutes."""
    marks = "\u0301\u0316"
    assert spelled(f"क{marks * 20}ख") == spelled(f"क{marks * 15}ख") != spelled(f"क{marks * 14}ख")
    assert spelled("\u0301" * 40 + "a") == {"a"}
    assert len(document_terms(f"a{marks * 200_000}").ids) == 1  # half a minute and more, were they brought into order


def test_only_short_tokens_and_terms_are_remembered() -> None:
    """The caches have a limited size."""
    document_terms("x" * 1000 + " y1-" * 9 + "z" * 40)
    assert max(map(len, [*_TERMS, *_IDS])) <= 32
    remembered = _Remembered(len)
    for number in range(70_000):
        assert remembered[str(number)] == len(str(number))
    assert 0 < len(remembered) <= 65_536


def test_texts_without_words() -> None:
    assert not document_terms("--- …")
    assert query_terms("") == Terms()


@pytest.mark.parametrize(
    "text",
    [
        *("what is KB5034441", "v1.2.3", "error 10042", "AB-1234/5", "0x80070005", "ISO-8859", "ｋｂ５０３４４４１"),
        *("512GB", "R1C1", "UTF-8", "ДНЕЙ360", "2024-01-15", "KB5034441とは", "PostgreSQL 13.4", "a52-1", "1042ab"),
    ],
)
def test_codes(text: str) -> None:
    assert has_code(text)


@pytest.mark.parametrize(
    "text",
    [
        *("how do vaccines work", "in 1984", "", "5 apples", "well-known fact", "word " * 40 + "x1y"),
        *(
            "the 20th century",
            "1990s music",
            "3D charts",
            "a 30-day trial",
            "open 24/7",
            "10:30 am",
            "2019-2020",
            "5kg",
        ),
        *("2020年の東京", "第3章", "2의 제곱", "ปี2563", "$1,000", "a[1]", "16-ричные цвета"),
    ],
)
def test_no_codes(text: str) -> None:
    assert not has_code(text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("what is KB5034441", "Install KB5034441."),
        ("what is KB5034441", "Install KB 5034441."),
        ("kb 5034441", "Install KB5034441."),
        ("ERR_CONN_1042", "ERR CONN 1042"),
        ("error=0x80070005", "0X80070005 was returned"),
        ("on 2024-01-15", "written on 15.01.2024"),
        ("CVE-2024-12345 or KB5034441?", "KB5034441 repairs it."),
        ("an SSD of 512GB", "512 GB"),
        ("PostgreSQL 13.4", "PostgreSQL 13.4 was released"),
        ("ask abcdef42@abc.org", "mailto:abcdef42@abc.org"),
        ("KB۵۰۳۴۴۴۱", "KB5034441"),
        ("UTF-8", "encoded as utf8"),
    ],
)
def test_a_code_in_a_text(query: str, text: str) -> None:
    assert has_code_of(query, text)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("is there a fix for CVE-2024-12345", "CVE-2024-99999 was fixed last week"),
        ("is there a fix for CVE-2024-12345", "The annual report of 2024"),
        ("invoice INV-2024-00017", "invoice INV-2024-00018"),
        ("what happened on 2024-01-15", "report of 2024"),
        ("ISO-27001-2022", "ISO-9001-2022"),
        ("order 4711-0815-1234", "order 9999-0815-5678"),
        ("AB-1234/5", "AB-1234/6"),
        ("UTF-8", "8 letters of UTF"),
        ("v1.2.3", "v1.2.4 and 3"),
        ("in 1984", "in 1984"),
        ("KB5034441", ""),
        ("word " * 40 + "KB5034441", "KB5034441"),
    ],
)
def test_no_code_in_a_text(query: str, text: str) -> None:
    """A text does not have a code of which it has only parts, such as the year; nor does a query without a code."""
    assert not has_code_of(query, text)
