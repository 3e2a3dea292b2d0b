"""The routes of Text Embeddings Inference that its clients use: /embed, /info and /health.

A client that can set an address, but not a prompt name, sets the role by the address: /tei/NAME-query.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harrier_core import __version__
from harrier_server.bodies import EmbedRequest, cut, decode, dumped, texts_of
from harrier_server.model import SPACE_HEADER
from harrier_server.naming import Names, Role, Said
from harrier_server.openai import AS_DIGITS
from harrier_server.refusals import bad
from harrier_server.routes import JSON, Routes, answer
from harrier_server.state import State


def routes(make: Routes, state: State) -> Sequence[Route]:
    """Return the routes of a server."""

    async def embed(request: Request, body: bytes) -> Response:
        served = state.served
        served.check_space(request.headers)
        asked = decode(body, EmbedRequest)
        if asked.normalize is False:
            raise bad("vectors always have unit length; omit normalize", "normalize")
        if asked.truncation_direction in ("Left", "left"):
            raise bad("texts that are too long are cut at the end; omit truncation_direction", "truncation_direction")
        if asked.dimensions not in (None, served.space.dimensions):
            raise bad(f"the model's vectors have {served.space.dimensions} dimensions", "dimensions")
        role = _role(served.names, request.path_params.get("name"), asked.prompt_name)
        texts = texts_of(asked.inputs, state.limits.texts, "inputs")
        caller = state.caller(request)
        with state.answers.made(len(texts) * served.space.dimensions * AS_DIGITS, caller) as counted:
            encoded = await state.service.encode(texts, role, caller, truncate=bool(asked.truncate))
            headers = {SPACE_HEADER: served.digest, **cut(encoded)}
            response = Response(dumped(list(encoded.vectors)), headers=headers, media_type=JSON)
            return state.answers.held(response, counted)

    async def info(request: Request, body: bytes) -> Response:  # noqa: ARG001  # a handler's
        served = state.served
        return answer(
            {
                "model_id": served.space.model,
                "model_sha": served.space.revision,
                "model_dtype": served.space.dtype,
                "model_type": {"embedding": {"pooling": "last_token"}},
                "max_input_length": served.encoder.max_tokens,
                "max_client_batch_size": state.limits.texts,
                "version": __version__,
            }
        )

    async def health(request: Request, body: bytes) -> Response:  # noqa: ARG001
        return Response(status_code=503 if state.trouble else 200)

    return [
        make.route("/embed", "POST", embed, tei=True),
        make.route("/tei/{name}", "POST", embed, tei=True),
        make.route("/tei/{name}/embed", "POST", embed, tei=True),
        make.route("/info", "GET", info, tei=True),
        make.route("/health", "GET", health, tei=True, open_=True, traced=False),
    ]


def _role(names: Names, model: str | None, prompt_name: str | None) -> Role:
    """Return the role in the path or in a prompt name."""
    if model is None and prompt_name is None:
        raise bad(
            f"the texts have no role: post to /tei/{names.query}/embed or /tei/{names.document}/embed, or add "
            '"prompt_name": "query", "document" or the name of a task',
            "prompt_name",
            code="role_missing",
        )
    kind = prompt_name if prompt_name in ("query", "document", "passage") else None
    return names.role(Said(model or names.name, kind, None if kind else prompt_name))
