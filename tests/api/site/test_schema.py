"""`GET /api/v1/schema`: the OpenAPI document, and what it promises about every operation."""

import json
import re
from collections.abc import Iterator
from itertools import permutations

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.api import Api, assert_problem, read

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def document():
    response = Api().get("/api/v1/schema", accept="application/vnd.oai.openapi+json")
    assert response.status_code == 200
    return read(response)


@pytest.fixture(scope="module")
def operations(document):
    return {
        operation["operationId"]: operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    }


def parts(value, path: str = "") -> Iterator[tuple[str, dict]]:
    """Every object of a document with its path, examples and defaults left out: those are values."""
    if isinstance(value, dict):
        yield path, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        if name not in {"default", "example", "examples", "value"}:
            yield from parts(child, f"{path}/{name}")


def fits(document, schema: dict, value) -> bool:
    """Whether a value is one of a schema, which may refer to the document's components."""
    whole = schema | {"components": document["components"]}
    return bool(Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value))


@pytest.fixture(scope="module")
def schemas(document) -> list[tuple[str, dict]]:
    return [(path, part) for path, part in parts(document) if not path.endswith("/properties")]


def test_every_component_is_a_json_schema(document):
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_default_may_be_sent(document, schemas):
    wrong = [path for path, schema in schemas if "default" in schema and not fits(document, schema, schema["default"])]
    assert not wrong


def test_every_example_fits_its_schema(document, schemas):
    seen = 0
    for path, part in schemas:
        if not isinstance(part.get("schema"), dict):
            continue
        values = [part["example"]] if "example" in part else []
        values += [example["value"] for example in part.get("examples", {}).values()]
        assert all(fits(document, part["schema"], value) for value in values), path
        seen += len(values)
    assert seen >= 10


def test_an_enum_allows_null_as_its_type_does(schemas):
    for path, schema in schemas:
        if isinstance(schema.get("enum"), list):
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            assert (None in schema["enum"]) == ("null" in types), path


def test_of_a_union_only_one_alternative_fits(document, schemas):
    """`null` fits "one of anything and null" twice, and so does not fit."""
    for path, schema in schemas:
        alternatives = schema.get("oneOf", [])
        assert not any(fits(document, one, None) for one in alternatives if one != {"type": "null"}), path
        required = [
            set(document["components"]["schemas"][one["$ref"].rpartition("/")[2]].get("required", ()))
            for one in alternatives
            if "$ref" in one
        ]
        assert len(required) < 2 or all(a - b for a, b in permutations(required, 2)), path


def test_every_body_has_a_name(operations):
    """Generated clients name a type after it; two without a name for one operation clash."""
    for name, operation in operations.items():
        bodies = [media["schema"] for media in operation.get("requestBody", {}).get("content", {}).values()]
        assert all(body.get("items", body).keys() == {"$ref"} for body in bodies), name


def test_no_two_operations_or_components_have_one_name(document):
    ids = [part["operationId"] for _, part in parts(document["paths"]) if "operationId" in part]
    assert len(set(ids)) == len(ids)
    names = [name.lower().replace("_", "") for name in document["components"]["schemas"]]
    assert len(set(names)) == len(names), "generators write all of them alike"


def test_it_is_openapi_3_1(document):
    assert document["openapi"].startswith("3.1")
    assert document["info"]["title"] == "PyFlow"
    assert "/api/v1/workflows/{name}/runs" in document["paths"]


def test_it_is_yaml_unless_asked_otherwise(nobody: Api):
    response = nobody.get("/api/v1/schema")
    assert response.status_code == 200
    assert response.content.startswith(b"openapi: 3.1")


def test_every_operation_says_what_it_does_and_which_problems_it_answers(operations):
    assert len(operations) >= 9
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        problems = [
            status
            for status, response in operation["responses"].items()
            if status >= "4" and any("problem" in media for media in response.get("content", {}))
        ]
        assert "406" in problems, name
        if operation.get("security"):
            assert "401" in problems, name
        if "requestBody" in operation:
            assert {"400", "413", "415", "422"} <= set(problems), name
            assert "application/yaml" in operation["requestBody"]["content"], name


def test_every_operation_answers_json_and_yaml(operations):
    for name, operation in operations.items():
        done, success = next(item for item in operation["responses"].items() if item[0] < "3")
        if done == "204":  # there is nothing to say
            continue
        assert set(success["content"]) >= {"application/json", "application/yaml"}, name


def test_only_health_and_logging_in_are_open_to_anybody(operations):
    assert {name for name, operation in operations.items() if not operation.get("security")} == {
        "health_live",
        "health_ready",
        "auth_token",
        "auth_refresh",
        "auth_revoke",
        "auth_jwks",
        "invitations_accept",
    }


def test_every_answer_is_described_with_the_headers_that_it_has(document, operations):
    described = document["components"]["headers"]
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            headers = response["headers"]
            assert {"X-Request-ID", "RateLimit-Policy", "RateLimit"} <= headers.keys(), (name, status)
            references = [header["$ref"].rpartition("/")[2] for header in headers.values() if "$ref" in header]
            assert set(references) <= described.keys()
            assert ("Retry-After" in headers) >= (status == "429"), name
            assert ("WWW-Authenticate" in headers) == (status == "401"), name


def test_refusals_for_quotas_are_described_where_they_can_be(operations):
    described = {name: item["responses"]["402"] for name, item in operations.items() if "402" in item["responses"]}
    assert described.keys() == {
        "runs_start",
        "runs_rerun",
        "schedules_fire",
        "webhooks_create",
        "workflows_create",
        "workflows_put",
        "workflows_patch",
        "versions_create",
        "versions_put",
        "versions_publish",
        "versions_rollback",
    }
    assert "`runs_per_day`" in described["runs_start"]["description"]
    assert "Retry-After" in described["runs_start"]["headers"]
    assert "Retry-After" not in described["workflows_put"]["headers"], "waiting makes no room for workflows"
    for name in described:
        assert "403" in operations[name]["responses"], name


def test_whoever_needs_a_credential_may_ask_too_often(operations):
    for name, operation in operations.items():
        assert "429" in operation["responses"] or not operation.get("security"), name


def test_what_refuses_unknown_fields_says_so(document):
    shapes = document["components"]["schemas"]
    strict = {"StartRunRequest", "CreateSecretRequest", "RerunRequest", "CreateKeyRequest", "DryRunRequest"}
    assert {name for name in strict if shapes[name].get("additionalProperties") is False} == strict
    assert "additionalProperties" not in shapes["RunShape"], "answers may get new fields"


def test_what_a_patch_needs_is_required(document, operations):
    for name, needed in {"members_update": "role", "tenant_update": "name"}.items():
        reference = operations[name]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        assert document["components"]["schemas"][reference.rpartition("/")[2]]["required"] == [needed]


def test_the_document_has_the_pattern_of_an_idempotency_key(operations):
    [parameter] = [item for item in operations["runs_start"]["parameters"] if item["name"] == "Idempotency-Key"]
    pattern = re.compile(parameter["schema"]["pattern"])
    assert pattern.search("0198b2f0-7c3a")
    assert not any(pattern.search(key) for key in ("", "a b", "ключ", "x" * 256, "x\t"))


@pytest.mark.parametrize(("format", "media_type"), [("json", "application/json"), ("yaml", "application/yaml")])
def test_its_format_can_be_chosen_in_the_address(nobody: Api, document, format: str, media_type: str):
    found = set()
    for accept in ("*/*", "text/html", "application/vnd.oai.openapi"):
        response = nobody.get(f"/api/v1/schema?format={format}", accept=accept)
        assert (response.status_code, response["Content-Type"].partition(";")[0]) == (200, media_type)
        found.add(response.content)
    assert len(found) == 1  # reading one is seconds of YAML
    assert read_as(response, format) == document


def read_as(response, format: str):
    return {"json": json.loads, "yaml": yaml.safe_load}[format](response.content)


@pytest.mark.parametrize("query", ["version=2", "lang=de", "format=xml", "format="])
def test_no_parameter_makes_another(nobody: Api, query: str):
    assert_problem(nobody.get(f"/api/v1/schema?{query}"), 422, "input_invalid")


def test_it_is_made_once_a_process(nobody: Api, monkeypatch):
    first = nobody.get("/api/v1/schema")
    monkeypatch.setattr("drf_spectacular.generators.SchemaGenerator.get_schema", None)
    again = nobody.get("/api/v1/schema")
    assert (again.status_code, again.content, again["Content-Type"]) == (200, first.content, first["Content-Type"])
    assert again["Content-Disposition"] == 'inline; filename="PyFlow.yaml"'


def test_head_and_options(nobody: Api):
    assert nobody.send("HEAD", "/api/v1/schema?format=json")["Content-Type"].startswith("application/json")
    assert nobody.send("OPTIONS", "/api/v1/schema")["Allow"] == "GET, HEAD, OPTIONS"
