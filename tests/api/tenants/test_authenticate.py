"""`Authorization: Bearer …` on any endpoint."""

import pytest
from django.utils import timezone

from tenants.keys import make_key
from tenants.principals import cache
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_workflow

PATH = "/api/v1/workflows"
pytestmark = pytest.mark.api


def test_a_key_acts_for_its_tenant(tenant):
    make_workflow(tenant)
    _, text = make_api_key(tenant)
    assert [item["name"] for item in read(Api(text).get(PATH))["results"]] == ["hello"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_the_scheme_is_read_in_any_case(tenant, scheme: str):
    _, text = make_api_key(tenant)
    assert Api().get(PATH, authorization=f"{scheme} {text}").status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Basic cm9vdDpyb290", "pyf_live_x", "Token pyf_live_x"])
def test_without_a_bearer_credential_it_says_what_is_missing(nobody: Api, header: str):
    response = nobody.get(PATH, authorization=header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


WRONG = {
    "made up": "pyf_live_0000000000000000_00000000000000000000000000000000AAAAAA",
    "well-formed and unknown": make_key().text,
    "empty": " ",
    "a NUL character (auth-009)": "pyf_live_\0...",
    "not ASCII (auth-009)": "pyf_live_\xff\xfe",
    "very long": "pyf_live_" + "a" * 8000,
    "two keys": "pyf_live_a pyf_live_b",
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_key_is_refused(nobody: Api, case: str):
    response = nobody.get(PATH, authorization=f"Bearer {WRONG[case]}")
    assert_problem(response, 401, "authentication_failed")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_all_refusals_are_alike(tenant, nobody: Api):
    """The answer does not reveal whether a key never existed, has ended or was revoked."""
    _, expired = make_api_key(tenant, expires_at=timezone.now())
    _, revoked = make_api_key(tenant, revoked_at=timezone.now())
    _, real = make_api_key(tenant)
    made = make_key()
    answers = [
        nobody.get(PATH, authorization=f"Bearer {text}") for text in (expired, revoked, made.text, real[:-1], "x")
    ]
    for answer in answers:
        assert_problem(answer, 401, "authentication_failed")
        assert_same_answer(answer, answers[0])


def test_a_key_in_the_address_is_no_credential(tenant, nobody: Api):
    """auth-013."""
    _, text = make_api_key(tenant)
    for name in ("api_key", "key", "token", "access_token"):
        assert_problem(nobody.get(f"{PATH}?{name}={text}"), 401, "not_authenticated")


def test_a_session_of_the_admin_is_no_credential(client, admin_user):
    client.force_login(admin_user)
    assert client.get(PATH).status_code == 401


def test_a_method_override_has_no_effect(api: Api, tenant):
    """auth-030."""
    make_workflow(tenant)
    plain = api.get(PATH)
    for name in ("X_HTTP_Method_Override", "X_Method_Override"):
        assert api.get(PATH, **{name: "DELETE"}).content == plain.content


def test_the_key_is_not_in_the_answer(tenant, nobody: Api):
    made = make_key()
    response = nobody.get(PATH, authorization=f"Bearer {made.text}")
    assert made.secret.encode() not in response.content


def test_checking_a_key_is_three_queries_and_then_none(tenant, django_assert_num_queries):
    _, text = make_api_key(tenant)
    api = Api(text)
    with django_assert_num_queries(4):  # the key; its tenant; the key as of that version; the workflows
        api.get(PATH)
    with django_assert_num_queries(1):
        api.get(PATH)
    cache.clear()
    with django_assert_num_queries(4):
        api.get(PATH)
