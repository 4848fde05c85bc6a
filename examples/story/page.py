"""Serves a page that follows the events of a tenant live, without giving the browser an API key.

python page.py PORT, with PYFLOW_URL and PYFLOW_API_KEY. The page asks this server for a ticket, which opens one stream
within 30 seconds, and reads the stream through this server, since browsers read answers of their own origin only.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

PAGE = Path(__file__).with_name("follow.html")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
API = os.environ["PYFLOW_URL"].rstrip("/") + "/api/v1"


class Page(BaseHTTPRequestHandler):
    """The page, its tickets, and its stream."""

    def do_GET(self) -> None:
        if self.path == "/":
            self._answer(200, "text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path.partition("?")[0] == "/events":
            headers = {"Accept": "text/event-stream", "Authorization": self.headers.get("Authorization", "")}
            self._pass_on(Request(API + self.path, headers=headers))
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        if self.path != "/ticket":
            self.send_error(404)
            return
        headers = {"Authorization": f"Bearer {os.environ['PYFLOW_API_KEY']}", "Content-Type": "application/json"}
        self._pass_on(Request(f"{API}/auth/tickets", b"{}", headers))

    def _pass_on(self, request: Request) -> None:
        """Send the answer of PyFlow on as it comes."""
        try:
            answer = urlopen(request, timeout=60)
        except HTTPError as error:
            self._answer(error.code, error.headers.get_content_type(), error.read())
            return
        with answer, suppress(ConnectionError):
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            while part := answer.read1(64 * 1024):
                self.wfile.write(part)
                self.wfile.flush()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: requests show in the browser's own tools."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
