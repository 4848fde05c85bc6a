"""`pyflow_client.webhooks.verify`, and the verifier of Standard Webhooks on the other side."""

import base64
import json
import subprocess
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from events.webhooks.signing import headers as signed_headers
from pyflow_client.webhooks import TOLERANCE, WebhookVerificationError, verify

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
NOW = datetime.now(UTC)
BODY = '{"id":"1","type":"run.failed","data":{"text":"Zoë, \\ud83d\\ude00"}}'


def request(body: str = BODY, secret: str = SECRET, at: datetime | None = None) -> dict[str, str]:
    """The headers of a request, signed by the package of Standard Webhooks; now, unless it is said when."""
    at = at or datetime.now(UTC)
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("msg_1", at, body),
    }


@pytest.mark.parametrize("payload", [BODY, BODY.encode(), bytearray(BODY.encode())], ids=["text", "bytes", "bytearray"])
def test_what_the_standard_signs_is_verified(payload):
    assert verify(payload, request(), SECRET) == json.loads(BODY)


def test_what_pyflow_signs_the_standard_verifies():
    signed = signed_headers("msg_1", BODY, [OTHER, SECRET], datetime.now(UTC))
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(BODY, signed) == verify(BODY, signed, secret) == json.loads(BODY)


def test_any_of_several_secrets_may_have_signed():
    assert verify(BODY, request(secret=OTHER), [SECRET, OTHER])


def test_signatures_of_other_versions_are_passed_over():
    signed = request()
    signed["Webhook-Signature"] = f"v1a,AAAA v2,zzz nonsense {signed['Webhook-Signature']}"
    assert verify(BODY, signed, SECRET)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"Webhook-Id": "msg_2"}, "No signature fits"),
        ({"Webhook-Id": ""}, "lacks the headers webhook-id"),
        ({"Webhook-Signature": "v1,AAAA"}, "No signature fits"),
        ({"Webhook-Signature": "v1,not base64!"}, "No signature fits"),
        ({"Webhook-Signature": "v1"}, "No signature fits"),
        ({"Webhook-Signature": request(secret=OTHER)["Webhook-Signature"]}, "No signature fits"),
        ({"Webhook-Timestamp": "soon"}, "no number of seconds"),
        ({"Webhook-Timestamp": "1e9"}, "no number of seconds"),
        ({"Webhook-Timestamp": "٣"}, "no number of seconds"),
        ({"Webhook-Timestamp": str(int(NOW.timestamp()) + 1)}, "No signature fits"),
    ],
)
def test_a_changed_header_is_refused_and_said_why(change: dict[str, str], says: str):
    with pytest.raises(WebhookVerificationError, match=says):
        verify(BODY, request(at=NOW) | change, SECRET, now=NOW.timestamp())


def test_a_changed_body_is_refused():
    with pytest.raises(WebhookVerificationError, match="No signature fits"):
        verify(BODY.replace("failed", "succeeded"), request(), SECRET)


@pytest.mark.parametrize(("offset", "says"), [(TOLERANCE + 2, "ago"), (-TOLERANCE - 2, "in the future")])
def test_another_time_is_refused(offset: float, says: str):
    with pytest.raises(WebhookVerificationError, match=says):
        verify(BODY, request(at=NOW), SECRET, now=NOW.timestamp() + offset)
    assert verify(BODY, request(at=NOW), SECRET, now=NOW.timestamp() + offset, tolerance=TOLERANCE + 10)


@pytest.mark.parametrize("body", ["no json", "[1]"])
def test_what_is_signed_is_an_event(body: str):
    with pytest.raises(WebhookVerificationError, match="signed, and is no"):
        verify(body, request(body), SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64", []])
def test_a_secret_that_is_none_is_the_callers_mistake(secret):
    with pytest.raises(ValueError, match="secret"):
        verify(BODY, request(), secret)


#: The check as a receiver in JavaScript writes it, with nothing but Node's own crypto.
NODE = """
const { createHmac, timingSafeEqual } = require("node:crypto");
const { body, headers, secret } = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
const key = Buffer.from(secret.slice("whsec_".length), "base64");
const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
const expected = createHmac("sha256", key).update(signed).digest();
const fits = headers["webhook-signature"].split(" ").some((entry) => {
  const [version, signature] = entry.split(",");
  const given = Buffer.from(signature, "base64");
  return version === "v1" && given.length === expected.length && timingSafeEqual(given, expected);
});
process.stdout.write(String(fits));
"""


@pytest.mark.parametrize(("secret", "fits"), [(SECRET, "true"), (OTHER, "true"), ("whsec_AAAA", "false")])
def test_a_receiver_in_node_verifies_it(secret: str, fits: str):
    given = {
        "body": BODY,
        "headers": signed_headers("msg_1", BODY, [OTHER, SECRET], datetime.now(UTC)),
        "secret": secret,
    }
    done = subprocess.run(["node", "-e", NODE], input=json.dumps(given), capture_output=True, text=True, check=True)
    assert done.stdout == fits
