"""The embedders send queries with an instruction and documents unchanged, and pass settings to the Encoder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from haystack import Document
from haystack.core.component import Component
from haystack.core.errors import SerializationError
from haystack.core.serialization import component_from_dict, component_to_dict
from haystack.telemetry import _telemetry
from haystack_integrations.components.embedders.harrier import HarrierDocumentEmbedder, HarrierTextEmbedder

from harrier_core import EmptyText, Encoder, NotText, SettingError, Task

TEXT = "Bread\nrises  because of yeast."
WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
STS = "Instruct: Retrieve semantically similar text\nQuery: "

TEXTS: dict[str, Callable[[Any], Any]] = {
    "run": lambda embedder: embedder.run(TEXT),
    "run_async": lambda embedder: asyncio.run(embedder.run_async(TEXT)),
}
DOCUMENTS: dict[str, Callable[[Any, list[Document]], Any]] = {
    "run": lambda embedder, documents: embedder.run(documents),
    "run_async": lambda embedder, documents: asyncio.run(embedder.run_async(documents)),
}


def test_telemetry_is_off() -> None:
    """Haystack's telemetry is off in the tests."""
    assert _telemetry.telemetry is None


@pytest.mark.parametrize("path", TEXTS)
def test_a_query(words: str, encoder: Encoder, read: list[str], path: str) -> None:
    """It carries the instruction of each kind of task, also from YAML."""
    birds = Task("Find birds")
    for task, prompt in (
        (None, WEB),
        ("sts_query", STS),
        (birds, "Instruct: Find birds\nQuery: "),
        ({"instruction": "Find birds"}, "Instruct: Find birds\nQuery: "),
    ):
        embedder = HarrierTextEmbedder(words, **({} if task is None else {"task": task}))
        assert read == []  # nothing loads before the first text
        found = TEXTS[path](embedder)
        assert read == [prompt + TEXT]
        read.clear()
    assert all(type(number) is float for number in found["embedding"])
    expected = encoder.encode_queries([TEXT], task=birds)
    assert abs(np.array([found["embedding"]]) - expected).max() < 1e-6


@pytest.mark.parametrize("path", DOCUMENTS)
def test_documents(words: str, encoder: Encoder, read: list[str], path: str) -> None:
    """They are encoded unchanged whatever the task, and the given documents are not modified."""
    given = [Document(content=TEXT, meta={"year": 2020}), Document(content="sand")]
    found = DOCUMENTS[path](HarrierDocumentEmbedder(words, task="sts_query", progress_bar=False), given)["documents"]
    assert read == [TEXT, "sand"]
    assert [(each.id, each.content, each.meta) for each in found] == [(e.id, e.content, e.meta) for e in given]
    assert [each.embedding for each in given] == [None, None]
    expected = encoder.encode_documents([TEXT, "sand"])
    assert abs(np.array([each.embedding for each in found]) - expected).max() < 1e-6


@pytest.mark.parametrize("path", DOCUMENTS)
def test_metadata_before_the_content(words: str, read: list[str], path: str) -> None:
    """Existing fields are prepended in the given order."""
    embedder = HarrierDocumentEmbedder(
        words, meta_fields_to_embed=["title", "year"], embedding_separator=" | ", progress_bar=False
    )
    documents = [
        Document(content="rises", meta={"year": 2020, "title": "Bread"}),
        Document(content="a", meta={"title": None}),
    ]
    DOCUMENTS[path](embedder, documents)
    assert read == ["Bread | 2020 | rises", "a"]


def test_a_progress_bar(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is on by default, as in Haystack's own embedders."""
    HarrierDocumentEmbedder(words).run([Document(content="a")])
    assert "Calculating embeddings: 100%" in capsys.readouterr().err
    HarrierDocumentEmbedder(words, progress_bar=False).run([Document(content="a")])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_text_that_cannot_be_embedded(words: str, path: str) -> None:
    """Its position counts all documents, not those of its window."""
    documents = [*[Document(content="a")] * 1_025, Document(content=" "), Document()]
    with pytest.raises(EmptyText, match="text 1025 is empty") as raised:
        DOCUMENTS[path](HarrierDocumentEmbedder(words, progress_bar=False), documents)
    assert [each.position for each in raised.value.problems] == [1_025, 1_026]
    assert HarrierDocumentEmbedder(words).run([]) == {"documents": []}


def test_other_types(words: str) -> None:
    """Wrong input types raise the errors that a pipeline would."""
    embedder: Any = HarrierDocumentEmbedder(words)
    for given in ("a", ["a"], Document(content="a")):
        with pytest.raises(TypeError, match="must be a list of Documents; a HarrierTextEmbedder embeds a query"):
            embedder.run(given)
    query: Any = [Document(content="a")]
    with pytest.raises(NotText):
        HarrierTextEmbedder(words).run(query)


@pytest.mark.parametrize("embedder", [HarrierTextEmbedder, HarrierDocumentEmbedder])
def test_warm_up(folder: Path, embedder: type[Any]) -> None:
    """The model is loaded once, although a pipeline calls warm_up before every run."""
    with Encoder(folder) as encoder:
        made = embedder(encoder)
        assert encoder.stats.texts == 0
        made.warm_up()
        made.warm_up()
        asyncio.run(made.warm_up_async())
        assert encoder.stats.texts == 1


@pytest.mark.parametrize("task", ["sts_query", Task("Find birds"), {"instruction": "Find birds"}])
def test_serialization(words: str, task: Any) -> None:
    """Settings survive in plain types, and one model is shared."""
    text = HarrierTextEmbedder(words, task=task, max_tokens=100)
    documents = HarrierDocumentEmbedder(Path(words), meta_fields_to_embed=["title"], task=task, device="cpu")
    for made in (text, documents):
        data = component_to_dict(made, "embedder")
        assert data == made.to_dict()
        again: Any = component_from_dict(type(made), data, "embedder")
        assert again.to_dict() == data
        assert again.index_encoder.settings == made.index_encoder.settings
        assert again.index_encoder.settings["model"] == words
    assert documents.to_dict()["init_parameters"] == {
        "model": words,
        "meta_fields_to_embed": ["title"],
        "embedding_separator": "\n",
        "progress_bar": True,
        "task": {"instruction": "Find birds"} if task != "sts_query" else task,
        "device": "cpu",
    }


def test_the_environments_model(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model may come from the environment; YAML contains its name."""
    with pytest.raises(
        SettingError, match="no model is given; pass model=, such as 'harrier-0.6b', or set HARRIER_MODEL"
    ):
        HarrierTextEmbedder()
    monkeypatch.setenv("HARRIER_MODEL", words)
    assert HarrierDocumentEmbedder().index_encoder.name == words
    assert HarrierTextEmbedder().to_dict()["init_parameters"] == {"model": words}
    assert HarrierTextEmbedder("harrier-270m").index_encoder.name == "harrier-270m"


def test_another_embedder(encoder: Encoder) -> None:
    """It is used unchanged, and cannot be serialised to YAML."""
    made = HarrierTextEmbedder(encoder)
    assert made.index_encoder is encoder
    with pytest.raises(SerializationError, match="unsupported value of type 'Encoder'"):
        component_to_dict(made, "embedder")
    with pytest.raises(SettingError, match="task is a setting of Encoder; configure it there"):
        HarrierDocumentEmbedder(encoder, task="sts_query")


def test_settings_of_other_libraries(words: str) -> None:
    """They are refused by the constructor, not at the first text."""
    with pytest.raises(SettingError, match="'normalize_embeddings': vectors always have unit length"):
        HarrierTextEmbedder(words, normalize_embeddings=True)
    with pytest.raises(SettingError, match="on_overflow must be 'error' or 'truncate'"):
        HarrierTextEmbedder(words, on_overflow="cut")


def test_they_are_components(words: str) -> None:
    """They have the sockets that a pipeline connects."""
    text, documents = HarrierTextEmbedder(words), HarrierDocumentEmbedder(words)
    assert isinstance(text, Component)
    for made, taken, given in ((text, "text", "embedding"), (documents, "documents", "documents")):
        sockets: Any = made
        assert list(sockets.__haystack_input__._sockets_dict) == [taken]
        assert list(sockets.__haystack_output__._sockets_dict) == [given]
