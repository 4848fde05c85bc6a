"""`GET /api/v1/health/live`."""

import pytest

from tests.support.api import YAML, Api, assert_problem, read

OPERATION = "health_live"
PATH = "/api/v1/health/live"
pytestmark = pytest.mark.api


def test_it_answers_anybody(nobody: Api):
    response = nobody.get(PATH)
    assert response.status_code == 200
    assert read(response) == {"status": "ok"}


def test_a_wrong_key_does_not_matter(nobody: Api):
    assert nobody.get(PATH, authorization="Bearer wrong").status_code == 200


def test_it_answers_in_yaml(nobody: Api):
    assert nobody.get(PATH, accept=YAML).content == b"status: ok\n"


def test_a_trailing_slash_is_accepted(nobody: Api):
    assert nobody.get(PATH + "/").status_code == 200


def test_it_is_only_read(nobody: Api):
    assert_problem(nobody.post(PATH, {}), 405, "method_not_allowed")


def test_it_does_not_ask_the_database(nobody: Api, django_assert_num_queries):
    with django_assert_num_queries(0):
        nobody.get(PATH)
