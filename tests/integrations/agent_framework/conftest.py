"""Fixtures of the Agent Framework tests: a model that compares words, and a record of what it reads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_framework import (
    BaseChatClient,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    Message,
    ResponseStream,
)

from harrier_core import Encoder
from harrier_core.tokens import Tokens


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the developer's environment variables."""
    for name in [name for name in os.environ if name.startswith("HARRIER_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def words(built: Callable[..., Path]) -> str:
    """Return the folder of a model that compares texts by their words."""
    return str(built("qwen3", vectors="words"))


@pytest.fixture
def encoder(words: str) -> Iterator[Encoder]:
    with Encoder(words) as encoder:
        yield encoder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record every string that the tokenizer encodes."""
    strings: list[str] = []
    tokenize = Tokens.tokenize

    def listening(tokens: Tokens, texts: Sequence[str], prompt: str, *limits: Any, **how: Any) -> Any:
        strings.extend(prompt + text for text in texts)
        return tokenize(tokens, texts, prompt, *limits, **how)

    monkeypatch.setattr(Tokens, "tokenize", listening)
    return strings


class Scripted(FunctionInvocationLayer[Any], BaseChatClient[Any]):
    """A chat client with scripted answers, which records its requests."""

    def __init__(self, *answers: Content) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[list[Message]] = []

    def _inner_get_response(self, *, messages: Sequence[Message], stream: bool, **_: Any) -> Any:
        self.asked.append(list(messages))
        answer = self.answers.pop(0)

        async def whole() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [answer])])

        async def parts() -> AsyncIterator[ChatResponseUpdate]:
            yield ChatResponseUpdate(role="assistant", contents=[answer])

        return ResponseStream(parts(), finalizer=ChatResponse.from_updates) if stream else whole()


@pytest.fixture
def scripted() -> type[Scripted]:
    """Create a chat client that gives these answers in order."""
    return Scripted


@pytest.fixture
def say() -> Callable[[str], Content]:
    """Return an answer of text."""
    return Content.from_text


@pytest.fixture
def call() -> Callable[..., Content]:
    """Return an answer that calls a tool."""

    def calling(tool: str, **arguments: Any) -> Content:
        return Content.from_function_call(call_id="1", name=tool, arguments=arguments)

    return calling
