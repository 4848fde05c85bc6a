"""Masks each form that a secret may have when it leaves a run; `test_redaction_fuzz.py` makes up the secrets."""

import base64
import html
import json
import logging
import random
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from pyflow.core import redaction
from pyflow.core.escapes import unescaped
from pyflow.core.redaction import MASK, RedactingFormatter, RedactingLogger, Redactor

SECRET = 'pa$$ "wörd"/é&<\n'
PEM = "-----BEGIN KEY-----\n" + "\n".join(letter * 64 for letter in "abc") + "\n-----END KEY-----\n"


def redactor(*secrets: str) -> Redactor:
    made = Redactor()
    for secret in secrets:
        made.add(secret)
    return made


FORMS: dict[str, Callable[[str], str]] = {
    "raw": str,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 without padding": lambda text: base64.b64encode(text.encode()).decode().rstrip("="),
    "base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hexadecimal": lambda text: text.encode().hex(),
    "HEXADECIMAL": lambda text: text.encode().hex().upper(),
    "URL": quote,
    "part of a URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "URL in small letters": lambda text: re.sub("%..", lambda byte: byte[0].lower(), quote(text, safe="")),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON with letters as they are": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)[1:-1])[1:-1],
    "JSON with escaped slashes": lambda text: json.dumps(text)[1:-1].replace("/", r"\/"),
    "repr": lambda text: repr(text)[1:-1],
    "ascii": lambda text: ascii(text)[1:-1],
    "HTML": html.escape,
    "HTML by numbers": lambda text: re.sub(r"[^\w.~-]", lambda char: f"&#{ord(char[0])};", text),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_masked_and_what_is_around_it_stays(form: str):
    dressed = FORMS[form](SECRET)
    assert redactor(SECRET).redact(f"before {dressed} after") == f"before {MASK} after"


@pytest.mark.parametrize("form", FORMS)
def test_a_plain_value_is_masked_in_every_form(form: str):
    dressed = FORMS[form]("sesame-open.1")
    assert redactor("sesame-open.1").redact(f"<{dressed}>") == f"<{MASK}>"


@pytest.mark.parametrize("secret", ['00000\\"0', '\\"\\"', "&lt;&gt;", "%41%42%43%44", r"\n\n\n\n", "abc%2Fdef"])
@pytest.mark.parametrize("form", [form for form in FORMS if form != "URL twice"])
def test_a_value_with_escapes_in_it_is_masked_in_every_form(secret: str, form: str):
    """Without them it may be shorter than what is looked for piece by piece, or at all."""
    dressed = FORMS[form](secret)
    assert redactor(secret).redact(f"<{dressed}>") == f"<{MASK}>"


@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
def test_basic_credentials_show_nothing_of_the_password(before: str):
    password = "correct horse battery"
    header = "Basic " + base64.b64encode(f"{before}{password}:rest".encode()).decode()
    shown = redactor(password).redact(header)
    assert MASK in shown
    for piece in shown.removeprefix("Basic ").split(MASK):
        for cut in range(4):
            whole = piece[cut : len(piece) - (len(piece) - cut) % 4]
            readable = base64.b64decode(whole).decode("ascii", "replace")
            assert not [start for start in range(len(password) - 2) if password[start : start + 3] in readable]


def test_keys_and_values_of_everything_plain_are_masked_and_shapes_stay():
    value = {"a sesame": ["sesame", ("sesame", {"sesame"}), frozenset({"x"})], 1: None, 2.5: True, "b": b"<sesame>"}
    assert redactor("sesame").redact(value) == {
        "a ***": ["***", ("***", {"***"}), frozenset({"x"})],
        1: None,
        2.5: True,
        "b": b"<***>",
    }
    assert "a sesame" in value, "what is shown is a copy"


def test_bytes_that_are_no_text_are_kept():
    assert redactor("sesame").redact(b"\xff\x00sesame\xfe") == b"\xff\x00***\xfe"


def test_what_contains_itself_is_masked_in_the_depth():
    endless: list[object] = ["sesame"]
    endless.append(endless)
    shown = redactor("sesame").redact(endless)
    assert shown[0] == MASK
    for _ in range(redaction.MAX_NESTING - 1):
        shown = shown[1]
    assert shown == [MASK, MASK]


@pytest.mark.parametrize("short", ["", "a", "abc"])
def test_values_too_short_to_distinguish_from_ordinary_text_are_not_masked(short: str):
    made = redactor(short)
    assert not made
    assert made.redact("abc a") == "abc a"


def test_a_large_part_of_a_secret_is_masked_and_a_small_one_is_not():
    made = redactor("correct-horse-battery")
    assert made.redact("correct-hors") == MASK
    assert made.redact("correct") == "correct"


def test_of_two_secrets_of_which_one_contains_the_other_nothing_is_left():
    assert redactor("sesame", "sesame-open").redact("sesame-open, sesame") == f"{MASK}, {MASK}"
    assert redactor("sesame-open", "sesame").redact("sesame-open, sesame") == f"{MASK}, {MASK}"


def test_the_lines_of_a_key_are_masked_and_its_frame_is_not():
    made = redactor(PEM)
    assert made.redact(PEM) == MASK
    shown = made.redact("line 2 is " + PEM.splitlines()[2])
    assert shown == f"line 2 is {MASK}"
    assert made.redact("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_a_secret_that_is_too_long_to_compile_is_masked():
    long = "".join(chr(ord("a") + number % 26) for number in range(4 * redaction.MAX_COMPILED))
    made = redactor(long)
    assert made.redact(f"<{long}>") == f"<{MASK}>"
    encoded = base64.b64encode(long.encode()).decode()
    assert made.redact(f"<{encoded}>") == f"<{MASK}>"


def test_it_learns_what_another_one_masks():
    made = redactor("sesame")
    made.learn(redactor("horse battery"))
    made.learn(made)
    assert made.redact("sesame, horse+battery") == f"{MASK}, {MASK}"


def test_a_log_line_is_masked_after_it_is_put_together(caplog: pytest.LogCaptureFixture):
    logger = RedactingLogger(logging.getLogger("tests.redaction"), redactor("open-sesame"))
    with caplog.at_level(logging.INFO, "tests.redaction"):
        logger.info("%s-%s and %s", "open", "sesame", {"key": "open-sesame"})
        logger.debug("not asked for: %s", "open-sesame")
    assert [record.getMessage() for record in caplog.records] == ["*** and {'key': '***'}"]


def test_tracebacks_of_libraries_are_masked_while_a_run_is_executed():
    made = redactor("open-sesame")
    try:
        raise ValueError("wrong: open-sesame")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed", (), (type(error), error, None))
    shown = RedactingFormatter().format(record)
    assert "open-sesame" not in shown
    assert "ValueError: wrong: ***" in shown
    del made


def _distinct(length: int) -> str:
    """A secret of which no part of three characters stands anywhere else, with characters that every form escapes."""
    rare = random.Random(length)
    return "".join(rare.choice('abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789+/_-"&é ') for _ in range(length))


@pytest.mark.parametrize("length", [8, 9, 12, 40, 513, 4000])
@pytest.mark.parametrize("form", FORMS)
def test_every_piece_of_a_secret_is_masked_in_messages_in_every_form(form: str, length: int):
    secret = _distinct(length)
    made = redactor(secret)
    for start, end in {(0, 8), (0, length), (length - 8, length), (length // 3, max(length // 3 + 8, length // 2))}:
        piece = secret[start:end]
        if len(piece) < redaction.PIECE:
            continue
        shown = made.redact_message(f"<{FORMS[form](piece)}>")
        assert MASK in shown
        assert len(shown) <= len(f"<{MASK}>") + 4, "of base64, the last character and its padding"
        for text in (shown, *(plain.text for plain in unescaped(shown))):
            assert not [i for i in range(length - 3) if secret[i : i + 4] in text]


def test_data_that_has_a_small_part_in_common_with_a_secret_stays_as_it_is():
    made = redactor("postgresql://app:tr0ub4dor@db.prod.example.com:5432/orders?sslmode=require")
    assert made.redact({"url": "https://api.prod.example.com/orders"}) == {"url": "https://api.prod.example.com/orders"}
    assert made.redact_message("no answer from db.prod.example.com") == f"no answer from {MASK}"
    assert made.redact({"dsn": "app:tr0ub4dor@db.prod.example.com:5432"}) == {"dsn": MASK}
    assert made.redact("it is tr0ub4dor") == f"it is {MASK}"


def test_what_two_texts_have_in_common_by_less_than_a_piece_stays():
    assert redactor("correct-horse-battery").redact("a horse, correct") == "a horse, correct"


@pytest.mark.parametrize("public", ["https://example.org", "postgresql://", "-----BEGIN PRIVATE KEY-----"])
def test_what_many_secrets_have_in_common_is_none(public: str):
    made = redactor("https://hooks.chat.test/T0/abcdefgh", "postgresql://me:sesame-open@db.test/x", PEM)
    assert made.redact(public) == public
    assert made.redact("see https://hooks.chat.test/T0/abcdefgh") == f"see {MASK}"
    assert made.redact("password sesame-open") == f"password {MASK}"


def test_of_a_very_long_secret_encoded_forms_are_masked_as_a_whole_and_others_by_piece():
    long = _distinct(redaction.MAX_ENCODED + 1)
    made = redactor(long)
    assert made.redact(f"<{long.encode().hex()}>") == f"<{MASK}>"
    assert made.redact_message(f"<{long[100:120]}>") == f"<{MASK}>"


@pytest.mark.parametrize(
    "text", ["%C3%", "\\u12", "&#0;&#1;", "%ff%fe", "\\ud83d\\ude00\\ud83d", "\\\\\\\\n", "&#99999999;"]
)
def test_escapes_that_are_none_change_nothing_around_them(text: str):
    assert redactor("correct-horse").redact(f"{text}correct-horse{text}") == f"{text}{MASK}{text}"


def test_of_many_short_secrets_each_is_masked():
    made = redactor(*(f"pw{number:04}" for number in range(500)))
    assert made.redact_message("it was pw0123, not pw9999") == f"it was {MASK}, not pw9999"
