"""Settings that users bring to HarrierEmbeddings: other classes' arguments, builders, progress bars."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_harrier import HarrierEmbeddings

from harrier_core import EmptyText, MissingExtra, SettingError
from harrier_core.extras import PACKAGES

MODEL = "harrier-0.6b"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"model_name": MODEL}, {}),
        ({"model_name": MODEL, "model": MODEL}, {}),
        ({"model": MODEL, "model_kwargs": {"device": "cpu"}}, {"device": "cpu"}),
        ({"model": MODEL, "model_kwargs": {"device": "cuda:0,cuda:1"}}, {"device": "cuda:0,cuda:1"}),
        (
            {"model": MODEL, "model_kwargs": {"dtype": "float32", "revision": "v1"}},
            {"dtype": "float32", "revision": "v1"},
        ),
        ({"model": MODEL, "model_kwargs": {"model_kwargs": {"torch_dtype": "float32"}}}, {"dtype": "float32"}),
        ({"model": MODEL, "model_kwargs": {"trust_remote_code": False}}, {}),
        ({"model": MODEL, "device": "cpu", "model_kwargs": {"device": "cpu"}}, {"device": "cpu"}),
        ({"model": MODEL, "encode_kwargs": {"normalize_embeddings": True, "convert_to_numpy": True}}, {}),
        ({"model": MODEL, "encode_kwargs": {"show_progress_bar": True}}, {"show_progress": True}),
        ({"model": MODEL, "query_encode_kwargs": {"prompt_name": "sts_query"}}, {"task": "sts_query"}),
        ({"model": MODEL, "show_progress": False, "multi_process": False, "embed_instruction": ""}, {}),
    ],
)
def test_equivalent_settings(given: dict[str, Any], meant: dict[str, Any]) -> None:
    """HuggingFaceEmbeddings settings with an equivalent, or without effect, are accepted."""
    made = HarrierEmbeddings(**given)
    assert made == HarrierEmbeddings(MODEL, **meant)
    assert made.model_name == made.model == MODEL


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cache_folder": "/tmp"}, "HarrierEmbeddings got an unknown keyword, 'cache_folder': set HF_HOME"),
        ({"multi_process": True}, "'multi_process': an Encoder is one copy of a model"),
        ({"model_kwargs": {"device_map": "auto"}}, "'device_map': use device, where several names spread one model"),
        ({"model_kwargs": {"trust_remote_code": True}}, "model_kwargs of .* 'trust_remote_code': code from a model's"),
        ({"model_kwargs": {"model_kwargs": {"attn_implementation": "sdpa"}}}, "'attn_implementation': the kit chooses"),
        ({"model_kwargs": {"truncate_dim": 128}}, "'truncate_dim': Harrier models were not trained to be truncated"),
        ({"model_kwargs": "cpu"}, "model_kwargs must be a dict, got str"),
        ({"encode_kwargs": {"batch_size": 16}}, "encode_kwargs of .* 'batch_size': use token_budget"),
        ({"encode_kwargs": {"normalize_embeddings": False}}, "'normalize_embeddings': vectors always have unit length"),
        ({"encode_kwargs": {"prompt": "passage: "}}, "'prompt': use task"),
        ({"query_encode_kwargs": {"prompt": "query: "}}, "query_encode_kwargs of .* 'prompt': use task"),
        ({"query_instruction": "Instruct: a"}, "'query_instruction': use task"),
        ({"embed_instruction": "passage: "}, "'embed_instruction': a document is encoded unchanged"),
        ({"normalize_embeddings": 0}, "'normalize_embeddings': vectors always have unit length"),
        ({"devise": "cpu"}, "'devise': did you mean device?"),
        ({"model_name": "harrier-270m"}, "model and model_name are one setting, and differ; give one of them"),
        ({"device": "cpu", "model_kwargs": {"device": "cuda"}}, "device and 'device' in model_kwargs are one setting"),
    ],
)
def test_refused_settings(given: dict[str, Any], said: str) -> None:
    """The one-line error names the right setting, and quotes no values."""
    with pytest.raises(SettingError, match=said) as caught:
        HarrierEmbeddings(MODEL, **given)
    assert "\n" not in str(caught.value)
    assert "passage" not in str(caught.value)


def test_the_model_comes_first(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be positional or a Path, and comes from the environment if it is None."""
    monkeypatch.setenv("HARRIER_MODEL", words)
    made = [HarrierEmbeddings(words), HarrierEmbeddings(None), HarrierEmbeddings(_Path(words)), HarrierEmbeddings()]
    assert {each.model for each in made} == {words}


class _Path(os.PathLike[str]):
    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_json_schema(mode: Any) -> None:
    """It exists for flow builders, without objects that JSON cannot represent."""
    properties = HarrierEmbeddings.model_json_schema(mode=mode)["properties"]
    assert {"model", "task", "device", "show_progress"} <= properties.keys()
    assert not {"cache", "embedder"} & properties.keys()


def test_serialization(words: str) -> None:
    """pydantic and pickle keep all settings."""
    made = HarrierEmbeddings(words, show_progress=True, device="cpu")
    for other in (
        HarrierEmbeddings.model_validate(made.model_dump()),
        HarrierEmbeddings.model_validate_json(made.model_dump_json()),
        pickle.loads(pickle.dumps(made)),
        copy.deepcopy(made),
        HarrierEmbeddings.from_encoder(made.encoder, show_progress=True),
    ):
        assert other == made
        assert other.show_progress
    assert made.with_task("sts_query").show_progress
    assert made != HarrierEmbeddings(words, device="cpu")


TEXTS = [f"text {number}" for number in range(300)]


@pytest.mark.parametrize("how", ["embed_documents", "aembed_documents"])
def test_a_progress_bar(words: str, how: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown on request, and changes neither vectors nor errors."""
    quiet, shown = HarrierEmbeddings(words), HarrierEmbeddings(words, show_progress=True)

    def embed(embeddings: Embeddings, texts: list[str]) -> list[list[float]]:
        done = getattr(embeddings, how)(texts)
        vectors: list[list[float]] = asyncio.run(done) if how.startswith("a") else done
        return vectors

    expected = embed(quiet, TEXTS)
    assert capsys.readouterr().err == ""
    vectors = embed(shown, TEXTS)
    assert len(vectors) == len(expected)
    assert (
        max(abs(a - b) for one, other in zip(vectors, expected, strict=True) for a, b in zip(one, other, strict=True))
        < 1e-5
    )
    assert "300/300" in capsys.readouterr().err
    with pytest.raises(EmptyText, match="^text 299 is empty"):
        embed(shown, [*TEXTS[:299], " "])
    assert "256/300" in capsys.readouterr().err
    shown.embed_query("no bar")
    assert embed(shown, []) == []


def test_a_progress_bar_without_tqdm(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """The error names the missing extra."""
    monkeypatch.setattr("harrier_core.extras._is_installed", lambda module: module != "huggingface_hub")
    assert PACKAGES["huggingface_hub"][0] == "torch"
    with pytest.raises(MissingExtra, match="show_progress .*torch"):
        HarrierEmbeddings(words, show_progress=True).embed_documents(["a"])
