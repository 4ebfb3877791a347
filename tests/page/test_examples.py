"""Every example in the API's documentation is valid, and can be tried as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from app.config import Settings
from app.main import create_app
from tests.support.federation import ADMIN_KEY
from tests.support.plain_http import bearer
from tests.support.some import some

DOCUMENT = create_app(Settings(admin_key=ADMIN_KEY)).openapi()
REGISTRY: Registry = Registry().with_resource(
    "urn:api", Resource(contents=DOCUMENT, specification=DRAFT202012)
)
OPERATIONS = [
    (method, path)
    for path, operations in DOCUMENT["paths"].items()
    for method in operations
    if not path.endswith("/events")  # it may have no end
]


def rooted(node: Any) -> Any:
    """A part of the document, its references made to the whole one."""
    if isinstance(node, dict):
        return {
            key: f"urn:api{value}" if key == "$ref" else rooted(value)
            for key, value in node.items()
            if key != "discriminator"
        }
    return [rooted(n) for n in node] if isinstance(node, list) else node


def check(value: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(rooted(schema), registry=REGISTRY).validate(value)


def schemas_with_examples(node: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield where, node
        for key, value in node.items():
            if key not in ("examples", "default"):
                yield from schemas_with_examples(value, f"{where}/{key}")
    elif isinstance(node, list):
        for at, value in enumerate(node):
            yield from schemas_with_examples(value, f"{where}/{at}")


def sample(schema: dict[str, Any]) -> Any:
    """What a reader would send: the examples, and what has none is left to its default."""
    if "$ref" in schema:
        return sample(DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
    if schema.get("examples"):
        return schema["examples"][0]
    if "anyOf" in schema:  # a body that may be left out
        return sample(schema["anyOf"][0])
    if schema["type"] == "object":
        return {n: sample(schema["properties"][n]) for n in schema.get("required", ())}
    if schema["type"] == "array":
        return [sample(schema["items"])]
    return schema.get("minimum", 0)


def request_of(method: str, path: str, experiment: str) -> tuple[str, dict[str, Any]]:
    operation = DOCUMENT["paths"][path][method]
    query = {}
    for parameter in operation.get("parameters", ()):
        if parameter["name"] == "experiment_id":
            path = path.replace("{experiment_id}", experiment)
        elif parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(sample(parameter["schema"])))
        elif parameter["required"]:
            query[parameter["name"]] = sample(parameter["schema"])
    options: dict[str, Any] = {"params": query}
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        options["json"] = sample(content["application/json"]["schema"])
    elif content:
        options["content"] = b"bytes"
    return path, options


def test_the_document_is_openapi():
    validate(DOCUMENT)


@pytest.mark.parametrize(
    ("where", "schema"), [pytest.param(w, s, id=w) for w, s in schemas_with_examples(DOCUMENT)]
)
def test_an_example_is_valid(where, schema):
    plain = {key: value for key, value in schema.items() if key != "examples"}
    for example in schema["examples"]:
        check(example, plain)


def test_there_are_examples_to_check():
    assert len(list(schemas_with_examples(DOCUMENT))) > 30


async def test_every_operation_answers_its_example_as_declared(federation):
    """Once for an experiment that is not there, once for a running one, with the key that fits."""
    experiment, members = await federation.start(rounds=1)
    drawn = members[(await federation.cohort(experiment))[0]]
    enrolling, enrolment_key = await federation.create(clients=5)
    tried = {}
    # What deletes comes last, when the experiment is stopped: it leaves nothing to be asked.
    for method, path in sorted(some(OPERATIONS), key=lambda operation: operation[0] == "delete"):
        part = DOCUMENT["paths"][path][method].get("tags", [""])[0] == "Take part"
        subscribing = path.endswith("/clients") and method == "post"
        key = drawn.api.connection.key if part else ADMIN_KEY
        ids = ["20261124-101500-9f2c1a", enrolling if subscribing else experiment]
        for id_ in ids if "{experiment_id}" in path else ids[1:]:
            address, options = request_of(method, path, id_)
            fits = enrolment_key if subscribing and id_ == enrolling else key
            answer = await federation.http.request(method, address, headers=bearer(fits), **options)
            declared = DOCUMENT["paths"][path][method]["responses"]
            assert str(answer.status_code) in declared, (method, path, answer.text)
            for kind, content in declared[str(answer.status_code)].get("content", {}).items():
                found = answer.headers["content-type"]
                assert kind in (found, found.partition(";")[0])  # with its parameters or without
                if kind.endswith("json"):
                    check(answer.json(), content["schema"])
            tried[f"{method} {path}"] = answer.status_code
    below = "/v1/experiments/{experiment_id}"
    # What an example alone can bring about does succeed; the rest names hashes of other bytes.
    succeeding = {
        **{"post /v1/experiments": 201, f"post {below}/clients": 201, "get /v1/key": 204},
        **{f"get {below}": 200, f"get {below}/clients": 200, f"get {below}/models": 200},
        **{f"get {below}/models/latest": 200, f"get {below}/shard": 200},
        **{f"post {below}/pause": 200, f"post {below}/resume": 200},
        **{
            f"delete {below}": 204,
            f"get {below}/status": 200,
            f"post {below}/stop": 200,
            "get /v1/experiments": 200,
        },
    }
    assert {k: tried[k] for k in succeeding} == succeeding
