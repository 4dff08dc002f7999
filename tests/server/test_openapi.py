"""The OpenAPI document: valid, complete, free of Python's own regular expressions, with examples that fit."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI

from server import openapi
from server.admin.app import add_admin_routes
from server.api import create_app
from server.errors import BY_CODE


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Of the data port with the admin routes; the routes' parts are not needed to describe them."""

    class Nothing:
        def __getattr__(self, name: str) -> Any:
            return Nothing() if name != "version" else "0"

        def __call__(self, *arguments: Any, **named: Any) -> Any:
            return Nothing()

    app = create_app(Nothing())  # type: ignore[arg-type]
    add_admin_routes(app, Nothing(), Nothing())  # type: ignore[arg-type]
    return app.openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema that stands alone."""
    return {**schema, "components": document["components"]}


def test_it_is_openapi_3_1_and_every_reference_resolves(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    for name in set(re.findall(r"#/components/schemas/([^\"]+)", text)):
        assert name in document["components"]["schemas"]
    assert "x-carried" not in text
    assert "$defs" not in text


def test_every_operation_has_a_summary_words_a_tag_and_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) > 40
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)


def test_every_operation_says_what_any_of_them_may_answer(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        said = {status: answer["description"] for status, answer in operation["responses"].items()}
        assert "`method_not_allowed`" in said["405"], (method, path)
        if operation["security"]:
            assert "`unauthorized`" in said["401"], (method, path)
            assert "`suspended`" in said["403"], (method, path)
        if "requestBody" in operation:
            assert "`too_large`" in said["413"], (method, path)


def test_only_health_and_the_servers_name_need_no_key(document: dict[str, Any]) -> None:
    open_ones = {path for _, path, operation in operations(document) if not operation["security"]}
    assert open_ones == {"/v2", "/v2/health/live", "/v2/health/ready"}


def test_statuses_and_codes_belong_together(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            for code in re.findall(r"`([a-z_]+)`:", answer["description"]):
                assert BY_CODE[code].status == int(status), (method, path, code)


def test_every_example_fits_its_schema(document: dict[str, Any]) -> None:
    tried = 0
    for method, path, operation in operations(document):
        for part in [operation.get("requestBody", {}), *operation["responses"].values()]:
            for content in part.get("content", {}).values():
                if "schema" in content and "example" in content:
                    validator = jsonschema_rs.validator_for(resolved(document, content["schema"]))
                    assert not list(validator.iter_errors(content["example"])), (method, path, content["example"])
                    tried += 1
    assert tried > 100


def test_patterns_are_no_pythons_own(document: dict[str, Any]) -> None:
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(document))
    assert len(patterns) > 5
    assert not [pattern for pattern in patterns if "\\Z" in pattern]


def test_two_structs_of_one_name_are_noticed() -> None:
    import msgspec

    app = FastAPI()
    for path, field in (("/one", "a"), ("/two", "b")):
        kind = msgspec.defstruct("Same", [(field, int)])
        app.get(path, responses=openapi.answer(kind, {field: 1}))(lambda: None)
    with pytest.raises(ValueError, match="Same"):
        openapi.document(app)
