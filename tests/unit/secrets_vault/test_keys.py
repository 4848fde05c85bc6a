"""Where the master keys come from, and what the system check says when they are not there."""

import base64
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from pyflow_site.environment import Environment, read_or_create
from secrets_vault.checks import check_master_keys
from secrets_vault.errors import MasterKeyUnknownError, VaultNotConfiguredError
from secrets_vault.keys import LocalWrapper, wrapper

ONE, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 255))
PRODUCTION = {"env": "production", "secret_key": "x" * 50}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There is no master key"),
        (" \n,", "There is no master key"),
        (ONE, "Master key 1 has no id"),
        (f"a:{ONE},:{OTHER}", "Master key 2 has no id"),
        (f"a:{ONE},a:{OTHER}", "Master key 2 has no id of its own"),
        (f"not an id:{ONE}", "not 32 bytes"),
        ("a:c2hvcnQ=", "The master key 'a' is not 32 bytes in base64"),
        (f"a:{ONE[:-4]}!!!!", "The master key 'a' is not 32 bytes in base64"),
    ],
)
def test_the_system_check_names_what_is_wrong_and_shows_no_key(settings, text: str, said: str):
    settings.PYFLOW_MASTER_KEYS = text
    [found] = check_master_keys()
    assert found.id == "secrets_vault.E001"
    assert "PYFLOW_MASTER_KEYS" in found.hint
    assert ONE[:20] not in f"{found.msg} {found.hint}"
    with pytest.raises(VaultNotConfiguredError):
        wrapper()


def test_the_command_check_runs_it(settings):
    settings.PYFLOW_MASTER_KEYS = ""
    with pytest.raises(SystemCheckError, match=r"secrets_vault\.E001"):
        call_command("check")
    settings.PYFLOW_MASTER_KEYS = f"a:{ONE}"
    call_command("check")


@pytest.mark.parametrize("text", [f"a:{ONE},b:{OTHER}", f"a:{ONE}\nb:{OTHER}\n", f" a:{ONE} ,, b:{OTHER} "])
def test_the_first_key_wraps_and_all_unwrap(text: str):
    both, old = LocalWrapper.parse(text), LocalWrapper.parse(f"b:{OTHER}")
    assert both.current == "a"
    assert both.unwrap("a", both.wrap(b"d" * 32, b"here"), b"here") == b"d" * 32
    assert both.unwrap("b", old.wrap(b"e" * 32, b"here"), b"here") == b"e" * 32
    with pytest.raises(MasterKeyUnknownError, match="'a'"):
        old.unwrap("a", both.wrap(b"d" * 32, b"here"), b"here")


def test_the_alphabet_of_urls_is_base64_too():
    plain, url = LocalWrapper.parse(f"a:{OTHER}"), LocalWrapper.parse(f"a:{OTHER.replace('/', '_')}")
    assert OTHER.replace("/", "_") != OTHER
    assert url.unwrap("a", plain.wrap(b"d" * 32, b""), b"") == b"d" * 32


def test_a_file_holds_the_same(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"a:{ONE}\nb:{OTHER}\n")
    text = Environment(master_key_file=file, home=tmp_path / "home", **PRODUCTION).master_key_text()
    assert LocalWrapper.parse(text).current == "a"
    assert not (tmp_path / "home").exists()


def test_the_variable_goes_before_the_file(tmp_path: Path):
    assert Environment(master_keys=f"a:{ONE}", master_key_file=tmp_path / "none").master_key_text() == f"a:{ONE}"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_said_and_not_passed_over(tmp_path: Path, content: bytes | None):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ImproperlyConfigured, match="PYFLOW_MASTER_KEY_FILE cannot be read"):
        Environment(master_key_file=file, home=tmp_path / "home").master_key_text()


def test_production_makes_no_key_of_its_own(tmp_path: Path):
    assert Environment(home=tmp_path, **PRODUCTION).master_key_text() == ""
    assert list(tmp_path.iterdir()) == []


def test_development_makes_one_once_and_keeps_it_to_itself(tmp_path: Path):
    home = tmp_path / "home"
    text = Environment(home=home).master_key_text()
    assert LocalWrapper.parse(text).current == "local"
    assert Environment(home=home).master_key_text() == text
    assert [path.name for path in home.iterdir()] == ["master-key"]
    assert (home / "master-key").stat().st_mode & 0o777 == 0o600


def test_of_two_processes_that_start_at_once_both_have_the_key_of_the_first(tmp_path: Path):
    path = tmp_path / "key"
    assert read_or_create(path, lambda: f"late, after {read_or_create(path, lambda: 'first')}") == "first"
    assert path.read_text() == "first\n"


def test_a_start_that_failed_leaves_no_empty_key(tmp_path: Path):
    def fail() -> str:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        read_or_create(tmp_path / "key", fail)
    assert list(tmp_path.iterdir()) == []
    assert read_or_create(tmp_path / "key", lambda: "whole") == "whole"
