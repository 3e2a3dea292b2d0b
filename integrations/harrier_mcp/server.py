"""The server of an index, built on the protocol's own SDK: tools, and a resource for each record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server import CacheHint, Server
from mcp.shared.exceptions import MCPError

from harrier_core import __version__
from harrier_mcp.citing import SCHEME, record_of
from harrier_mcp.desk import Desk
from harrier_mcp.failures import Refused, told
from harrier_mcp.schemas import instructions, tools
from harrier_mcp.settings import Settings

if TYPE_CHECKING:
    from harrier_core import Index

_MOST = 1_000_000  # characters of a resource, which cannot be read in parts


def create_server(index: Index, settings: Settings | None = None) -> Server[Any]:
    """Return a server that offers an Index to assistants; `run` serves it, or any transport of the SDK.

    The owner of the Index has to close it.
    """
    chosen = settings or Settings()
    desk = Desk(index, chosen)

    async def list_tools(_: Any, __: Any) -> types.ListToolsResult:  # the SDK's
        return types.ListToolsResult(tools=tools(await desk.cards.latest(), chosen))

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            answer = await desk.call(params.name, params.arguments)
        except Exception as error:
            said = told(error, local=chosen.local)
            return types.CallToolResult(content=[types.TextContent(text=said)], is_error=True)
        if answer is None:
            raise MCPError(types.INVALID_PARAMS, "there is no such tool")
        text = json.dumps(answer, ensure_ascii=False)
        return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=answer)

    async def list_resources(_: Any, __: Any) -> types.ListResourcesResult:
        return types.ListResourcesResult(resources=[])  # there may be millions, and search finds them

    async def list_templates(_: Any, __: Any) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="record",
            title="A record",
            uri_template=f"{SCHEME}://{chosen.name}/{{id}}",
            description="The text of a record that search found, by its id.",
            mime_type="text/plain",
        )
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        uri = str(params.uri)
        text = await _text(desk, uri)
        return types.ReadResourceResult(
            contents=[types.TextResourceContents(uri=uri, mime_type="text/plain", text=text)]
        )

    return Server(
        f"harrier-{chosen.name}",
        version=__version__,
        title=chosen.about or f"Harrier: {chosen.name}",
        instructions=instructions(chosen),
        cache_hints={"tools/list": CacheHint(ttl_ms=int(chosen.limits.fresh * 1_000))},
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
    )


async def _text(desk: Desk, uri: str) -> str:
    """Return the text of the record that an address names. Raise MCPError if it cannot be read."""
    try:
        async with desk.turn():
            whole = await desk.whole(record_of(uri, desk.settings.name) or "")
        return _readable(whole.text)
    except Exception as error:
        raise MCPError(types.INVALID_PARAMS, told(error, local=desk.settings.local)) from None


def _readable(text: str) -> str:
    if len(text) > _MOST:
        raise Refused(f"the record has more than {_MOST:,} characters; fetch returns it in parts")
    return text
