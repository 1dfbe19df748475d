"""Both API descriptions in themselves: references, components and patterns."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]  # it has no types of its own
import pytest

from tests.docs.documents import Json, nodes


def found(document: Json, reference: str) -> Any:
    value: Any = document
    for step in reference.removeprefix("#/").split("/"):
        value = value[step.replace("~1", "/").replace("~0", "~")]
    return value


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_every_reference_leads_somewhere(name: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(name)
    references = {node["$ref"] for node in nodes(document) if "$ref" in node}
    assert references
    for reference in references:
        assert found(document, reference)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["openapi", "asyncapi"])
def test_every_component_is_a_schema_and_is_used(name: str, request: pytest.FixtureRequest) -> None:
    document = request.getfixturevalue(name)
    used = {node["$ref"].rpartition("/")[2] for node in nodes(document) if "$ref" in node}
    assert set(document["components"]["schemas"]) <= used
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_patterns_are_those_of_every_language(openapi: Json, asyncapi: Json) -> None:
    found = {node["pattern"] for node in nodes([openapi, asyncapi]) if "pattern" in node}
    assert len(found) > 1
    assert not any("\\A" in pattern or "\\Z" in pattern for pattern in found)
