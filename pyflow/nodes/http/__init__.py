"""The ``http`` node."""

from pyflow.nodes.http.node import HttpConfig, HttpNode, HttpOutput, SSRFError

__all__ = ["HttpConfig", "HttpNode", "HttpOutput", "SSRFError"]
