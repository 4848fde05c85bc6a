"""Traits of node types: what other rooms know about a node without knowing its type by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class NodeTraits:
    """Traits that a node class declares as ``traits``; the defaults promise nothing."""

    #: Whether an attempt can leave files in the storage; a text: only if the config has this key.
    writes_files: bool | str = True
    #: The output is the only effect.
    is_pure: bool = False
    #: The output is made of the config alone.
    renders_config: bool = False
    #: The leaves of the config are expressions, and none is a template.
    computes_config: bool = False
    #: An attempt sends requests to another machine.
    calls_service: bool = False
    #: The config says with an HTTP `method` what that does, so that a retry can repeat an effect.
    has_method: bool = False
    #: The class limits the time of such a request itself.
    limits_time: bool = False
    #: How a node ends whose config is plain: always so, or (``None``) either way.
    always: Literal["succeeds", "fails"] | None = None

    def may_write_files(self, config: Any) -> bool:
        """Return whether an attempt with this rendered config can leave files in the storage."""
        if isinstance(self.writes_files, str):
            return not isinstance(config, Mapping) or self.writes_files in config
        return self.writes_files


_DEFAULT = NodeTraits()


def traits_of(cls: type) -> NodeTraits:
    """Return the traits that a node class itself declares: a subclass may do more than its base."""
    traits = vars(cls).get("traits", _DEFAULT)
    return traits if isinstance(traits, NodeTraits) else _DEFAULT
