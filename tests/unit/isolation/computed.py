"""Functions for other processes to compute."""

import os
import sys
from typing import Any


def echo(value: Any) -> Any:
    return value


def process_id() -> int:
    return os.getpid()


def environment() -> dict[str, str]:
    return dict(os.environ)


def modules() -> list[str]:
    return sorted(sys.modules)


def spin() -> None:
    ("a" * 2_000_000 + "b" + "a" * 2_000_000).rfind("a" * 1_000_000 + "b" + "a" * 900_000 + "c" + "a" * 90_000)
    while True:
        pass


def loop() -> None:
    while True:
        pass


def fill() -> int:
    return len([bytes(1 << 20) for _ in range(4096)])


def fail() -> None:
    raise LookupError("nothing there")


def leave() -> None:
    os._exit(3)


for function in (echo, process_id, environment, modules, spin, loop, fill, fail, leave):
    function.prepare = lambda: None  # type: ignore[attr-defined]
