"""OpenAI's routes: /v1/models and /v1/embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_server.bodies import EmbeddingsRequest, cut, decode, embeddings, texts_of, truncates
from harrier_server.model import SPACE_HEADER
from harrier_server.naming import Said
from harrier_server.refusals import bad
from harrier_server.routes import JSON, Routes, answer
from harrier_server.state import State

AS_DIGITS, _AS_BASE64 = 12, 6  # bytes of a number in an answer, about


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""

    async def models(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        served = state.served
        return answer({"object": "list", "data": [served.described(name) for name in served.names.listed()]})

    async def model(request: Request, body: bytes) -> Response:  # noqa: ARG001
        served, name = state.served, request.path_params["name"]
        if name != served.names.name:
            served.names.role(Said(name))  # raises if there is no such model
        return answer(served.described(name))

    async def tokenizer(request: Request, body: bytes) -> Response:  # noqa: ARG001
        served = state.served
        if request.path_params["name"] != served.names.name:
            served.names.role(Said(request.path_params["name"]))
        return Response(await asyncio.to_thread(served.tokenizer), media_type="application/zip")

    async def encode(request: Request, body: bytes) -> Response:
        served = state.served
        served.check_space(request.headers)
        asked = decode(body, EmbeddingsRequest)
        role = served.names.role(Said(asked.model, asked.input_type, asked.task, asked.instruction))
        if asked.dimensions not in (None, served.space.dimensions):
            raise bad(
                f"the model's vectors have {served.space.dimensions} dimensions, and cannot be shortened to "
                f"{asked.dimensions}: it was not trained for it",
                "dimensions",
            )
        texts = texts_of(asked.input, state.limits.texts, "input")
        caller, truncate = state.caller(request), truncates(asked.truncate)
        a_number = _AS_BASE64 if asked.encoding_format == "base64" else AS_DIGITS
        with state.answers.made(len(texts) * served.space.dimensions * a_number, caller) as counted:
            encoded = await state.service.encode(texts, role, caller, truncate=truncate)
            headers = {SPACE_HEADER: served.digest, **cut(encoded)}
            own = SPACE_HEADER in request.headers
            more = {"tokens": list(encoded.tokens), "truncated": list(encoded.truncated)} if own else None
            written = embeddings(encoded, asked.model, asked.encoding_format, more)
            return state.answers.held(Response(written, headers=headers, media_type=JSON), counted)

    return [
        make.route("/v1/embeddings", "POST", encode),  # the first match is used
        make.route("/v1/models", "GET", models),
        make.route("/v1/models/{name}/tokenizer", "GET", tokenizer),
        make.route("/v1/models/{name}", "GET", model),
    ]
