"""Token ids and vectors compared with transformers and sentence-transformers on the same files."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from harrier_core import Encoder, Task
from harrier_core.models import open_model
from harrier_core.testing import AWKWARD, PROSE
from harrier_core.tokens import Tokens

Vectors = NDArray[np.float32]

TEXTS = [*PROSE, *AWKWARD]
# sentence-transformers before 6 strips every text, so it can only be compared on texts that have nothing to strip.
STRIPPED = [text for text in TEXTS if text == text.strip()]
TOLERANCE = 1e-5
OWN = Task("Given a bird, retrieve what it eats")
OWN_PROMPT = "Instruct: Given a bird, retrieve what it eats\nQuery: "


class Reference:
    """The usage example of the model card: pad, run, take the last token, normalise."""

    def __init__(self, folder: str, padding_side: str = "right") -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side=padding_side)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def encode(self, texts: list[str], max_length: int | None = None) -> Vectors:
        batch = self.tokenizer(
            texts, padding=True, truncation=max_length is not None, max_length=max_length, return_tensors="pt"
        )
        hidden = self.model(**batch).last_hidden_state
        last = batch["attention_mask"].cumsum(1).argmax(1)
        pooled = hidden[torch.arange(len(texts)), last]
        return torch.nn.functional.normalize(pooled, dim=1).numpy()


@pytest.fixture(scope="module")
def ours(model: str) -> Iterator[Encoder]:
    with Encoder(model, device="cpu", dtype="float32") as encoder:
        yield encoder


@pytest.fixture(scope="module")
def snapshot(model: str) -> str:
    """Return the folder of the model, also for a hub name."""
    return str(open_model(model).folder)


@pytest.fixture(scope="module")
def reference(snapshot: str) -> Reference:
    return Reference(snapshot)


@pytest.fixture(scope="module")
def sentences(snapshot: str) -> SentenceTransformer:
    # Without this dtype it computes a bfloat16 checkpoint in bfloat16, on a CPU as well.
    return SentenceTransformer(snapshot, device="cpu", model_kwargs={"dtype": torch.float32})


def prompts(encoder: Encoder) -> list[tuple[str | Task, str]]:
    return [*encoder.tasks.items(), (OWN, OWN_PROMPT)]


def difference(ours: Vectors, theirs: Any) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def texts_of_lengths(encoder: Encoder, lengths: list[int]) -> dict[int, str]:
    """Return a text of exactly each number of tokens, if there is one."""
    [shortest] = encoder.count_tokens(["x"])
    overhead = shortest - 1
    long = " ".join(PROSE)
    while encoder.count_tokens([long])[0] < max(lengths) + overhead:
        long += " " + long
    found: dict[int, str] = {}
    for length in lengths:
        low, high = 1, len(long)
        while low < high:  # the first prefix that has as many tokens; a longer one rarely has fewer
            middle = (low + high) // 2
            if encoder.count_tokens([long[:middle]])[0] - overhead < length:
                low = middle + 1
            else:
                high = middle
        exact = [long[:end] for end in range(max(1, low - 3), low + 12) if long[:end].strip()]
        counts = encoder.count_tokens(exact)
        found[length] = next(text for text, n in zip(exact, counts, strict=True) if n - overhead == length)
    return found


def test_ids_equal_those_of_transformers(snapshot: str, reference: Reference) -> None:
    """Ids agree for every task, your own task and documents, on every awkward text."""
    model = open_model(snapshot)
    tokens = Tokens(model)
    for prompt in ["", OWN_PROMPT, *model.prompts.tasks.values()]:
        rows = tokens.tokenize(TEXTS, prompt, limit=1_000_000).rows
        assert rows == reference.tokenizer([prompt + text for text in TEXTS])["input_ids"]


def test_texts_end_with_the_end_token(snapshot: str, reference: Reference) -> None:
    """The pooled token is the end token in both families."""
    rows = Tokens(open_model(snapshot)).tokenize(TEXTS, "", limit=1_000_000).rows
    assert {row[-1] for row in rows} == {reference.tokenizer.eos_token_id}


def test_documents_equal_transformers(ours: Encoder, reference: Reference) -> None:
    """Vectors agree one by one and in padded batches."""
    vectors = ours.encode_documents(TEXTS)
    assert difference(vectors, np.concatenate([reference.encode([text]) for text in TEXTS])) < TOLERANCE
    assert difference(vectors, reference.encode(TEXTS)) < TOLERANCE


def test_documents_equal_a_left_padded_batch(ours: Encoder, snapshot: str) -> None:
    """The padding side does not matter."""
    assert difference(ours.encode_documents(TEXTS), Reference(snapshot, "left").encode(TEXTS)) < TOLERANCE


def test_queries_equal_transformers(ours: Encoder, reference: Reference) -> None:
    """Vectors agree for every named task and your own."""
    for task, prompt in prompts(ours):
        theirs = reference.encode([prompt + text for text in TEXTS])
        assert difference(ours.encode_queries(TEXTS, task=task), theirs) < TOLERANCE


def test_documents_equal_sentence_transformers(ours: Encoder, sentences: SentenceTransformer) -> None:
    """Plain `encode` is the documented way for documents."""
    assert difference(ours.encode_documents(STRIPPED), sentences.encode(STRIPPED)) < TOLERANCE


def test_queries_equal_sentence_transformers(ours: Encoder, sentences: SentenceTransformer) -> None:
    """Named tasks use prompt_name, and your own uses prompt."""
    assert dict(ours.tasks) == {name: text for name, text in sentences.prompts.items() if text}
    for name in ours.tasks:
        theirs = sentences.encode(STRIPPED, prompt_name=name)
        assert difference(ours.encode_queries(STRIPPED, task=name), theirs) < TOLERANCE
    theirs = sentences.encode(STRIPPED, prompt=OWN_PROMPT)
    assert difference(ours.encode_queries(STRIPPED, task=OWN), theirs) < TOLERANCE


@pytest.mark.parametrize("role", ["document", "query"])
def test_every_length(ours: Encoder, reference: Reference, role: str) -> None:
    """Lengths include those at which an attention kernel was wrong (33, 65, 97), and the limit."""
    prompt = "" if role == "document" else ours.prompt("")
    spent = ours.count_tokens([prompt + "x"])[0] - 1
    limit = min(ours.max_tokens, 2_048)
    lengths = [1, *range(29, 36), *range(61, 68), *range(93, 100), limit - spent - 1, limit - spent]
    texts = list(texts_of_lengths(ours, lengths).values())
    encode = ours.encode_documents if role == "document" else ours.encode_queries
    alone = np.concatenate([reference.encode([prompt + text]) for text in texts])
    assert difference(encode(texts), alone) < TOLERANCE
    assert difference(np.concatenate([encode([text]) for text in texts]), alone) < TOLERANCE


def test_any_batch_any_order(model: str, ours: Encoder) -> None:
    """A vector does not depend on neighbours, order, duplicates or the token budget."""
    alone = np.concatenate([ours.encode_documents([text]) for text in TEXTS])
    for seed, budget in enumerate((1, 64, 1_000, 100_000)):
        order = random.Random(seed).choices(range(len(TEXTS)), k=2 * len(TEXTS))
        with Encoder(model, device="cpu", dtype="float32", token_budget=budget) as encoder:
            assert difference(encoder.encode_documents([TEXTS[number] for number in order]), alone[order]) < TOLERANCE


def test_truncation_equals_transformers(model: str, reference: Reference) -> None:
    """A truncated text keeps its end token, as with transformers."""
    long = " ".join(PROSE)
    with Encoder(model, device="cpu", dtype="float32", max_tokens=90, on_overflow="truncate") as encoder:
        theirs = reference.encode([long, "short"], max_length=90)
        assert difference(encoder.encode_documents([long, "short"]), theirs) < TOLERANCE
        theirs = reference.encode([encoder.prompt(long), encoder.prompt("short")], max_length=90)
        assert difference(encoder.encode_queries([long, "short"]), theirs) < TOLERANCE
        assert encoder.truncations == 2


def test_bfloat16_is_close(model: str, snapshot: str, ours: Encoder) -> None:
    """At every quantile, bfloat16 vectors are closer to float32 than sentence-transformers'."""
    theirs = SentenceTransformer(snapshot, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    with Encoder(model, device="cpu", dtype="bfloat16") as encoder:
        vectors = encoder.encode_documents(STRIPPED)
    assert vectors.dtype == np.float32
    exact = ours.encode_documents(STRIPPED)
    quantiles = [0.0, 0.05, 0.25, 0.5]
    kept = np.quantile((vectors * exact).sum(1), quantiles)
    assert kept[0] > 0.98
    assert kept[-1] > 0.999
    beside = theirs.encode(STRIPPED).astype(np.float32)
    beside /= np.linalg.norm(beside, axis=1, keepdims=True)
    assert np.all(1 - kept <= 1.05 * (1 - np.quantile((beside * exact).sum(1), quantiles)) + 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: vectors on a GPU were not compared")
def test_a_gpu_equals_a_cpu(model: str, ours: Encoder) -> None:
    """bfloat16 and float32 on a GPU are close to float32 on a CPU."""
    with Encoder(model, device="cuda") as encoder:
        assert encoder.placement.dtype == "bfloat16"
        cosines = (encoder.encode_documents(TEXTS) * ours.encode_documents(TEXTS)).sum(1)
        assert cosines.min() > 0.98
        assert np.median(cosines) > 0.999
    with Encoder(model, device="cuda", dtype="float32") as encoder:
        assert difference(encoder.encode_documents(TEXTS), ours.encode_documents(TEXTS)) < 1e-4


def test_the_snapshot_is_a_folder(snapshot: str) -> None:
    """The references read the same files as the kit."""
    assert (Path(snapshot) / "tokenizer.json").is_file()
