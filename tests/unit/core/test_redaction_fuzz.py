"""Secrets that hypothesis makes up leave no trace in what a redactor lets through, and nothing else is changed."""

import base64
import json
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflow.core.redaction import MASK, Redactor
from tests.support.values import DATA

SECRETS = st.text(min_size=4, max_size=20)


@given(SECRETS, DATA)
def test_a_redactor_changes_nothing_else(secret: str, value: Any):
    redactor = Redactor()
    assert redactor.redact(value) is value
    redactor.add(secret)
    if secret not in repr(value):
        clean = redactor.redact(value)
        assert MASK in repr(clean) or clean == value


@given(SECRETS.filter(lambda s: s.isprintable()), st.text(max_size=10), st.text(max_size=10))
def test_a_secret_is_masked_in_any_dress(secret: str, before: str, after: str):
    redactor = Redactor()
    redactor.add(secret)
    text = f"{before}{secret}{after}"
    assert secret not in str(redactor.redact(text)).replace(MASK, "")
    for dressed in (
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    ):
        assert dressed not in str(redactor.redact(f"<{dressed}>")).replace(MASK, "")
    whole = base64.b64encode(secret.encode("utf-8", "surrogatepass")).decode()
    assert whole not in redactor.redact(f"Basic {whole}")
    assert urlencode({"x": secret})[2:] not in redactor.redact(urlencode({"x": secret})).replace(MASK, "")


@pytest.mark.parametrize(
    "shape", [list, tuple, set, frozenset, lambda items: {"k": items}, lambda items: {items[0]: 1}]
)
def test_a_secret_is_masked_in_any_container(shape: Any):
    redactor = Redactor()
    redactor.add("sesame")
    assert "sesame" not in repr(redactor.redact(shape(["open sesame"])))


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_a_secret_is_masked_inside_longer_base64(offset: int):
    redactor = Redactor()
    redactor.add("correct horse")
    encoded = base64.b64encode(b"u" * offset + b"correct horse" + b":tail").decode()
    for piece in redactor.redact(encoded).split(MASK):
        for cut in range(4):
            whole = piece[cut : len(piece) - (len(piece) - cut) % 4]
            assert b"orse" not in base64.b64decode(whole)
