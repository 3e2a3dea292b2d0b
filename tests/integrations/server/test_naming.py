"""The role of a request, in every way to state it."""

from __future__ import annotations

import pytest
from harrier_server.naming import Names, Role, Said
from harrier_server.refusals import Refusal

from harrier_core import Task

NAMES = Names("harrier-270m", ["web_search_query", "sts_query"], instructions=True)


@pytest.mark.parametrize(
    ("said", "role"),
    [
        (Said("harrier-270m-query"), Role("query")),
        (Said("harrier-270m:query"), Role("query")),
        (Said("harrier-270m-document"), Role("document")),
        (Said("harrier-270m-passage"), Role("document")),
        (Said("harrier-270m-query-sts_query"), Role("query", "sts_query")),
        (Said("harrier-270m", "query"), Role("query")),
        (Said("harrier-270m", "search_query"), Role("query")),
        (Said("harrier-270m", "retrieval.query"), Role("query")),
        (Said("harrier-270m", "document"), Role("document")),
        (Said("harrier-270m", "passage"), Role("document")),
        (Said("harrier-270m", "search_document"), Role("document")),
        (Said("harrier-270m", "retrieval.passage"), Role("document")),
        (Said("harrier-270m", task="retrieval.passage"), Role("document")),
        (Said("harrier-270m", task="sts_query"), Role("query", "sts_query")),
        (Said("harrier-270m-query", "query", "sts_query"), Role("query", "sts_query")),
        (Said("harrier-270m-query-sts_query", "query", "sts_query"), Role("query", "sts_query")),
        (Said("harrier-270m", instruction="Find a recipe"), Role("query", Task("Find a recipe"))),
    ],
)
def test_roles(said: Said, role: Role) -> None:
    assert NAMES.role(said) == role


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        (Said("harrier-270m"), 400, "the texts have no role: write the model as 'harrier-270m-query' or"),
        (Said("harrier-270m-query", "document"), 400, "conflicting roles: query (model name), document (input_type)"),
        (Said("harrier-270m-document", task="sts_query"), 400, "document (model name), query (task)"),
        (Said("harrier-270m-document", instruction="Find it"), 400, "document (model name), query (instruction)"),
        (Said("harrier-270m", "document", "retrieval.query"), 400, "conflicting roles: "),
        (Said("harrier-270m-query", "classification"), 400, "input_type must be one of query, search_query, "),
        (Said("harrier-270m-query-other"), 400, "unknown task 'other'; this model has sts_query, web_search"),
        (Said("harrier-270m-query-sts_query", task="web_search_query"), 400, "two tasks are given"),
        (Said("harrier-270m", task="sts_query", instruction="Find it"), 400, "a task or an instruction, not both"),
        (Said("harrier-270m-document-sts_query"), 404, "there is no model"),
        (Said("harrier-270mquery"), 404, "there is no model 'harrier-270mquery'; this server has harrier-270m-query, "),
        (Said("gpt-4"), 404, "there is no model 'gpt-4'"),
        (Said(""), 404, "there is no model ''"),
    ],
)
def test_refused(said: Said, status: int, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        NAMES.role(said)
    assert caught.value.status == status
    assert message in caught.value.message


def test_no_instructions() -> None:
    """They are refused unless the operator allows them."""
    with pytest.raises(Refusal, match="this server does not accept instructions in requests"):
        Names("tiny", ["a_query"], instructions=False).role(Said("tiny", "query", instruction="Find it"))


def test_every_listed_name_is_valid() -> None:
    """The bare name, which has no role, is not listed."""
    assert NAMES.listed() == [
        *("harrier-270m-query", "harrier-270m-document"),
        *("harrier-270m-query-sts_query", "harrier-270m-query-web_search_query"),
    ]
    for name in NAMES.listed():
        NAMES.role(Said(name))
