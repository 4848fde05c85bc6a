"""What no test can read of a corpus fails by itself, and the other cases of its module are played."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import corpora

#: The tests with a case each of a corpus that is read without a database.
TESTS = [
    "documents/test_corpus_document.py::test_a_case_of_the_corpus_ends_as_it_says",
    "documents/test_corpus_document.py::test_a_graph_of_the_corpus_ends_as_it_says",
    "documents/test_corpus_document.py::test_what_is_refused_is_no_workflow_either",
    "expressions/test_corpus_expression.py::test_a_case_of_the_corpus_ends_as_it_says",
    "expressions/test_corpus_template.py::test_a_case_of_the_corpus_ends_as_it_says",
    "net/test_addresses.py::test_a_url_is_judged_without_a_look_up",
    "net/test_corpus_ssrf.py::test_a_case_of_the_corpus_ends_as_it_says",
    "net/test_files.py::test_the_corpus",
    "triggers/test_cron.py::test_the_corpus",
]
SOUND: dict[str, dict[str, Any]] = {
    "yaml_json": {"format": "yaml", "input": "a: &a [*a]", "expect": "reject"},
    "expression": {"input": "().__class__", "expect": "reject"},
    "template": {"input": "{{ ''.__class__ }}", "expect": "reject"},
}
BROKEN: dict[str, Any] = {
    "unknown-field": {"id": "unknown-field", "input": "x", "expect": "reject", "timeout": 3},
    "no-expect": {"id": "no-expect", "input": "x"},
    "no-form": {"id": "no-form", "input": {"build": ["x"]}, "expect": "reject"},
    "number": {"id": "number", "input": 7, "expect": "reject"},
    "unknown-expect": {"id": "unknown-expect", "input": "1", "expect": "explode"},
    "no-context": {"id": "no-context", "input": "1", "expect": "reject", "context": "none"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, case in SOUND.items():
        (tmp_path / f"{name}.json").write_text(json.dumps([*BROKEN.values(), "no object", {"id": "sound"} | case]))
    (tmp_path / "ssrf.json").write_text("[{")
    (tmp_path / "cron_dst.json").write_text('{"cases": []}')
    return tmp_path  # and no path_traversal.json


def test_what_no_test_can_read_fails_alone(folder: Path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rfEp",
            "-p",
            "no:cacheprovider",
            *(f"tests/unit/{test}" for test in TESTS),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYFLOW_CORPORA": str(folder)},
    )
    ended = re.findall(
        r"^(PASSED|FAILED|ERROR) \S+?\[(?:expression(?: 2)?-)?(.+?)(?:-(?:typed )?template)?\](?= - |$)",
        done.stdout,
        re.MULTILINE,
    )
    assert {outcome for outcome, _ in ended} == {"PASSED", "FAILED"}, done.stdout
    assert {case for outcome, case in ended if outcome == "PASSED"} == {"sound"}
    failed = {case for outcome, case in ended if outcome == "FAILED"}
    places = {f"{name}-{len(BROKEN)}" for name in SOUND}
    assert failed == {*BROKEN, *places, "ssrf-0", "cron_dst-0", "path_traversal-0"}


@pytest.mark.parametrize("id", BROKEN)
def test_a_fault_says_what_cannot_be_read(id: str):
    fault = corpora.fault_of(BROKEN[id])
    # What only the tests of one corpus know is seen by them.
    assert (fault is None) == (id in {"no-form", "unknown-expect"}), fault
