"""Generates JSON Schemas of msgspec types for OpenAPI and AsyncAPI."""

from __future__ import annotations

import inspect
import types
from typing import Any, get_args, get_origin

import msgspec

Json = dict[str, Any]
REF = "#/components/schemas/"


class About(msgspec.Struct, frozen=True):
    """What the documents say of one server.

    Attributes:
        version: of Usher.
        public_url: an origin, perhaps with a path.
        access_cookie: name of the cookie with the access token.
        refresh_cookie: name of the cookie with the refresh token.
    """

    version: str
    public_url: str
    access_cookie: str
    refresh_cookie: str


class Schemas:
    """Returns references to schemas (JSON Schema 2020-12) and collects what they refer to."""

    def __init__(self) -> None:
        self.components: dict[str, Json] = {}

    def of(self, described: Any) -> Json:
        """The schema of a type; structs by reference.

        Raises:
            ValueError: two types of one name: in the docs they would be one.
        """
        if get_origin(described) is types.UnionType:
            # msgspec does not describe a union of plain structs, as it could not decode one.
            return {"anyOf": [self.of(member) for member in get_args(described)]}
        (schema,), found = msgspec.json.schema_components((described,), ref_template=REF + "{name}")
        _rewrite_patterns([schema, found])
        for name, component in found.items():
            text = component.get("description")
            if text is not None:
                component["description"] = inspect.cleandoc(text).replace("\n", " ")
            if self.components.setdefault(name, component) != component:
                raise ValueError(f"two types are called {name}")
        return schema


def _rewrite_patterns(value: Any) -> None:
    """Say patterns in the words of ECMA-262, as JSON Schema does: it has no `\\A` or `\\Z`."""
    if isinstance(value, dict):
        pattern = value.get("pattern")
        if isinstance(pattern, str):
            value["pattern"] = pattern.replace(r"\A", "^").replace(r"\Z", "$")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _rewrite_patterns(item)
