"""API keys: their text, their checksum, their hash."""

import runpy

import pytest

from tenants import keys
from tenants.keys import check_secret, hash_secret, make_key, parse_key


def test_a_key_is_read_back_from_its_text():
    made = make_key()
    assert made.text.startswith(f"pyf_live_{made.key_id}_{made.secret}")
    assert parse_key(made.text) == made


def test_the_environment_is_part_of_the_text():
    assert make_key("test").text.startswith("pyf_test_")


def test_no_two_keys_are_alike():
    keys = [make_key() for _ in range(1000)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 1000


def test_a_key_fits_into_one_token_of_a_header():
    assert make_key().text.replace("_", "").isalnum()
    assert make_key().text.isascii()


def test_a_change_of_any_character_is_noticed_without_a_look_up():
    text = make_key().text
    for position, char in enumerate(text):
        other = "a" if char != "a" else "b"
        assert parse_key(text[:position] + other + text[position + 1 :]) is None, position


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text[:-1],
        lambda text: text + "a",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text.upper(),
        lambda text: text.replace("_live_", "_prod_"),
        lambda text: text.replace("_live_", "_test_"),
        lambda text: text[:20] + "\0" + text[21:],
        lambda text: text[:20] + "é" + text[21:],
        lambda text: text[:20] + "٣" + text[21:],
        lambda text: "pyf_live_" + "a" * 10_000,
    ],
    ids=range(12),
)
def test_what_is_not_exactly_a_key_is_none(change):
    assert parse_key(change(make_key().text)) is None


def test_only_the_secret_is_hashed_and_it_fits_into_bcrypt():
    """auth-007: bcrypt sees 72 bytes, so keys that begin alike must not be what it is given."""
    made = make_key()
    assert len(made.secret.encode()) <= 72
    hashed = hash_secret(made.secret)
    assert hashed.startswith("$2b$04$")
    assert check_secret(made.secret, hashed)
    assert not check_secret(make_key().secret, hashed)


def test_two_keys_that_begin_alike_are_two_keys():
    """auth-007."""
    one = make_key()
    last = "x" if one.secret[-1] != "x" else "y"
    assert not check_secret(one.secret[:-1] + last, hash_secret(one.secret))


def test_the_cost_is_twelve():
    """As the module has it before the tests make it cheap."""
    assert runpy.run_path(keys.__file__)["hash_secret"]("secret").startswith("$2b$12$")
