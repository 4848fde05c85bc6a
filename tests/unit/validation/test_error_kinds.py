"""Words of `retry_on` and `non_retryable` that can never match are refused, with the near miss."""

import re
from pathlib import Path

import pytest

import pyflow
from pyflow.core.error_kinds import CODES, KINDS
from pyflow.nodes import default_registry
from pyflow.validation.checker import check_workflow
from tests.support.factories import stage
from tests.support.factories.stage import node, workflow

HTTP = {"url": "https://shop.example"}


@pytest.mark.parametrize("key", ["retry_on", "non_retryable"])
@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("http_5XX", "http_5xx"),
        ("HTTP_503", "http_503"),
        ("http-503", "http_503"),
        ("5xx", "http_5xx"),
        ("503", "http_503"),
        ("Timeout", "timeout"),
        ("NETWORK", "network"),
        ("netwrok", "network"),
        ("config invalid", "config_invalid"),
        ("valueerror", "ValueError"),
        ("ValueErorr", "ValueError"),
        ("http_600", None),
        ("http_50x", None),
        ("sold_out", None),
    ],
)
def test_a_word_that_no_error_of_a_built_in_node_has_is_refused(key: str, word: str, near: str | None):
    definition = workflow(node("a", "http", config=HTTP, retry={key: ["timeout", word]}))
    [problem] = check_workflow(definition, default_registry)
    assert (problem.code, problem.pointer) == ("unknown_error_kind", f"/nodes/0/retry/{key}/1")
    assert problem.suggestion == near
    assert word in problem.message


@pytest.mark.parametrize(
    "word",
    [
        "timeout",
        "network",
        "http_429",
        "http_4xx",
        "ssrf_blocked",
        "ConnectionError",
        "HttpStatusError",
        "ConnectError",
    ],
)
def test_kinds_statuses_codes_and_classes_are_words(word: str):
    assert check_workflow(workflow(node("a", "http", config=HTTP, retry={"retry_on": [word]})), default_registry) == []


@pytest.mark.parametrize(
    ("word", "near"),
    [("http_5XX", "http_5xx"), ("Timeout", "timeout"), ("timeuot", "timeout"), ("http_999", None)],
)
def test_of_a_plugin_only_what_is_nearly_another_word_is_refused(word: str, near: str | None):
    [problem] = check_workflow(workflow(node("a", retry={"retry_on": [word]})), stage.registry())
    assert (problem.code, problem.suggestion) == ("unknown_error_kind", near)


@pytest.mark.parametrize("word", ["sold_out", "rate_limited", "SoldOut", "aws.Throttling"])
def test_a_plugin_has_errors_of_its_own(word: str):
    assert check_workflow(workflow(node("a", retry={"retry_on": [word]})), stage.registry()) == []
    fails = node("a", "fail", config={"kind": word, "retryable": True}, retry={"non_retryable": [word]})
    assert check_workflow(workflow(fails), default_registry) == []


def test_the_words_of_a_compensation_are_looked_at_too():
    undo = {"type": "http", "config": HTTP, "retry": {"retry_on": ["Timeout"]}}
    [problem] = check_workflow(workflow(node("a", "log", config={"message": "x"}, compensate=undo)), default_registry)
    assert problem.pointer == "/nodes/0/compensate/retry/retry_on/0"


def test_every_kind_that_an_error_is_given_is_a_word():
    sources = [path.read_text(encoding="utf-8") for path in Path(pyflow.__file__).parent.rglob("*.py")]
    given = {kind for text in sources for kind in re.findall(r'Error\([^\n]*kind="(\w+)"', text)}
    assert {"timeout", "network"} <= given <= KINDS | CODES
