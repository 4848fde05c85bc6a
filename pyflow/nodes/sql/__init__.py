"""The ``sql`` node."""

from pyflow.nodes.sql.node import SqlNode

__all__ = ["SqlNode"]
