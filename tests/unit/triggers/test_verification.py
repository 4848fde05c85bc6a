"""Verification of inbound webhooks. Signatures are made by each provider's published algorithm, not by our code."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from pyflow.triggers.verification import Request, Scheme, Verification, delivery_id, is_authentic, signature_headers

NOW = 1_780_000_000
BODY = json.dumps({"id": "evt_1", "event_id": "Ev1", "name": "Zoë"}, ensure_ascii=False).encode()
SECRET = "it-is-a-secret-0123456789"
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()


def sha256(key: str, message: bytes) -> str:
    return hmac.new(key.encode(), message, hashlib.sha256).hexdigest()


def standard(at: int = NOW, body: bytes = BODY, secret: str = WHSEC) -> dict[str, str]:
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}


def github(at: int = NOW, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {"x-github-delivery": "72d3162e", "x-hub-signature-256": f"sha256={sha256(secret, body)}"}


def stripe(at: int = NOW, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {"stripe-signature": f"t={at},v1={sha256(secret, f'{at}.'.encode() + body)},v0=ab"}


def slack(at: int = NOW, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    signature = f"v0={sha256(secret, f'v0:{at}:'.encode() + body)}"
    return {"x-slack-request-timestamp": str(at), "x-slack-signature": signature}


def plain(at: int = NOW, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha512).digest()
    return {"x-signature": f"sha512={base64.b64encode(digest).decode()}", "x-at": str(at), "x-id": "d1"}


def token(at: int = NOW, body: bytes = BODY, secret: str = SECRET) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


HMAC = Verification(
    scheme=Scheme.HMAC,
    header="X-Signature",
    algorithm="sha512",
    encoding="base64",
    prefix="sha512=",
    timestamp_header="X-At",
    delivery_header="X-Id",
)
SENDERS = {
    "standard-webhooks": (Verification(scheme=Scheme.STANDARD_WEBHOOKS), standard, WHSEC),
    "github": (Verification(scheme=Scheme.GITHUB), github, SECRET),
    "stripe": (Verification(scheme=Scheme.STRIPE), stripe, SECRET),
    "slack": (Verification(scheme=Scheme.SLACK), slack, SECRET),
    "hmac": (HMAC, plain, SECRET),
    "token": (Verification(scheme=Scheme.TOKEN), token, SECRET),
}
WITH_TIME = ("standard-webhooks", "stripe", "slack", "hmac")
OTHER = {WHSEC: "whsec_" + base64.b64encode(b"another-key-of-24-bytes!").decode(), SECRET: SECRET + "x"}


def check(verification, headers, body=BODY, secrets=(SECRET,), now=NOW):
    return is_authentic(verification, Request(headers, body), secrets, now=now)


@pytest.mark.parametrize("name", SENDERS)
def test_a_request_signed_as_the_provider_says_is_authentic(name):
    verification, sign, secret = SENDERS[name]
    assert check(verification, sign(), secrets=[secret])
    assert check(verification, sign(), secrets=[OTHER[secret], secret]), "while a secret is rotated, both are valid"
    assert not check(verification, sign(), secrets=[OTHER[secret]])
    assert not check(verification, sign(), secrets=[])
    assert not check(verification, {}, secrets=[secret])


@pytest.mark.parametrize("name", [name for name in SENDERS if name != "token"])
def test_the_raw_body_is_signed_and_one_other_byte_is_another_body(name):
    verification, sign, secret = SENDERS[name]
    assert not check(verification, sign(), body=BODY.replace(b": ", b":", 1), secrets=[secret])
    assert not check(verification, sign(), body=BODY + b"\n", secrets=[secret])


@pytest.mark.parametrize("name", WITH_TIME)
def test_a_signature_is_valid_for_five_minutes_in_either_direction(name):
    verification, sign, secret = SENDERS[name]
    for seconds, valid in ((-301, False), (-300, True), (300, True), (301, False)):
        assert check(verification, sign(at=NOW + seconds), secrets=[secret]) is valid
    resent = sign() | {"webhook-timestamp": str(NOW + 600), "x-slack-request-timestamp": str(NOW + 600)}
    resent |= {"x-at": str(NOW + 600), "stripe-signature": resent.get("stripe-signature", "").replace("t=17", "t=18")}
    assert not check(verification, resent, secrets=[secret], now=NOW + 600), "another time was not signed"


def test_one_of_several_signatures_is_enough_and_only_the_first_eight_count():
    verification = SENDERS["standard-webhooks"][0]
    good = standard()
    right = good["webhook-signature"]
    assert check(verification, good | {"webhook-signature": f"v1,AAAA v1a,BBBB {right}"}, secrets=[WHSEC])
    assert not check(verification, good | {"webhook-signature": "v1,AAAA " * 8 + right}, secrets=[WHSEC])
    stripe_verification = SENDERS["stripe"][0]
    signed = stripe()["stripe-signature"]
    assert check(stripe_verification, {"stripe-signature": f"{signed},v1=abcd"})
    assert not check(stripe_verification, {"stripe-signature": signed.replace("v1=", "v0=")})


@pytest.mark.parametrize("name", SENDERS)
def test_odd_headers_are_no_signature_and_raise_nothing(name):
    verification, sign, secret = SENDERS[name]
    odd = ("", " ", "=", ",", "v1,", "sha256=", "é" * 9, "\udcff", "x" * 5000, "t=,v1=", "t=1e5,v1=a", "Bearer ", "٣")
    for header in sign():
        for value in odd:
            if header not in {"webhook-id", "x-github-delivery", "x-id"}:
                assert not check(verification, sign() | {header: value}, secrets=[secret]), (header, value)


def test_a_token_may_stand_in_a_header_of_its_own():
    verification = Verification(scheme=Scheme.TOKEN, header="X-Gitlab-Token")
    assert check(verification, {"x-gitlab-token": SECRET})
    assert not check(verification, {"authorization": f"Bearer {SECRET}"})
    assert not check(Verification(scheme=Scheme.TOKEN), {"authorization": f"Basic {SECRET}"})


def test_none_accepts_anybody():
    assert check(Verification(scheme=Scheme.NONE), {}, secrets=[])


def test_a_delivery_is_identified_by_the_provider_else_by_what_was_signed():
    data = json.loads(BODY)

    def of(name, headers=None, data=data):
        verification, sign, _ = SENDERS[name]
        return delivery_id(verification, Request(sign() if headers is None else headers, BODY), data)

    assert of("standard-webhooks") == "msg_1"
    assert of("github") == "72d3162e"
    assert of("stripe") == "evt_1"
    assert of("slack") == "Ev1"
    assert of("hmac") == "d1"
    assert of("token") is None, "two requests with one body may be two events"
    assert of("token", token() | {"idempotency-key": "k"}) == "k"
    signed = of("slack", data="text=hello")
    assert signed == of("slack", data=None)
    assert len(signed) == 64
    assert signed != of("slack", slack(at=NOW + 1), data=None)
    without = {name: value for name, value in plain().items() if name != "x-id"}
    assert of("hmac", without) == hashlib.sha256(f"{NOW}.".encode() + BODY).hexdigest()


def test_signatures_and_tokens_have_headers_of_their_own():
    assert signature_headers(HMAC) == {"x-signature"}
    assert signature_headers(SENDERS["github"][0]) == {"x-hub-signature-256", "x-hub-signature"}
    assert signature_headers(Verification(scheme=Scheme.NONE)) == frozenset()
