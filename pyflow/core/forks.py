"""Locks and threads after a fork: a child has none of its parent's threads, and locks that they held stay locked."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """An object with locks or threads, which a forked child has to make anew."""

    def renew(self) -> None:
        """Forget threads and locks of the parent; called in a forked child, before anything else runs there."""


_renewables: WeakSet[Renewable] = WeakSet()


def renew_in_children(renewable: Renewable) -> None:
    """Call ``renew`` in each child that this process forks, for as long as the object lives."""
    _renewables.add(renewable)


def _renew_all() -> None:
    for renewable in list(_renewables):
        renewable.renew()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_renew_all)
