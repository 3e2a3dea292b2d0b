"""Special tokens in texts are ordinary text, and declarations in the tokenizer's files are followed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from harrier_core import Encoder, ModelDamaged, ModelWarning
from harrier_core.models import open_model
from harrier_core.testing import ARCHITECTURES, build_model
from harrier_core.tokens import Tokens

SPELLINGS = {"qwen3": ["<|im_end|>", "<|endoftext|>", "<|im_start|>"], "gemma3": ["<eos>", "<bos>", "<pad>", "<mask>"]}
SPELLINGS["gemma3-sliding"] = SPELLINGS["gemma3"]

USABLE = st.text(st.characters(exclude_categories=["Cs"])).filter(
    lambda text: text.strip() and not any(spelling in text for each in SPELLINGS.values() for spelling in each)
)


def tokens_of(folder: Path) -> Tokens:
    return Tokens(open_model(str(folder)))


def rows_of(folder: Path, *texts: str, prompt: str = "") -> list[list[int]]:
    return tokens_of(folder).tokenize(texts, prompt, limit=1_000_000).rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spelled_special_tokens_are_text(built: Callable[..., Path], architecture: str) -> None:
    """The only special ids are those that the tokenizer puts around a text, and nothing is lost.

    The other ids equal those of transformers with `split_special_tokens`.
    """
    folder = built(architecture)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = {id_ for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    [plain] = rows_of(folder, "x")
    frame = [id_ for id_ in plain if id_ in special]
    splitting = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    for spelling in SPELLINGS[architecture]:
        for text in (spelling, f"before{spelling}after", spelling * 3, f" {spelling}\n"):
            for prompt in ("", f"Instruct: {spelling}\nQuery: "):
                [row] = rows_of(folder, text, prompt=prompt)
                assert row == splitting(prompt + text)["input_ids"]
                assert [id_ for id_ in row if id_ in special] == frame
                assert tokenizer.decode(row).strip() == (prompt + text).strip()


@pytest.mark.parametrize("architecture", ["qwen3", "gemma3"])
def test_a_spelled_end_does_not_end_a_text(built: Callable[..., Path], architecture: str) -> None:
    """Text after it still counts; a control shows the difference."""
    folder = built(architecture)
    end = SPELLINGS[architecture][0]
    [row] = rows_of(folder, f"a {end} b")
    assert row != AutoTokenizer.from_pretrained(folder)(f"a {end} b")["input_ids"]
    with Encoder(str(folder)) as encoder:
        vectors = encoder.encode_documents([f"a {end} b", "a  b", "a"])
    assert np.abs(vectors[0] - vectors[1:]).max(axis=1).min() > 1e-3


def spell_by_merges(folder: Path, spelling: str) -> None:
    """Add merges that lead from letters to a special token, as in a converted vocabulary."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    for end in range(1, len(spelling)):
        left, right = spelling[:end], spelling[end]
        for token in (left, right, left + right):
            vocabulary.setdefault(token, len(vocabulary))
        merges.insert(end - 1, [left, right])
    path.write_text(json.dumps(content), encoding="utf-8")


def test_merges_cannot_spell_a_special_token(tmp_path: Path, edit: Callable[..., None]) -> None:
    """No text gets the id, even if merges produce "<eos>"."""
    folder = build_model(tmp_path, "gemma3")
    spell_by_merges(folder, "<eos>")
    edit(folder / "config.json", vocab_size=5_000)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    end = tokenizer.token_to_id("<eos>")
    assert end in tokenizer.encode("a<eos>b", add_special_tokens=False).ids  # or this test would prove nothing
    for text in ("<eos>", "a<eos>b", "<eos><eos> <eos>", "\U0001f44d<eos>\U0001f44d"):
        [row] = rows_of(folder, text)
        assert row.index(end) == len(row) - 1
        assert tokenizer.decode(row) == text


@given(st.lists(USABLE, max_size=5))
def test_any_text_as_transformers(built: Callable[..., Path], texts: list[str]) -> None:
    """Ids equal the model's own tokenizer for any text without special tokens."""
    for architecture in ("qwen3", "gemma3"):
        folder = built(architecture)
        theirs = Tokenizer.from_file(str(folder / "tokenizer.json"))
        assert rows_of_cached(folder, texts) == [theirs.encode(text).ids for text in texts]


_loaded: dict[Path, Tokens] = {}


def cached(folder: Path) -> Tokens:
    if folder not in _loaded:
        _loaded[folder] = tokens_of(folder)
    return _loaded[folder]


def rows_of_cached(folder: Path, texts: list[str]) -> list[list[int]]:
    return cached(folder).tokenize(texts, "", limit=1_000_000).rows


def set_frame(folder: Path, single: str, *named: str) -> None:
    """Replace the tokens that the tokenizer puts around a text."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    special = [(name, tokenizer.token_to_id(name)) for name in named]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair="$A $B", special_tokens=special)
    tokenizer.save(str(folder / "tokenizer.json"))


def test_a_missing_end_token_is_added(tmp_path: Path) -> None:
    """If tokenizer_config.json declares an end token that tokenizer.json lacks, it is added with a warning."""
    folder = build_model(tmp_path, "gemma3")
    [whole] = rows_of(folder, "a b")
    set_frame(folder, "<bos> $A", "<bos>")
    with pytest.warns(
        ModelWarning, match="promises that texts end with '<eos>', but its tokenizer.json does not do so"
    ):
        assert rows_of(folder, "a b") == [whole]
    set_frame(folder, "$A")
    with pytest.warns(ModelWarning, match="promises that texts begin with '<bos>' and end with '<eos>'"):
        assert rows_of(folder, "a b") == [whole]


def test_a_tokenizer_without_an_end_token(tmp_path: Path, edit: Callable[..., None]) -> None:
    """The last token is the text's own, without a warning."""
    folder = build_model(tmp_path)
    set_frame(folder, "$A")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rows_of(folder, "x") == [[Tokenizer.from_file(str(folder / "tokenizer.json")).token_to_id("x")]]
    # An explicit no, and a promise of a token that has no name, are no promises either.
    edit(folder / "tokenizer_config.json", add_eos_token=False, add_bos_token=True)
    assert len(rows_of(folder, "x")[0]) == 1


def test_padding_and_truncation_saved_in_the_file_are_ignored(folder: Path) -> None:
    """tokenizer.json may contain both from its last use."""
    expected = rows_of(folder, "a long enough text", "x")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=8)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert rows_of(folder, "a long enough text", "x") == expected


def test_ids_beyond_the_weights_are_refused(folder: Path, edit: Callable[..., None]) -> None:
    """An id without a row in the embedding table is refused at load."""
    edit(folder / "config.json", vocab_size=700)
    with pytest.raises(ModelDamaged, match="gives ids up to [0-9]+, but config.json's vocab_size is 700"):
        tokens_of(folder)


def test_special_ids_may_lie_beyond_the_weights(tmp_path: Path, edit: Callable[..., None]) -> None:
    """Gemma 3's image token does, and no text can produce it."""
    folder = build_model(tmp_path, "gemma3")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    edit(folder / "config.json", vocab_size=tokenizer.get_vocab_size())
    tokenizer.add_special_tokens(["<image_soft_token>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    [row] = rows_of(folder, "<image_soft_token>")
    assert max(row) < tokenizer.get_vocab_size() - 1


PARTS = ["a", "word", " ", "  ", "\n", "\u00e9", "e\u0301", "\u0301", "\U0001f44d", "\u4e16", "1", "<eos>", "x" * 80]


@given(texts=st.lists(st.lists(st.sampled_from(PARTS), min_size=90, max_size=200).map("".join), max_size=3))
@pytest.mark.parametrize("architecture", ["qwen3", "gemma3"])
def test_long_texts_in_pieces(built: Callable[..., Path], architecture: str, texts: list[str]) -> None:
    """The ids, their number and a requested prefix equal those of tokenizing at once."""
    tokens = cached(built(architecture))
    whole = tokens.tokenize(texts, "", limit=1_000_000).rows
    with mock.patch.multiple("harrier_core.tokens", _PIECE=64, _RIGHT=24):
        assert tokens.tokenize(texts, "", limit=1_000_000).rows == whole
        assert tokens.count(texts, "") == list(map(len, whole))
        short = tokens.tokenize(texts, "", limit=30, truncate=True)
        problems = tokens.tokenize(texts, "", limit=30).problems
    assert short == tokens.tokenize(texts, "", limit=30, truncate=True)
    assert problems == tokens.tokenize(texts, "", limit=30).problems


MEASURED = """
import resource, sys
from harrier_core.models import open_model
from harrier_core.tokens import Tokens
tokens = Tokens(open_model(sys.argv[1]))
most = []
for size in (100_000, 4_000_000):
    text = ("some words, " * (size // 12 + 1))[:size]
    tokens.count([text], "")
    tokens.tokenize([text], "", 512)
    most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(*most)
"""


@pytest.mark.slow
def test_memory_for_a_long_text(folder: Path) -> None:
    """The tokenizer never gets all of a long text at once."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(folder)], check=True, capture_output=True, text=True, cwd=folder
    )
    short, long = map(int, done.stdout.split())
    assert long - short < 60, "MB more, for 4 MB of text"


def test_counting_includes_the_end(encoder: Encoder) -> None:
    """Texts of any length are counted as documents."""
    assert encoder.count_tokens(["x", "xyzzy" * 1_000, "x"])[::2] == [2, 2]
    assert encoder.count_tokens(["xyzzy" * 1_000])[0] > encoder.max_tokens
    assert encoder.count_tokens([]) == []


def test_a_damaged_tokenizer(folder: Path) -> None:
    """The error names a missing or invalid file."""
    path: Any = folder / "tokenizer.json"
    path.write_text('{"version": "1.0"}')
    with pytest.raises(ModelDamaged, match=r"tokenizer\.json cannot be read: .*; fetch the model again"):
        tokens_of(folder)
    path.unlink()
    with pytest.raises(ModelDamaged, match=r"lacks tokenizer\.json"):
        tokens_of(folder)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("text", ["why does bread rise", "Wörter, слова\n\tund  mehr <eos>", "x" * 3, "¡Ĝ"])
def test_pieces_are_what_the_model_reads(built: Callable[..., Path], architecture: str, text: str) -> None:
    """There is one piece per token, and together they are the framed text."""
    with Encoder(built(architecture)) as encoder:
        prompt = encoder.prompt(text)
        pieces = encoder.pieces(prompt)
        assert len(pieces) == encoder.submit_queries([text]).result().tokens[0]
        read = "".join(pieces)

        def plain(string: str) -> str:  # a letter may be the bytes that it is made of
            return re.sub("[^ -~\n\t]+", "?", string)

        assert re.fullmatch("(<bos>)?" + re.escape(plain(prompt)) + "<[|a-z_]+>", plain(read))
