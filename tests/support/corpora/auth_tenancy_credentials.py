"""Rules of the corpus `auth_tenancy` for credentials: keys and tokens of every kind that is none, wherever they stand.

A credential is described in words (`revoked`, `alg none`); the first pattern that they match says how it is made.
"""

import base64
import hmac
import json
import re
import string
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.apps import apps
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tenants import keys, tokens
from tenants.errors import UnscopedQueryError
from tenants.failures import PER_ADDRESS
from tenants.keys import make_key
from tenants.scoping import TenantOwned
from tests.support import corpora
from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.corpora.auth_tenancy import ROOT, AttackedTenants, Case, assert_refused, expected_status, rule, send
from tests.support.factories.members import log_in
from tests.support.factories.rows import HELLO, make_api_key, make_member, make_workflow

Match = re.Match[str]
Maker = Callable[[AttackedTenants, str], str]
NOWHERE = "01890000-0000-7000-8000-000000000000"
LATER, EARLIER = 86_400, -60
HEAD = {"alg": "EdDSA", "typ": tokens.TYPE}


# --- keys --------------------------------------------------------------------------------------------------------


def _with_wrong_secret(world: AttackedTenants, _: str) -> str:
    key, _text = make_api_key(world.a)
    body = f"pyf_live_{key.key_id}_{make_key().secret}"
    return body + keys._checksum(body)


def _with_one_character_changed(world: AttackedTenants, _: str) -> str:
    text = world.key()
    return text[:-1] + ("x" if text[-1] != "x" else "y")


def _of_a_removed_member(world: AttackedTenants, _: str) -> str:
    member = make_member(world.a)
    text = world.key(created_by=member.user)
    member.delete()
    return text


def _of_a_suspended_tenant(world: AttackedTenants, _: str) -> str:
    text = world.key(world.b)
    world.b.suspend()
    return text


def _of_a_length(_: AttackedTenants, words: str) -> str:
    found = re.search(r"([\d,]+)\s*(?:chars|characters|bytes)", words)
    return "pyf_live_".ljust(int(found[1].replace(",", "")) if found else 8000, "a")


KEYS: list[tuple[str, Maker]] = [
    (r"valid", lambda world, _: world.key()),
    (r"revoked", lambda world, _: world.key(revoked_at=timezone.now())),
    (r"expired", lambda world, _: world.key(expires_at=timezone.now() - timedelta(seconds=1))),
    (r"checksum|one character|changed|typo|flipped|mistyped", _with_one_character_changed),
    (r"wrong secret|another secret|known id", _with_wrong_secret),
    (r"truncated|too short|prefix|half", lambda world, _: world.key()[:-1]),
    (r"unknown|never|made.up|random", lambda _, __: make_key().text),
    (r"suspended", _of_a_suspended_tenant),
    (r"removed|former|left", _of_a_removed_member),
    (r"hash", lambda world, _: make_api_key(world.a)[0].secret_hash),
    (r"upper.?case", lambda world, _: world.key().upper()),
    (r"lower.?case", lambda world, _: world.key().lower()),
    (r"(other|another|wrong) (env|environment)", lambda world, _: world.key().replace("_live_", "_test_")),
    (r"\d (chars|characters|bytes)|\blong\b|longer", _of_a_length),
    (r"^$|empty", lambda _, __: ""),
]


# --- tokens ------------------------------------------------------------------------------------------------------


def _claims(world: AttackedTenants, **changed: Any) -> dict[str, Any]:
    token = read(log_in(make_member(world.a)))["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False}) | changed
    return {name: value for name, value in claims.items() if value is not None}


def _signed(world: AttackedTenants, key: Any = None, header: dict[str, Any] | None = None, **changed: Any) -> str:
    ring = tokens.keyring()
    head = {"kid": ring.kid, "typ": tokens.TYPE} | (header or {})
    return jwt.encode(_claims(world, **changed), key or ring.signer, "EdDSA", head)


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unsigned(world: AttackedTenants, words: str) -> str:
    found = re.search(r"\bnone\b", words, re.IGNORECASE)
    return (
        f"{_part(HEAD | {'alg': found[0] if found else 'EdDSA', 'kid': tokens.keyring().kid})}.{_part(_claims(world))}."
    )


def _signed_with_the_public_key(world: AttackedTenants, _: str) -> str:
    ring = tokens.keyring()
    public = ring.keys[ring.kid].public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    body = f"{_part(HEAD | {'alg': 'HS256', 'kid': ring.kid})}.{_part(_claims(world))}"
    signature = base64.urlsafe_b64encode(hmac.digest(public, body.encode(), "sha256")).rstrip(b"=").decode()
    return f"{body}.{signature}"


def _with_another_payload(world: AttackedTenants, _: str) -> str:
    head, payload, signature = _signed(world).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"{head}.{_part(claims | {'sub': '1', 'tenant': str(world.b.pk)})}.{signature}"


def _of_a_stranger(world: AttackedTenants, _: str) -> str:
    """Signed with the attacker's key, which the header offers to everyone who believes headers."""
    stranger = ed25519.Ed25519PrivateKey.generate()
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(stranger.public_key()))
    return _signed(
        world, stranger, {"jwk": jwk, "jku": "http://attacker.example/jwks", "x5u": "http://attacker.example/x"}
    )


def _with_a_kid(world: AttackedTenants, words: str) -> str:
    found = re.search(r"kid\s*[:=]\s*(\S+)", words)
    return _signed(world, header={"kid": found[1] if found else "unknown"})


def _of_a_member_who_left(world: AttackedTenants, _: str) -> str:
    member = make_member(world.a)
    token: str = read(log_in(member))["access_token"]
    member.delete()
    return token


def _after_logging_out(world: AttackedTenants, _: str) -> str:
    pair = read(log_in(make_member(world.a)))
    Api().post(f"{ROOT}/auth/revoke", {"refresh_token": pair["refresh_token"]})
    return str(pair["access_token"])


TOKENS: list[tuple[str, Maker]] = [
    (r"\bnone\b|no signature|unsigned|without (a )?signature", _unsigned),
    (r"HS\d|hmac|confusion|public key as", _signed_with_the_public_key),
    (r"expired|exp (in the )?past", lambda world, _: _signed(world, exp=int(time.time()) + EARLIER)),
    (r"nbf|not yet|not.before", lambda world, _: _signed(world, nbf=int(time.time()) + LATER)),
    (r"iat", lambda world, _: _signed(world, iat=int(time.time()) + LATER)),
    (r"issuer|\biss\b", lambda world, _: _signed(world, iss="somebody")),
    (r"audience|\baud\b", lambda world, _: _signed(world, aud="another-api")),
    (r"\bkid\b", _with_a_kid),
    (r"(no|without|missing) exp", lambda world, _: _signed(world, exp=None)),
    (r"(no|without|missing) sub", lambda world, _: _signed(world, sub=None)),
    (r"payload|tampered|changed|altered", _with_another_payload),
    (r"jwk|jku|x5u|stranger|(another|other|attacker|unknown|wrong).*key|self.signed", _of_a_stranger),
    (r"\btyp\b", lambda world, _: _signed(world, header={"typ": "JWT"})),
    (r"log(ged)? out|revoked", _after_logging_out),
    (r"removed|former|left", _of_a_member_who_left),
    (r"tenant", lambda world, _: _signed(world, tenant=str(world.b.pk))),
    (r"valid", lambda world, _: _signed(world)),
    (r"empty|^$", lambda _, __: "e30.e30."),
]
ABOUT_TOKENS = r"\bJWT\b|\balg\b|\bkid\b|access token"


def credential(world: AttackedTenants, case: Case, words: str, makers: list[tuple[str, Maker]]) -> str:
    """What the words describe."""
    for pattern, make in makers:
        if re.search(pattern, words, re.IGNORECASE):
            return make(world, words)
    return str(corpora.unread(case, f"the credential {words!r}"))


def _assert_answered(case: Case, text: str, **headers: str) -> None:
    api = Api(text) if text else Api()
    with CaptureQueriesContext(connection) as asked:
        response = api.get(f"{ROOT}/workflows", **headers)
    if expected_status(case) < 400:
        assert response.status_code == expected_status(case)
        return
    assert_refused(response, case)
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    if re.search(r"(no|without|before).*(I/O|quer|look|database)", case["expect"], re.IGNORECASE):
        assert not asked.captured_queries


@rule(r"^header=(?:(?P<name>[\w-]+):\s*)?(?P<value>.*)$")
def _a_header_as_it_is_written(world: AttackedTenants, case: Case, match: Match) -> None:
    def made(found: Match) -> str:
        makers = TOKENS if re.search(ABOUT_TOKENS, found[1], re.IGNORECASE) else KEYS
        return credential(world, case, found[1], makers)

    value = re.sub(r"<([^<>]*)>", made, match["value"])
    _assert_answered(case, "", **({match["name"]: value} if match["name"] else {}))


@rule(rf"^(jwt|token)=(?P<words>.*)$|^(case|keys?)=(?P<other>.*({ABOUT_TOKENS}).*)$")
def _a_token_that_is_none(world: AttackedTenants, case: Case, match: Match) -> None:
    words = match["words"] if match["words"] is not None else match["other"]
    _assert_answered(case, credential(world, case, words, TOKENS))


@rule(r"^keys?=(?!.*first \d+ bytes)(?P<words>.*)$")
def _a_key_that_is_none(world: AttackedTenants, case: Case, match: Match) -> None:
    text = credential(world, case, match["words"], KEYS)
    _assert_answered(case, "", authorization=f"Bearer {text}")


@rule(r"case=.*?(?P<count>\d+) (wrong|bad|failed|invalid|unknown)")
def _guessing(world: AttackedTenants, case: Case, match: Match) -> None:
    answers = [Api(make_key().text).get(f"{ROOT}/workflows") for _ in range(max(int(match["count"]), PER_ADDRESS) + 1)]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert_problem(answers[-1], 429, read(answers[-1])["code"])
    assert int(answers[-1].headers["Retry-After"]) >= 1


@rule(r"case=.*unknown (key )?id.*wrong secret|case=.*wrong secret.*unknown (key )?id")
def _refusals_that_reveal_nothing(world: AttackedTenants, case: Case, _: Match) -> None:
    texts = [credential(world, case, words, KEYS) for words in ("unknown", "wrong secret", "revoked", "expired")]
    answers = [Api(text).get(f"{ROOT}/workflows") for text in texts]
    for answer in answers:
        assert_problem(answer, 401, "authentication_failed")
        assert_same_answer(answer, answers[0])


@rule(r"case=.*(shown once|create an? (API )?key)")
def _a_secret_that_is_shown_once(world: AttackedTenants, case: Case, _: Match) -> None:
    made = read(world.api_a.post(f"{ROOT}/api-keys", {"name": "made", "role": "viewer"}))
    secret = next(value for value in made.values() if isinstance(value, str) and value.startswith("pyf_"))
    assert set(secret) <= set(string.ascii_letters + string.digits + "_")
    for path in (f"api-keys/{made['id']}", "api-keys", "audit"):
        assert secret.split("_")[3][:32].encode() not in world.api_a.get(f"{ROOT}/{path}").content


# --- the credentials of one tenant and the things of another --------------------------------------------------------


@rule(r"actor=tenant B; call=(?P<call>(?:GET|HEAD|POST|PUT|PATCH|DELETE) /[^?]*<A[^<>]*>.*)")
def _what_belongs_to_another_tenant(world: AttackedTenants, case: Case, match: Match) -> None:
    kinds = {"workflows": "workflows:name", "secrets": "secrets:name", "runs": "run_id", "members": "member_id"}
    kinds |= {"api-keys": "key_id", "invitations": "invitation_id"}
    answers = []
    for which in (0, 1):
        call = re.sub(
            r"/([\w-]+)/<A[^<>]*>",
            lambda found, which=which: f"/{found[1]}/{world.objects[kinds[found[1]]][which]}",
            match["call"],
        )
        answers.append(send(world.api_b, call))
    assert answers[0].status_code == expected_status(case)
    assert_same_answer(answers[0], answers[1])
    assert world.api_a.get(f"{ROOT}/workflows/hello").status_code == 200


@rule(
    r"actor=tenant B; call=[A-Z]+ (?P<path>/[\w/-]+)(?:\?(?P<name>[\w-]+)=<?A\b.*|.*\b(?P<header>X-[\w-]+): <?A\b.*)$"
)
def _a_tenant_that_is_asked_for(world: AttackedTenants, case: Case, match: Match) -> None:
    assert world.objects
    make_workflow(world.b, HELLO.replace("name: hello", "name: own"))
    for value in (str(world.a.pk), world.a.slug, "hello"):
        headers = {match["header"]: value} if match["header"] else {}
        query = f"?{match['name']}={value}" if match["name"] else ""
        answer = world.api_b.get(f"{ROOT}{match['path']}{query}", **headers)
        assert answer.status_code < 500
        if answer.status_code == 200:
            seen = answer.content.decode()
            assert str(world.run.pk) not in seen
            assert str(world.a.pk) not in seen
            assert all(item.get("name") != "hello" for item in read(answer).get("results", ()))


@rule(r"case=.*(unscoped|without a tenant|\bmanager\b)")
def _a_query_that_names_no_tenant(world: AttackedTenants, case: Case, _: Match) -> None:
    owned = [model for model in apps.get_models() if issubclass(model, TenantOwned)]
    assert len(owned) >= 10
    refused = 0
    for model in owned:
        try:
            model.objects.all()
        except UnscopedQueryError:
            refused += 1
    assert refused == len(owned)
