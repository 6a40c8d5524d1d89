"""What the official conformance runner expects a server to have, added to the hub's own MCP server.

The names, texts and shapes are the runner's (`conformance list`, its README); nothing of this ships.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import anyio
from fastmcp import Context, FastMCP
from fastmcp.prompts import Message
from fastmcp.tools import Tool
from mcp.types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

PAUSE_SECONDS = 0.05
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _png() -> str:
    """A red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + data).decode()


def _wav() -> str:
    """A moment of silence."""
    sound = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8, b"data", 1) + b"\x80\0"
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(sound) + 4) + b"WAVE" + sound).decode()


def _text_resource(uri: str, kind: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=kind, text=text))


def _image() -> ImageContent:
    return ImageContent(type="image", data=_png(), mime_type="image/png")


def add(server: FastMCP[Any]) -> None:
    """Everything that the runner's scenarios call."""
    _add_tools(server)
    _add_resources(server)
    _add_prompts(server)


def _add_tools(server: FastMCP[Any]) -> None:
    @server.tool(output_schema=None)
    def test_simple_text() -> str:
        """Answers with a text."""
        return "This is a simple text response for testing."

    @server.tool(output_schema=None)
    def test_image_content() -> ImageContent:
        """Answers with an image."""
        return _image()

    @server.tool(output_schema=None)
    def test_audio_content() -> AudioContent:
        """Answers with a sound."""
        return AudioContent(type="audio", data=_wav(), mime_type="audio/wav")

    @server.tool(output_schema=None)
    def test_embedded_resource() -> EmbeddedResource:
        """Answers with a resource."""
        return _text_resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")

    @server.tool(output_schema=None)
    def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
        """Answers with a text, an image and a resource."""
        resource = _text_resource("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
        return [TextContent(type="text", text="Multiple content types test:"), _image(), resource]

    @server.tool(output_schema=None)
    async def test_tool_with_logging(ctx: Context) -> str:
        """Logs while it works."""
        await ctx.info("Tool execution started")
        await anyio.sleep(PAUSE_SECONDS)
        await ctx.info("Tool processing data")
        await anyio.sleep(PAUSE_SECONDS)
        await ctx.info("Tool execution completed")
        return "Logged three times"

    @server.tool(output_schema=None)
    async def test_tool_with_progress(ctx: Context) -> str:
        """Tells how far it is."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100)
            await anyio.sleep(PAUSE_SECONDS)
        return "Told three times how far it was"

    @server.tool(output_schema=None)
    def test_error_handling() -> str:
        """Fails."""
        from fastmcp.exceptions import ToolError

        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(output_schema=None)
    async def test_reconnection(ctx: Context) -> str:
        """Closes its stream in mid-call."""
        await ctx.close_sse_stream()
        await anyio.sleep(PAUSE_SECONDS)
        return "Reconnection test completed successfully"

    def json_schema_2020_12_tool(name: str = "", address: dict[str, str] | None = None) -> str:
        """Tool with JSON Schema 2020-12 features"""
        return f"{name} {address}"

    street = {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}}
    schema = {
        "$schema": DIALECT,
        "type": "object",
        "$defs": {"address": street},
        "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
        "additionalProperties": False,
    }
    tool = Tool.from_function(json_schema_2020_12_tool, output_schema=None)
    server.add_tool(tool.model_copy(update={"parameters": schema}))


def _add_resources(server: FastMCP[Any]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        """An image."""
        return base64.b64decode(_png())

    @server.resource("test://watched-resource", mime_type="text/plain")
    def watched_resource() -> str:
        """A text that could change."""
        return "Watched resource content"

    @server.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 (the runner's name)
        """Data of one id."""
        return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


def _add_prompts(server: FastMCP[Any]) -> None:
    @server.prompt
    def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:
        """A prompt with a resource."""
        resource = _text_resource(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [Message(resource), Message("Please process the embedded resource above.")]

    @server.prompt
    def test_prompt_with_image() -> list[Message]:
        """A prompt with an image."""
        return [Message(_image()), Message("Please analyze the image above.")]

    @server.completion
    def complete(ref: Any, argument: Any, context: Any) -> Completion:
        """Completes every argument in the same way."""
        return Completion(values=[v for v in ("paris", "park", "party") if v.startswith(argument.value)], total=3)
