"""Answers that count until their clients have taken them: a small request may get an answer of many megabytes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from starlette.responses import Response

from harrier_server.turns import Turns

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

DROP = "harrier.drop"  # an extension of ASGI's scope, with a function that closes the connection at once
_SMALL = 64 * 2**10  # bytes of an answer that does not count

_TAKEN = "too many answers wait for their clients to take them; try again later"


class Answers:
    """The answers of one server that are being made, or are not taken yet."""

    def __init__(self, most: int) -> None:
        """Take how many bytes they may have together; a single one always fits."""
        self._turns = Turns(1, most, _TAKEN)

    @property
    def waiting(self) -> int:
        """The bytes of all of them."""
        return self._turns.waiting

    def made(self, size: int, caller: str) -> ExitStack:
        """Count an answer of about this size, until the returned stack is closed or, after `held`, the answer is sent.

        Raise Refusal if clients have yet to take too much.
        """
        counted = ExitStack()
        if size > _SMALL:
            counted.enter_context(self._turns.admitted(size, caller))
        return counted

    def held(self, response: Response, counted: ExitStack) -> Response:
        """Return an answer that counts until it is sent."""
        return response if len(response.body) <= _SMALL else _Held(response, counted.pop_all())

    def any(self, response: Response, caller: str) -> Response:
        """Return a finished answer as one that counts until it is sent. Raise Refusal as `made` does."""
        if type(response) is not Response or len(response.body) <= _SMALL:
            return response
        with self.made(len(response.body), caller) as counted:
            return self.held(response, counted)


class _Held(Response):
    def __init__(self, response: Response, counted: ExitStack) -> None:
        super().__init__(None, response.status_code)
        self.body, self.raw_headers = bytes(response.body), response.raw_headers
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # Starlette's
        """Send it, and an empty end: a connection takes that when it has sent nearly all of the rest."""
        with self._counted:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self.body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
