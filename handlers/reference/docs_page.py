"""Renders the reference as an HTML page from the OpenAPI and AsyncAPI documents alone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from tornado.escape import xhtml_escape
from tornado.template import Loader

from handlers.reference.openapi import METHODS
from handlers.reference.schemas import REF, Json

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
ONE_LINE = 40
"""Maximum length of a shape on one line, in characters, so that it fits on a phone."""
UNIONS = ("anyOf", "oneOf")


class Form(msgspec.Struct, frozen=True):
    """One variant of a body or frame: its shape as text, with notes in HTML."""

    shape: str
    notes: list[str]


class Part(msgspec.Struct, frozen=True):
    """One body of a call or event: a label, and its variants."""

    label: str
    forms: list[Form]


class Refused(msgspec.Struct, frozen=True):
    """An error status, with its description in HTML."""

    status: str
    text: str


class Call(msgspec.Struct, frozen=True):
    """One operation. `summary` and `text` are HTML."""

    anchor: str
    method: str
    path: str
    summary: str
    text: str
    needs: str
    parameters: list[tuple[str, str]]
    parts: list[Part]
    refused: list[Refused]


class Event(msgspec.Struct, frozen=True):
    """One event of the socket. `summary` is HTML."""

    anchor: str
    name: str
    summary: str
    parts: list[Part]
    refused: list[str]


def reference_page(openapi: Json, asyncapi: Json) -> bytes:
    """The page, as UTF-8."""
    template = Loader(str(TEMPLATES)).load("docs.html")
    return template.generate(
        root=urlsplit(openapi["servers"][0]["url"]).path,
        openapi=openapi,
        asyncapi=asyncapi,
        groups=list(_groups(openapi)),
        client_events=list(_client_events(asyncapi)),
        server_events=list(_server_events(asyncapi)),
        to_html=to_html,
        paragraphs=paragraphs,
    )


# ---- text ----------------------------------------------------------------------------------


def to_html(text: str) -> str:
    """Convert plain text to HTML, with text in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", xhtml_escape(text))


def paragraphs(text: str) -> list[str]:
    """Convert each paragraph to HTML."""
    return [to_html(part) for part in text.split("\n\n")]


class Shapes:
    """Writes schemas in a short, JSON-like form, and collects their descriptions."""

    def __init__(self, components: dict[str, Json]) -> None:
        self._components = components
        self.notes: list[str] = []

    def write(self, schema: Json, indent: str = "") -> str:
        """Write one schema. Referenced structs are written inline."""
        if "$ref" in schema:
            return self.write(self._component(schema["$ref"]), indent)
        if "const" in schema:
            return json.dumps(schema["const"])
        if "enum" in schema:
            return " | ".join(json.dumps(value) for value in schema["enum"])
        for union in UNIONS:
            if union in schema:
                return " | ".join(self.write(member, indent) for member in schema[union])
        if schema.get("type") == "array":
            return f"[{self.write(schema.get('items', {}), indent)}, …]"
        if schema.get("properties"):
            return self._object(schema, indent)
        kind = schema.get("type", "any")
        return kind if isinstance(kind, str) else " | ".join(kind)

    def _object(self, schema: Json, indent: str) -> str:
        inner = indent + "  "
        needed = schema.get("required", ())
        fields = [
            f"{name}{'' if name in needed else '?'}: {self.write(field, inner)}{_default(field)}"
            for name, field in schema["properties"].items()
        ]
        line = "{ " + ", ".join(fields) + " }"
        if len(line) + len(indent) <= ONE_LINE and "\n" not in line:
            return line
        return "{\n" + "".join(f"{inner}{field}\n" for field in fields) + indent + "}"

    def _component(self, ref: str) -> Json:
        component = self._components[ref.removeprefix(REF)]
        note = component.get("description", "")
        # Of nested components, only descriptions that mention fields.
        if note and (not self.notes or "`" in note) and to_html(note) not in self.notes:
            self.notes.append(to_html(note))
        return component


def _default(field: Json) -> str:
    default = field.get("default")
    return "" if default is None else f" = {json.dumps(default)}"


def _part(label: str, schema: Json, components: dict[str, Json]) -> Part:
    members = next((schema[union] for union in UNIONS if union in schema), [schema])
    return Part(label, [_form(member, components) for member in members])


def _form(schema: Json, components: dict[str, Json]) -> Form:
    shapes = Shapes(components)
    return Form(shapes.write(schema), shapes.notes)


# ---- HTTP ----------------------------------------------------------------------------------


def _groups(openapi: Json) -> Iterator[tuple[str, str, str, list[Call]]]:
    """Anchor, name, description and calls of each tag."""
    calls: dict[str, list[Call]] = {}
    for path, item in openapi["paths"].items():
        for method in METHODS:
            if method in item:
                described = item[method]
                call = _call(openapi, path, method, described, item.get("parameters", []))
                calls.setdefault(described["tags"][0], []).append(call)
    for tag in openapi["tags"]:
        name = tag["name"]
        yield _anchor(name), name, to_html(tag["description"]), calls.get(name, [])


def _call(openapi: Json, path: str, method: str, described: Json, shared: list[Json]) -> Call:
    parameters = [*shared, *described.get("parameters", [])]
    return Call(
        anchor=described["operationId"],
        method=method.upper(),
        path=path,
        summary=to_html(described["summary"]),
        text=to_html(described.get("description", "")),
        needs=_describe_security(described["security"]),
        parameters=[(p["name"], to_html(p["description"])) for p in parameters],
        parts=list(_call_parts(described, openapi["components"]["schemas"])),
        refused=[
            Refused(status, to_html(response["description"]))
            for status, response in described["responses"].items()
            if status.startswith(("4", "5"))
        ],
    )


def _call_parts(described: Json, components: dict[str, Json]) -> Iterator[Part]:
    body = described.get("requestBody")
    if body is not None:
        ((media_type, media),) = body["content"].items()
        label = "Body" if media_type == "application/json" else "Form"
        yield _part(label, media["schema"], components)
    for status, response in described["responses"].items():
        if not status.startswith(("1", "2", "3")):
            continue
        content: dict[str, Any] = response.get("content", {})
        if not content:
            yield Part(f"Returns {status}", [Form("", [to_html(response["description"])])])
        for media_type, media in content.items():
            if media_type == "application/json":
                yield _part(f"Returns {status}", media["schema"], components)
            else:
                yield Part(f"Returns {status}", [Form(media_type, [])])


def _describe_security(security: list[Json]) -> str:
    names = {name for choice in security for name in choice}
    if not names:
        return "no sign-in"
    if "ticket" in names:
        return "an access token, a ticket, the cookie, or `user-join` after opening"
    if names == {"refresh_cookie"}:
        return "a refresh token, in the body or the cookie"
    scopes = [scope for choice in security for scope in choice.get("api_key", ())]
    if scopes:
        return f"an administrator's access token, or an API key with the scope {scopes[0]}"
    if any("admin" in choice.get("bearer", ()) for choice in security):
        return "an administrator's access token"
    return "an access token"


# ---- the socket ----------------------------------------------------------------------------


def _client_events(asyncapi: Json) -> Iterator[Event]:
    components = asyncapi["components"]["schemas"]
    messages = asyncapi["components"]["messages"]
    for name, described in asyncapi["operations"].items():
        if described["action"] != "receive":
            continue
        good, bad = messages[f"{name}.reply"]["payload"]["oneOf"]
        data = messages[name]["payload"]["properties"]["data"]
        yield Event(
            anchor=f"client-event-{name}",
            name=name,
            summary=to_html(messages[name]["summary"]),
            parts=[
                *([_part("Data", data, components)] if data else []),
                _part("Reply", good["properties"]["data"], components),
            ],
            refused=bad["properties"]["error"]["allOf"][1]["properties"]["code"]["enum"],
        )


def _server_events(asyncapi: Json) -> Iterator[Event]:
    components = asyncapi["components"]["schemas"]
    for key, described in asyncapi["operations"].items():
        if described["action"] != "send":
            continue
        message = asyncapi["components"]["messages"][key]
        payload = message["payload"]
        # An event with more members than its data is shown completely.
        whole = "oneOf" in payload or "room" in payload["properties"]
        shown, label = (payload, "Frame") if whole else (payload["properties"]["data"], "Data")
        yield Event(
            anchor=f"server-event-{message['name']}",
            name=message["name"],
            summary=to_html(message["summary"]),
            parts=[_part(label, shown, components)],
            refused=[],
        )


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
