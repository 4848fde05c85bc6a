"""`POST /api/v1/auth/token`, and what its access tokens are good for."""

import base64
import json
import time
from types import SimpleNamespace

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tenants import authentication, principals, tokens
from tenants.access import Role
from tenants.models import AuditEntry, Membership
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.members import api_of, log_in
from tests.support.factories.rows import make_member
from tests.support.passwords import PASSWORD

OPERATION = "auth_token"
PATH = "/api/v1/workflows"
pytestmark = pytest.mark.api


def test_a_member_gets_an_access_token_for_a_quarter_of_an_hour(tenant):
    member = make_member(tenant)
    response = log_in(member)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    body = read(response)
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert Api(body["access_token"]).get(PATH).status_code == 200
    claims = jwt.decode(body["access_token"], options={"verify_signature": False})
    assert (claims["sub"], claims["tenant"]) == (str(member.user_id), str(tenant.pk))
    assert claims["exp"] - claims["iat"] == 900


def test_a_login_is_in_the_audit(tenant):
    member = make_member(tenant)
    log_in(member)
    entry = AuditEntry.objects.for_tenant(tenant).get(action="session.started")
    assert entry.actor == str(member.user_id)


def test_a_member_may_do_what_the_role_may(tenant):
    viewer, editor = api_of(make_member(tenant, Role.VIEWER)), api_of(make_member(tenant, Role.EDITOR))
    document = "version: 2\nname: made\nnodes: [{id: a, type: log, config: {message: x}}]"
    assert_problem(viewer.post(PATH, document, "application/yaml"), 403, "forbidden")
    assert editor.post(PATH, document, "application/yaml").status_code == 201


@pytest.mark.parametrize("wrong", ["username", "password", "tenant"])
def test_a_refusal_does_not_reveal_what_was_wrong(tenant, wrong: str):
    response = log_in(make_member(tenant), **{wrong: "something-else"})
    assert_problem(response, 401, "login_failed")
    assert_same_answer(response, log_in(make_member(tenant), password="also wrong"))


def test_it_hides_other_tenants(tenant, other_tenant):
    member = make_member(tenant)
    assert_same_answer(log_in(member, tenant=other_tenant.slug), log_in(member, tenant="no-such-tenant"))


def test_a_user_who_was_deactivated_cannot_log_in(tenant):
    member = make_member(tenant)
    member.user.is_active = False
    member.user.save()
    assert_problem(log_in(member), 401, "login_failed")


@pytest.mark.parametrize(
    "body", [{}, {"username": "a", "password": "b", "tenant": "not a slug"}, {"username": "a", "x": 1}]
)
def test_a_body_of_another_shape_is_refused(nobody: Api, body: dict[str, object]):
    assert_problem(nobody.post("/api/v1/auth/token", body), 422, "input_invalid")


def test_guessing_is_throttled_by_user(tenant):
    member = make_member(tenant)
    for _ in range(10):
        assert_problem(log_in(member, password="a guess"), 401, "login_failed")
    response = log_in(member, password=PASSWORD)
    assert_problem(response, 429, "too_many_failures")
    assert 1 <= int(response.headers["Retry-After"]) <= 60


def test_guessing_is_throttled_by_address(tenant):
    member = make_member(tenant)
    for number in range(30):
        assert_problem(log_in(member, username=f"user {number} of nobody"), 401, "login_failed")
    assert_problem(log_in(member), 429, "too_many_failures")


@pytest.mark.parametrize("change", ["removed", "deactivated", "suspended"])
def test_who_may_not_act_any_more_is_refused_at_once(tenant, change: str):
    member = make_member(tenant)
    api = api_of(member)
    assert api.get(PATH).status_code == 200
    if change == "removed":
        member.delete()
    elif change == "suspended":
        tenant.suspend()
    else:
        member.user.is_active = False
        member.user.save()
        Membership.objects.for_tenant(tenant).get().save()
    assert_problem(api.get(PATH), 401, "authentication_failed")


def test_another_role_holds_at_once(tenant):
    member = make_member(tenant, Role.EDITOR)
    api = api_of(member)
    document = "version: 2\nname: made\nnodes: [{id: a, type: log, config: {message: x}}]"
    assert api.post(PATH, document, "application/yaml").status_code == 201
    member.role = Role.VIEWER.value
    member.save()
    assert_problem(api.post(PATH, document, "application/yaml"), 403, "forbidden")


def test_a_change_in_another_process_holds_at_once(tenant, monkeypatch):
    """The change comes from the database, not from this process' own cache."""
    member = make_member(tenant)
    api = api_of(member)
    assert api.get(PATH).status_code == 200
    monkeypatch.setattr("tenants.models.cache", SimpleNamespace(outdate=lambda _: None))
    member.delete()
    assert_problem(api.get(PATH), 401, "authentication_failed")


def _claims(member: Membership, **changed: object) -> dict[str, object]:
    original = read(log_in(member))["access_token"]
    claims = jwt.decode(original, options={"verify_signature": False}) | changed
    return {name: value for name, value in claims.items() if value is not None}


def _signed(claims: dict[str, object], key: object = None, algorithm: str = "EdDSA", **header: object) -> str:
    ring = tokens.keyring()
    head = {"kid": ring.kid, "typ": "at+jwt"} | header
    return jwt.encode(claims, key or ring.signer, algorithm, {k: v for k, v in head.items() if v is not None})


BAD_CLAIMS = {
    "expired": {"exp": int(time.time()) - 60},
    "not yet": {"nbf": int(time.time()) + 86_400},
    "of the future": {"iat": int(time.time()) + 86_400},
    "of another issuer": {"iss": "somebody"},
    "for somebody else": {"aud": "another-api"},
    "for ever": {"exp": None},
    "for nobody": {"sub": None},
    "of no session": {"sid": None},
    "of a made up session": {"sid": "00000000-0000-7000-8000-000000000000"},
    "of no tenant": {"tenant": None},
    "of a strange tenant": {"tenant": "x"},
    "of a strange user": {"sub": "x"},
}


@pytest.mark.parametrize("case", BAD_CLAIMS)
def test_a_token_with_wrong_claims_is_refused(tenant, case: str):
    token = _signed(_claims(make_member(tenant), **BAD_CLAIMS[case]))
    assert_problem(Api(token).get(PATH), 401, "authentication_failed")


def test_a_token_of_one_tenant_is_none_of_another(tenant, other_tenant):
    token = _signed(_claims(make_member(tenant), tenant=str(other_tenant.pk)))
    assert_problem(Api(token).get(PATH), 401, "authentication_failed")


def test_no_other_key_and_no_other_algorithm_is_accepted(tenant):
    claims = _claims(make_member(tenant))
    ring = tokens.keyring()
    public = ring.keys[ring.kid].public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "at+jwt", "kid": ring.kid}, claims)
    )
    # PyJWT itself refuses to sign with a public key as a secret; an attacker's tool does not.
    confused = _hmac_signed({"alg": "HS256", "typ": "at+jwt", "kid": ring.kid}, claims, public)
    forged = [
        f"{unsigned}.",
        confused,
        _signed(claims, ed25519.Ed25519PrivateKey.generate()),
        _signed(claims, ec.generate_private_key(ec.SECP256R1()), "ES256"),
        _signed(claims, rsa.generate_private_key(65537, 2048), "RS256"),
        _signed(claims, kid=None),
        _signed(claims, kid="another"),
        _signed(claims, typ="JWT"),
        _signed(claims)[:-4] + "AAAA",
    ]
    assert Api(_signed(claims)).get(PATH).status_code == 200
    for token in forged:
        assert_problem(Api(token).get(PATH), 401, "authentication_failed")


def _hmac_signed(header: dict[str, object], claims: dict[str, object], secret: bytes) -> str:
    import hmac

    body = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)
    )
    signature = base64.urlsafe_b64encode(hmac.digest(secret, body.encode(), "sha256")).rstrip(b"=").decode()
    return f"{body}.{signature}"


def _pem(key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_the_key_is_rotated_without_logging_anybody_out(tenant, settings):
    old, new = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
    settings.PYFLOW_JWT_PRIVATE_KEY = _pem(old)
    before = api_of(make_member(tenant))
    settings.PYFLOW_JWT_PRIVATE_KEY = _pem(new)
    assert_problem(before.get(PATH), 401, "authentication_failed")
    settings.PYFLOW_JWT_PUBLIC_KEYS = (
        old.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode().replace("\n", "\\n")
    )
    assert before.get(PATH).status_code == 200
    token = read(log_in(make_member(tenant)))["access_token"]
    assert jwt.get_unverified_header(token)["alg"] == "ES256"
    assert Api(token).get(PATH).status_code == 200


def test_without_a_key_there_are_no_tokens(tenant, settings):
    member = make_member(tenant)
    api = api_of(member)
    settings.PYFLOW_JWT_PRIVATE_KEY = ""
    assert_problem(log_in(member), 503, "tokens_disabled")
    assert_problem(api.get(PATH), 401, "authentication_failed")


def test_its_queries_are_counted(tenant, django_assert_num_queries):
    member = make_member(tenant)
    log_in(member)  # the first login hashes the password anew
    # The user, the tenant, the membership; the refresh token; the audit's head, entry and new end.
    with django_assert_num_queries(7):
        assert log_in(member).status_code == 200


def test_a_token_costs_no_query_while_it_is_believed(tenant, django_assert_num_queries):
    api = api_of(make_member(tenant))
    with django_assert_num_queries(3):  # its member, its session; the workflows
        api.get(PATH)
    with django_assert_num_queries(1):
        api.get(PATH)


def test_a_token_is_not_believed_beyond_its_expiry(tenant, monkeypatch, django_assert_num_queries):
    """It is checked again by then, however long others are believed."""
    monkeypatch.setattr(authentication, "CACHE_SECONDS", 600.0)
    api = Api(_signed(_claims(make_member(tenant), exp=int(time.time()) - tokens.LEEWAY + 300)))
    assert api.get(PATH).status_code == 200
    with django_assert_num_queries(1):
        api.get(PATH)
    monkeypatch.setattr(principals, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 300))
    with django_assert_num_queries(3):
        api.get(PATH)
