"""An Index for an agent: as context that is retrieved before each run, or as a tool that the agent calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Unpack

from agent_framework import Annotation, Content, ContextProvider, FunctionTool, Message

from harrier_core import Index, Match, Task
from harrier_core.blanks import blank
from harrier_core.searching import Wanted

if TYPE_CHECKING:
    from agent_framework import AgentSession, SessionContext, SupportsAgentRun

Find = Callable[[str], Awaitable[list[Match]]]
Where = Mapping[str, Any]


def _source_and_text(match: Match) -> str:
    """Return the default text of a match for the model."""
    return f"[Source: {match.record_id}] {match.passage}"


class HarrierContextProvider(ContextProvider):
    """Adds an Index's matches for the user's messages to an agent's context, before each run.

    The query is the text of the user's messages since the agent's last answer. Each match becomes a message, with a
    citation among its annotations: record, chunk, score and metadata.
    """

    DEFAULT_SOURCE_ID: ClassVar[str] = "harrier"
    DEFAULT_CONTEXT_PROMPT: ClassVar[str] = "Use the following context to answer the question, and name its sources:"

    def __init__(
        self,
        index: Index,
        source_id: str = DEFAULT_SOURCE_ID,
        *,
        k: int = 5,
        where: Where | None = None,
        task: str | Task | None = None,
        context_prompt: str | None = None,
        result_mapper: Callable[[Match], str] = _source_and_text,
        **search: Unpack[Wanted],
    ) -> None:
        """Make a provider for an index; nothing is opened yet.

        k, where, task, search: as in `Index.search`; mode="hybrid" finds by word as well. context_prompt: comes before
        the matches. result_mapper: turns a match into the text that the model reads.
        """
        super().__init__(source_id)
        self.index = index
        self.context_prompt = self.DEFAULT_CONTEXT_PROMPT if context_prompt is None else context_prompt
        self._find = _find(index, k, where, task, search)
        self._text_of = result_mapper

    async def before_run(
        self, *, agent: SupportsAgentRun, session: AgentSession, context: SessionContext, state: dict[str, Any]
    ) -> None:
        """Search for the user's latest messages, and add the results to the context."""
        query = _asked(context.input_messages)
        matches = await self._find(query) if query else []
        if matches:
            contents: list[Content | str] = [self.context_prompt, *(_content(each, self._text_of) for each in matches)]
            context.extend_messages(self, [Message("user", [each]) for each in contents])


def index_tool(
    index: Index,
    *,
    name: str = "search",
    description: str = "Search the knowledge base, and return the passages that answer a query best.",
    k: int = 5,
    where: Where | None = None,
    task: str | Task | None = None,
    approval_mode: Literal["always_require", "never_require"] = "never_require",
    result_mapper: Callable[[Match], str] = _source_and_text,
    **search: Unpack[Wanted],
) -> FunctionTool:
    """Return a tool with which an agent searches an index. The model chooses only the query.

    k, where, task, search: as in `Index.search`; mode="hybrid" finds by word as well. result_mapper: turns a match into
    the text that the model reads.
    """
    find = _find(index, k, where, task, search)

    async def run(query: Annotated[str, "What to search for, as a question or in a few words."]) -> list[Content]:
        return [_content(match, result_mapper) for match in await find(query)]

    return FunctionTool(name=name, description=description, approval_mode=approval_mode, func=run)


def _find(index: Index, k: int, where: Where | None, task: str | Task | None, search: Mapping[str, Any]) -> Find:
    """Return the search; an unknown keyword is a TypeError now, not in the middle of a conversation."""
    if unknown := search.keys() - Wanted.__annotations__:
        raise TypeError(f"a search got an unexpected keyword argument {min(unknown)!r}")
    return partial(index.asearch, k=k, where=where, task=task, **search)


def _asked(messages: Iterable[Message]) -> str:
    """Return the text of the user's messages since the last answer; a caller may pass a whole conversation."""
    asked: list[str] = []
    for message in messages:
        if message.role == "assistant":
            asked.clear()
        elif message.role == "user" and not blank(message.text):
            asked.append(message.text)
    return "\n".join(asked)


def _content(match: Match, text_of: Callable[[Match], str]) -> Content:
    return Content.from_text(text_of(match), annotations=[_citation(match)])


def _citation(match: Match) -> Annotation:
    """Return the facts that the framework and its user interfaces show about a source; all can be written as JSON."""
    title, url = match.metadata.get("title"), match.metadata.get("url")
    about = {"record_id": match.record_id, "chunk_id": match.id, "start": match.start, "end": match.end}
    citation = Annotation(
        type="citation",
        title=title if isinstance(title, str) else match.record_id,
        snippet=match.text,
        additional_properties={**about, "score": float(match.score), "metadata": dict(match.metadata)},
    )
    if isinstance(url, str):
        citation["url"] = url
    return citation
