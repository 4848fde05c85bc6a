"""The lock names extras: pip before 23.3 installs with hashes only what is pinned as it is asked for."""

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["dev.txt", "platform.txt", "core.txt"])
def test_each_pin_has_the_extras_that_other_pins_ask_for(name: str):
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pins = [Requirement(line.removesuffix("\\").strip()) for line in lines if line[:1].isalnum()]
    locked = {canonicalize_name(pin.name): pin.extras for pin in pins}
    missing = set()
    for pin in pins:
        try:
            asked = metadata.requires(pin.name) or []
        except metadata.PackageNotFoundError:  # of another system
            continue
        for text in asked:
            wanted = Requirement(text)
            applies = wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)
            )
            known = locked.get(canonicalize_name(wanted.name))
            if applies and known is not None and not wanted.extras <= known:
                missing.add((pin.name, text))
    assert missing == set()
