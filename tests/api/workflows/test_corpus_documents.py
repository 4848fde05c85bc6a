"""Every case of the corpus of documents, sent to the API: refused by a problem, and the server lives on."""

import pytest
from django.http import HttpResponse

from pyflow.core.errors import DocumentError
from pyflow.documents.reading import read_json, read_yaml
from tests.support import corpora
from tests.support.api import JSON, YAML, Api, assert_problem, read
from tests.support.corpora import yaml_json

WORKFLOWS, VALIDATE = "/api/v1/workflows", "/api/v1/workflows/validate"
REFUSALS = {"document_invalid", "document_too_large", "definition_invalid", "malformed"}
pytestmark = pytest.mark.api


@corpora.each("yaml_json")
def test_a_document_is_answered_by_no_error_of_ours(api: Api, case: corpora.Case):
    media_type = JSON if case["format"] == "json" else YAML
    stored, judged = _send(api, yaml_json.source(case), media_type)
    if corpora.is_text(case) and (inside := yaml_json.definition(case)) is not None:
        # The definition is the case; it is no document of ours as it stands.
        _assert_refused(stored, judged)
        stored, judged = _send(api, inside, JSON)
    if case["expect"] == "reject":
        _assert_refused(stored, judged)
    elif stored.status_code != 201:
        # Read it has to be; a workflow it is not. Without a version its scalars are those of version 1.
        assert corpora.is_text(case), read(stored)
        assert_problem(stored, *((422, "definition_invalid") if _reads_as_it_is(case) else (400, "document_invalid")))
        _assert_refused(stored, judged)
    assert api.get(WORKFLOWS).status_code == 200


def _send(api: Api, text: str, media_type: str) -> tuple[HttpResponse, HttpResponse]:
    body = text.encode("utf-8", "surrogatepass")
    return api.post(WORKFLOWS, body, media_type), api.post(VALIDATE, body, media_type)


def _reads_as_it_is(case: corpora.Case) -> bool:
    try:
        _ = read_json(corpora.text(case)) if case["format"] == "json" else read_yaml(corpora.text(case), scalars=None)
    except DocumentError:
        return False
    return True


def _assert_refused(stored: HttpResponse, judged: HttpResponse) -> None:
    assert 400 <= stored.status_code < 500
    problem = assert_problem(stored, stored.status_code, read(stored)["code"])
    assert problem["code"] in REFUSALS, problem
    for error in problem.get("errors", ()):
        assert error.get("line") is None or error["line"] >= 1
    if judged.status_code == 200:
        verdict = read(judged)
        assert not verdict["valid"]
        assert verdict["problems"]
    else:
        assert 400 <= judged.status_code < 500
        assert read(judged)["code"] in REFUSALS
