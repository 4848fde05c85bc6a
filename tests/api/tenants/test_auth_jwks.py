"""`GET /api/v1/auth/jwks`."""

import jwt
import pytest

from tests.support.api import Api, read
from tests.support.factories.members import log_in
from tests.support.factories.rows import make_member

OPERATION = "auth_jwks"
PATH = "/api/v1/auth/jwks"
pytestmark = pytest.mark.api


def test_anybody_can_check_a_token_with_it(tenant, nobody: Api):
    token = read(log_in(make_member(tenant)))["access_token"]
    keys = jwt.PyJWKSet.from_dict(read(nobody.get(PATH)))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key.key, algorithms=["EdDSA"], audience="pyflow-api")["tenant"] == str(tenant.pk)


def test_it_has_no_private_part(nobody: Api):
    assert all(not {"d", "p", "q", "k"} & key.keys() for key in read(nobody.get(PATH))["keys"])


def test_it_is_empty_where_there_are_no_tokens(nobody: Api, settings):
    settings.PYFLOW_JWT_PRIVATE_KEY = ""
    assert read(nobody.get(PATH)) == {"keys": []}


def test_its_queries_are_counted(nobody: Api, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert nobody.get(PATH).headers["Cache-Control"] == "public, max-age=300"
