"""The prompts that queries get before the model reads them; documents get none. Pure: strings in, strings out.

A prompt is always a prefix of the text, in every family that was examined (Harrier, Qwen3-Embedding, E5,
EmbeddingGemma), so a task comes down to one string, and a document's prompt is simply the empty one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harrier_core.errors import TaskError

DEFAULT_TASK = "web_search_query"

# The names that these families use for documents, if any. They are not tasks of a query.
_DOCUMENT_NAMES = ("document", "passage")

# Families differ only in white space ("Query: ", "Query:", " \n Query: "), which must be kept byte for byte.
_INSTRUCTED = re.compile(r"(Instruct:\s*)(\S.*?)(\s*\n\s*Query:\s*)")
_HARRIER_TEMPLATE = ("Instruct: ", "\nQuery: ")


@dataclass(frozen=True, slots=True)
class Task:
    """A custom task: one sentence that tells the model what a query is looking for."""

    instruction: str

    def __post_init__(self) -> None:
        if not isinstance(self.instruction, str):
            raise TaskError(f"a task's instruction must be one sentence, got {type(self.instruction).__name__}")
        if not self.instruction.strip():
            raise TaskError("a task's instruction is empty; say in one sentence what a query is looking for")
        if len(self.instruction.splitlines()) > 1 or self.instruction != self.instruction.strip():
            raise TaskError(
                "a task's instruction must be one line without surrounding white space, because line breaks separate "
                "it from the query; remove them"
            )
        if any("\ud800" <= character <= "\udfff" for character in self.instruction):
            raise TaskError(
                "a task's instruction holds a lone surrogate, which is half a character; decode the source again"
            )


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts that a model puts before its texts, read from the model's own files."""

    tasks: Mapping[str, str]  # a task's name -> the whole prefix of a query
    template: tuple[str, str] | None  # what surrounds an instruction; None: the model takes no instruction
    document: str  # the whole prefix of a document: empty for Harrier

    @classmethod
    def of(cls, named: Mapping[str, str]) -> Prompts:
        """Return the prompts of a model whose files name these; the template is the one that its own prompts follow."""
        # sentence-transformers saves an empty "query" prompt with any model; as a task it would silently do nothing.
        tasks = {name: prompt for name, prompt in named.items() if prompt and name not in _DOCUMENT_NAMES}
        document = next((named[name] for name in _DOCUMENT_NAMES if named.get(name)), "")
        matches = [_INSTRUCTED.fullmatch(prompt) for prompt in tasks.values()]
        templates = {(match[1], match[3]) for match in matches if match}
        template = templates.pop() if len(templates) == 1 else None if matches else _HARRIER_TEMPLATE
        return cls(tasks, template, document)

    def query(self, task: str | Task) -> str:
        """Return the whole prefix of a query with this task."""
        if isinstance(task, Task):
            return self._instructed(task)
        if isinstance(task, str) and task in self.tasks:
            return self.tasks[task]
        known = ", ".join(sorted(self.tasks)) or "none by name"
        found = repr(task) if isinstance(task, str) else f"a {type(task).__name__}"
        raise TaskError(f"unknown task {found}; this model knows {known}, and Task('one sentence') makes a new one")

    def _instructed(self, task: Task) -> str:
        if self.template is None:
            known = ", ".join(sorted(self.tasks))
            raise TaskError(
                f"this model's prompts follow no single template for instructions; use one of its own: {known}"
            )
        before, after = self.template
        return f"{before}{task.instruction}{after}"
