"""Cookies of one request: what a redirect sets is sent to what it leads to (RFC 6265).

Importing this module imports httpx2; see ``pyflow.net.http_client``.
"""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2


class Cookies:
    """The cookies that the answers to one request have set, by the host, path and scheme that they are for.

    One without a domain goes back to the host that has set it, one with a domain to that and what is below it; no
    answer sets one for a host that it is not from, or for a whole suffix such as ``co.uk``.
    """

    def __init__(self) -> None:
        policy = DefaultCookiePolicy(
            strict_domain=True, strict_ns_domain=DefaultCookiePolicy.DomainRFC2965Match, hide_cookie2=True
        )
        self._cookies = httpx2.Cookies(CookieJar(policy))

    def keep(self, response: httpx2.Response) -> None:
        """Keep what an answer sets."""
        if "set-cookie" in response.headers:
            self._cookies.extract_cookies(response)

    def send(self, request: httpx2.Request) -> None:
        """Add the cookies that are for a request to those that its author gave; of one name the newer is sent."""
        if not self._cookies:
            return
        given = request.headers.pop("cookie", "")
        self._cookies.set_cookie_header(request)
        kept = request.headers.get("cookie", "")
        names = {pair.partition("=")[0].strip() for pair in kept.split(";")}
        own = [pair.strip() for pair in given.split(";") if pair.partition("=")[0].strip() not in names]
        both = "; ".join(filter(None, [*own, kept]))
        if both:
            request.headers["cookie"] = both
