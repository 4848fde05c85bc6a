"""Receives webhooks of PyFlow and prints those whose signatures are good.

python receiver.py PORT, with the endpoint's secret (whsec_…) in the variable WEBHOOK_SECRET.
"""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from pyflow_client.webhooks import WebhookVerificationError, verify

MOST_BYTES = 64 * 1024


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to an event, and 401 to what PyFlow has not sent."""

    #: Ids of webhooks that were handled: an event may come more than once.
    seen: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), MOST_BYTES))
        try:
            event = verify(body, dict(self.headers), os.environ["WEBHOOK_SECRET"])
        except WebhookVerificationError as error:
            print(f"refused: {error}", flush=True)
            self.send_error(401)
            return
        if self.headers["webhook-id"] not in self.seen:
            self.seen.add(self.headers["webhook-id"])
            print(f"verified: {event['type']} of {event['workflow']}", flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Only what is said above is printed."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
