"""Keywords and objects of other libraries raise errors that name the kit's equivalent."""

from __future__ import annotations

import inspect
import pickle
from copy import copy
from typing import Any

import pytest
from ingesting import Hashing
from langchain_core.documents import Document
from llama_index.core.schema import TextNode

from harrier_core import Encoder, Index, Record, SettingError, Skipped
from harrier_core.foreign import unknown_keyword
from harrier_core.testing import MemoryStore

# -- keywords


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncate_dim", "not trained to be truncated .no Matryoshka."),
        ("model_kwargs", "use device, dtype and revision"),
        ("trust_remote_code", "code from a model's repository is never run"),
        ("prompt_name", "use task: a name in encoder.tasks, or Task"),
        ("normalize", "vectors always have unit length"),
        ("max_length", "use max_tokens, and on_overflow='truncate'"),
        ("batch_size", "use token_budget"),
        ("cache_folder", "set HF_HOME"),
        ("token", "set HF_TOKEN"),
        ("base_url", r"for the model of a server use url, or RemoteEncoder.url"),
        ("api_key", r"for the model of a server use url, or RemoteEncoder.url"),
        ("max_token", r"did you mean max_tokens\?"),
        ("colour", "it takes model, revision, device, dtype, max_tokens, on_overflow, task, token_budget$"),
    ],
)
def test_keywords_of_other_libraries(name: str, message: str) -> None:
    """The error names the equivalent, or why there is none, and shows no value."""
    given: dict[str, Any] = {name: "a secret"}
    with pytest.raises(SettingError, match=f"^Encoder got an unknown keyword, '{name}': .*{message}") as caught:
        Encoder("harrier-270m", **given)
    assert "secret" not in str(caught.value)


def test_a_keyword_that_a_surface_has_itself() -> None:
    """A class's own keyword takes precedence over another library's."""
    said = str(unknown_keyword("HarrierEmbedding", "model_nam", ["model_name", "task"]))
    assert said == "HarrierEmbedding got an unknown keyword, 'model_nam': did you mean model_name?"


def test_the_signature_of_an_encoder() -> None:
    """Editors show it, and pickling works as before."""
    parameters = inspect.signature(Encoder).parameters
    assert [*parameters][:-1] == [*Encoder("harrier-270m").settings]
    assert parameters["foreign"].annotation == "Never"
    assert pickle.loads(pickle.dumps(Encoder("harrier-270m", max_tokens=7))).settings["max_tokens"] == 7


def test_all_keywords_of_other_classes_are_known() -> None:
    """All keywords of sentence-transformers and LlamaIndex's class are known."""
    from sentence_transformers import SentenceTransformer

    names = set(inspect.signature(SentenceTransformer.__init__).parameters)
    names |= set(inspect.signature(SentenceTransformer.encode).parameters)
    same = set(Encoder("harrier-270m").settings)
    unknown = {
        name
        for name in names - same - {"self", "sentences", "inputs", "args", "kwargs"}
        if "it takes" in str(unknown_keyword("Encoder", name, same))
    }
    assert unknown == {"model_card_data"}


# -- records


class Haystack:
    """A stand-in for a document of another framework."""

    content, meta, embedding = "a text", {"year": 2021}, None


class Frame(dict[str, Any]):
    """A stand-in for a pandas DataFrame."""


Frame.__name__ = "DataFrame"
MUST = r"^records must be an iterable of Record\(id=\.\.\., text=\.\.\., metadata=\.\.\.\)"


@pytest.fixture
def index() -> Index:
    return Index(MemoryStore(), Hashing())


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([Document(page_content="a secret")], r"is Document; LangChain's documents go to HarrierVectorStore\(index\)"),
        ([TextNode(text="a secret")], r"is TextNode; LlamaIndex's nodes go to HarrierVectorStore\(index\).add, or"),
        ([Haystack()], r"is Haystack; write Record\(id=document.id, text=document.content, metadata=document.meta\)"),
        ([{"id": "a", "content": "a secret"}], "is dict with other keys; a dict is accepted if it has id, text"),
        ([{"id": "a", "text": "a secret", "lang": "en"}], "is dict with other keys"),
        ([{"text": "a secret"}], "is dict with other keys"),
        (["a secret"], "the first item is str$"),
        ([None, Record("a", "b")], "the first item is NoneType$"),
        ([Skipped("s", "cannot be read"), "a secret"], "the first item is str$"),
        ("a secret", "got str; put a single record in a list"),
        (b"a secret", "got bytes; put"),
        ({"id": "a", "text": "a secret"}, "got dict; put a single record in a list"),
        (Record("a", "a secret"), "got Record; put a single record in a list"),
        (Document(page_content="a secret"), "got Document; LangChain's documents go to"),  # it can be iterated over
        (None, "got NoneType"),
        (7, "got int"),
    ],
)
@pytest.mark.parametrize("run", [Index.ingest, Index.plan])
def test_objects_that_are_not_records(index: Index, records: Any, message: str, run: Any) -> None:
    """As the first item they raise an error that says what to do, and shows no text."""
    for given in (records, iter(records) if isinstance(records, list) else records):
        with pytest.raises(SettingError, match=f"{MUST}.*({message})") as caught:
            run(index, given)
        assert "secret" not in str(caught.value)
    assert index.clear() == 0


def test_a_pandas_dataframe(index: Index) -> None:
    """It is refused, because iteration would yield column names."""
    with pytest.raises(SettingError, match="put a single record|create a Record from each row"):
        index.ingest(Frame())  # type: ignore[arg-type]


def test_later_objects_are_rejected(index: Index) -> None:
    """Each is reported with the reason, and the others are stored."""
    late: list[Any] = [Document(id="d", page_content="a text"), {"id": "x"}, "a text", None, {"id": 7, "text": "a"}]
    report = index.ingest([Record("a", "b"), *late, Record("c", "d")])
    assert report.written == 2
    assert [reason for _, reason in report.rejected] == [
        *("is Document, not Record", "is dict, not Record", "is str, not Record", "is NoneType, not Record"),
        "has an id that is int, not str",
    ]


def test_dicts_are_records(index: Index) -> None:
    """A dict with the fields of a record is accepted."""
    report = index.ingest([{"id": "a", "text": "one"}, {"id": "b", "text": "two", "metadata": {"year": 2021}}])
    assert (report.written, report.rejected) == (2, [])
    assert {each.chunk.record_id: each.chunk.metadata for each in index.read()} == {"a": {}, "b": {"year": 2021}}
    again = [Record("a", "one"), Record("b", "two", {"year": 2021})]
    assert index.ingest(again, prune=True).unchanged == 2
    assert index.plan([{"id": "b", "text": "two", "metadata": {"year": 2021}}], prune=True).deleted == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("encode", "use encode_queries or encode_documents"),
        ("max_seq_length", "use max_tokens"),
        ("prompts", "use tasks"),
    ],
)
def test_attributes_of_other_libraries_encoders(encoder: Encoder, name: str, said: str) -> None:
    """The AttributeError names the equivalent; unknown names raise Python's own."""
    with pytest.raises(AttributeError, match=rf"^'Encoder' object has no attribute '{name}'; {said}"):
        getattr(encoder, name)
    with pytest.raises(AttributeError, match=r"^'Encoder' object has no attribute 'nothing'$"):
        getattr(encoder, "nothing")  # noqa: B009


@pytest.mark.parametrize(
    ("name", "said"), [("upsert", "use ingest"), ("query", "use search"), ("drop_table", "use drop")]
)
def test_attributes_of_other_libraries_stores(index: Index, name: str, said: str) -> None:
    """The same holds for an Index; copying and pickling still work."""
    with pytest.raises(AttributeError, match=rf"^'Index' object has no attribute '{name}'; {said}"):
        getattr(index, name)
    assert copy(index) is index
    assert not hasattr(index, "nothing")


def test_an_error_within_a_property() -> None:
    """It is not mistaken for a missing attribute."""

    class Broken(Encoder):
        @property
        def space(self) -> Any:
            return Record.nothing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="type object 'Record' has no attribute 'nothing'"):
        _ = Broken("harrier-270m").space
