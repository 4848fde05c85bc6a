"""Ciphertexts open where they were put, with the key that made them, and nowhere else."""

import base64
import itertools

import pytest

from pyflow.core.ids import new_uuid
from secrets_vault.envelope import data_key_place, new_key, seal, unseal, version_place
from secrets_vault.errors import MasterKeyUnknownError, SecretUnreadableError, VaultNotConfiguredError
from secrets_vault.keys import LocalWrapper

KEY = new_key()
PLACE = b"here"


def key_text(byte: int = 1) -> str:
    return base64.b64encode(bytes([byte]) * 32).decode()


def test_what_was_sealed_opens():
    assert unseal(KEY, *seal(KEY, b"sesame", PLACE), PLACE) == b"sesame"


def test_nonces_are_96_random_bits():
    nonces = {seal(KEY, b"sesame", PLACE)[0] for _ in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {12}


@pytest.mark.parametrize("part", ["key", "nonce", "ciphertext", "tag", "place", "cut", "empty", "no nonce"])
def test_nothing_opens_that_was_changed(part: str):
    nonce, ciphertext = seal(KEY, b"sesame", PLACE)
    key, place = KEY, PLACE
    if part == "key":
        key = new_key()
    elif part == "nonce":
        nonce = bytes([nonce[0] ^ 1]) + nonce[1:]
    elif part == "ciphertext":
        ciphertext = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    elif part == "tag":
        ciphertext = ciphertext[:-1] + bytes([ciphertext[-1] ^ 1])
    elif part == "place":
        place = b"there"
    elif part == "cut":
        ciphertext = ciphertext[:-1]
    elif part == "empty":
        ciphertext = b""
    else:
        nonce = b""
    with pytest.raises(SecretUnreadableError) as caught:
        unseal(key, nonce, ciphertext, place)
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_no_two_places_are_the_same():
    ids = [new_uuid() for _ in range(3)]
    numbers = (1, 2, 256, 65536)
    places = [version_place(*fields) for fields in itertools.product(ids, ids, numbers, numbers)]
    places += [data_key_place(*fields) for fields in itertools.product(ids, numbers)]
    assert len(set(places)) == len(places)


def test_the_first_master_key_wraps_and_every_one_unwraps():
    old = LocalWrapper.parse(f"old:{key_text(1)}")
    both = LocalWrapper.parse(f"new:{key_text(2)}, old:{key_text(1)}\n")
    assert both.current == "new"
    assert both.unwrap("old", old.wrap(KEY, PLACE), PLACE) == KEY
    assert both.unwrap("new", both.wrap(KEY, PLACE), PLACE) == KEY


def test_a_master_key_that_is_not_there_is_named():
    with pytest.raises(MasterKeyUnknownError, match="'gone'"):
        LocalWrapper.parse(f"new:{key_text()}").unwrap("gone", b"x" * 60, PLACE)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "no-colon", f":{key_text()}", "id:", "id:c2hvcnQ=", "id:not base64!", f"bad id:{key_text()}",
     f"one:{key_text(1)},one:{key_text(2)}", f"id:{key_text()[:-2]}", f"id:{key_text()}{key_text()}"],
)  # fmt: skip
def test_master_keys_that_are_none_are_refused_without_being_shown(text: str):
    with pytest.raises(VaultNotConfiguredError) as caught:
        LocalWrapper.parse(text)
    assert "openssl rand -base64 32" in str(caught.value)
    assert key_text() not in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)
