"""The ``email`` node."""

from pyflow.nodes.email.node import EmailNode

__all__ = ["EmailNode"]
