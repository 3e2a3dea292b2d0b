"""The role of a request's texts: from the model's name, from a field, or from both if they agree. Pure.

Clients that can set nothing but a model's name set the role with it: NAME-query, NAME-document, NAME-query-TASK.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from harrier_core.tasks import Task
from harrier_server.refusals import Refusal, bad

Kind = Literal["query", "document"]

# How OpenAI-like services name the two roles: Cohere, Voyage, NVIDIA, Jina and this kit.
_WORDS: dict[str, Kind] = {
    **dict.fromkeys(("query", "search_query", "retrieval.query"), "query"),
    **dict.fromkeys(("document", "passage", "search_document", "retrieval.passage"), "document"),
}
_SUFFIXES: dict[str, Kind] = {"query": "query", "document": "document", "passage": "document"}


@dataclass(frozen=True, slots=True)
class Role:
    """The role of texts; task: that of queries, None for the server's own."""

    kind: Kind
    task: str | Task | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """A request's statements about the role of its texts; any of them may be missing."""

    model: str
    input_type: str | None = None
    task: str | None = None  # TEI calls it prompt_name
    instruction: str | None = None


class Names:
    """The names of one model."""

    def __init__(self, name: str, tasks: Iterable[str], *, instructions: bool) -> None:
        """Take the clients' name for the model, its tasks, and whether requests may bring their own instruction."""
        self.name = name
        self.tasks = sorted(tasks)
        self._instructions = instructions

    def listed(self) -> list[str]:
        """Return every name with a role. The bare name has none, and is not listed."""
        return [self.query, self.document, *(f"{self.query}-{task}" for task in self.tasks)]

    @property
    def query(self) -> str:
        """The name under which texts are queries."""
        return f"{self.name}-query"

    @property
    def document(self) -> str:
        """The name under which texts are documents."""
        return f"{self.name}-document"

    def role(self, said: Said) -> Role:
        """Return the role of a request's texts. Raise Refusal unless it is given once, or consistently."""
        named, task_of_name = self._split(said.model)
        task, kinds = said.task, {} if named is None else {"model name": named}
        if task in _WORDS:  # Jina's task is a role
            kinds["task"], task = _WORDS[task], None
        if said.input_type is not None:
            if said.input_type not in _WORDS:
                raise bad(f"input_type must be one of {', '.join(_WORDS)}, got {said.input_type!r}", "input_type")
            kinds["input_type"] = _WORDS[said.input_type]
        if task is not None or said.instruction is not None:
            kinds["task" if task is not None else "instruction"] = "query"
        if not kinds:
            raise bad(
                f"the texts have no role: write the model as {self.query!r} or {self.document!r}, or add "
                '"input_type": "query" or "document"; a query is encoded with an instruction, a '
                "document without",
                "model",
                code="role_missing",
            )
        if len(set(kinds.values())) > 1:
            said_of = ", ".join(f"{kind} ({source})" for source, kind in kinds.items())
            raise bad(f"conflicting roles: {said_of}", "input_type", code="two_roles")
        return Role(next(iter(kinds.values())), self._task(task_of_name, task, said.instruction))

    def query_role(self, task: str | None, instruction: str | None) -> Role:
        """Return the role of queries, with their task or instruction. Raise Refusal if that does not exist."""
        return Role("query", self._task(None, task, instruction))

    def _split(self, model: str) -> tuple[Kind | None, str | None]:
        """Return the role and the task in a model's name."""
        rest = model.removeprefix(self.name)
        if model.startswith(self.name) and not rest:
            return None, None
        if model.startswith(self.name) and rest[0] in "-:":
            suffix, _, task = rest[1:].partition("-")
            if suffix in _SUFFIXES and (not task or _SUFFIXES[suffix] == "query"):
                return _SUFFIXES[suffix], task or None
        raise Refusal(
            404,
            f"there is no model {model[:100]!r}; this server has {', '.join(self.listed())}",
            code="model_not_found",
            param="model",
        )

    def _task(self, of_name: str | None, given: str | None, instruction: str | None) -> str | Task | None:
        told = [each for each in (of_name, given) if each is not None]
        if instruction is not None:
            if told:
                raise bad("a request must have a task or an instruction, not both", "instruction")
            if not self._instructions:
                raise bad(
                    "this server does not accept instructions in requests; name one of its tasks: "
                    f"{', '.join(self.tasks)}",
                    "instruction",
                )
            return Task(instruction)
        if len(set(told)) > 1:
            raise bad(f"two tasks are given: {told[0]!r} and {told[1]!r}", "task")
        if told and told[0] not in self.tasks:
            raise bad(f"unknown task {told[0][:100]!r}; this model has {', '.join(self.tasks)}", "task")
        return told[0] if told else None
