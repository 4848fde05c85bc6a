"""v1's logging set-up."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from pyflow.config import configure_logging


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_lines_are_for_people_by_default(capsys: pytest.CaptureFixture[str]):
    configure_logging()
    structlog.get_logger().info("node done", node="a")
    printed = capsys.readouterr().out
    assert "node done" in printed
    assert not printed.startswith("{")


def test_json_lines_are_objects(capsys: pytest.CaptureFixture[str]):
    configure_logging(json_output=True)
    structlog.get_logger().warning("node done", node="a")
    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["node"], line["level"]) == ("node done", "a", "warning")
    assert line["timestamp"]


def test_json_lines_hold_the_traceback(capsys: pytest.CaptureFixture[str]):
    configure_logging(json_output=True)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "ValueError: broken" in json.loads(capsys.readouterr().out)["exception"]


@pytest.mark.parametrize(("level", "shown"), [(10, True), (20, True), (30, False), (logging.ERROR, False)])
def test_what_is_below_the_level_is_not_shown(level: int, shown: bool, capsys: pytest.CaptureFixture[str]):
    configure_logging(level=level)
    structlog.get_logger().info("quiet")
    assert ("quiet" in capsys.readouterr().out) is shown


def test_the_logger_is_a_filtering_one():
    configure_logging(level=30)
    assert structlog.get_config()["wrapper_class"] is structlog.make_filtering_bound_logger(30)
