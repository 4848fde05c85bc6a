"""The written cases of the corpus of documents, sent to the API: refused by a problem, and the server lives on.

The generated ones are large; what is large is tried on the engine.
"""

from typing import Any

import pytest

from tests.support import corpora
from tests.support.api import JSON, YAML, Api, assert_problem, read

CASES = [case for case in corpora.load("yaml_json") if isinstance(case["input"], str)]
PATHS = ("/api/v1/workflows", "/api/v1/workflows/validate")
pytestmark = pytest.mark.database


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_document_is_answered_by_no_error_of_ours(api: Api, case: dict[str, Any]):
    media_type = JSON if case["format"] == "json" else YAML
    body = case["input"].encode("utf-8", "surrogatepass")
    stored, judged = (api.post(path, body, media_type) for path in PATHS)
    # None of the cases is a workflow: what may be read is still refused for that.
    assert 400 <= stored.status_code < 500
    problem = assert_problem(stored, stored.status_code, read(stored)["code"])
    if case["expect"] == "reject":
        assert problem["code"] in {"document_invalid", "document_too_large", "definition_invalid", "malformed"}, problem
    if judged.status_code == 200:
        verdict = read(judged)
        assert not verdict["valid"]
        assert verdict["problems"]
    else:
        assert 400 <= judged.status_code < 500
    for error in problem.get("errors", ()):
        assert error.get("line") is None or error["line"] >= 1
    assert api.get("/api/v1/workflows").status_code == 200
