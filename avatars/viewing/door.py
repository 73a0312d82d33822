"""Who may open the page of `avatars view`: whoever has its secret address, from that page and from no other site.

viser checks neither the Origin of a websocket nor any secret, so every page that a browser shows could connect to it
and see the person. It has no hook for such a check, but it serves through `websockets.asyncio.server.serve`, whose
`process_request` sees every request first: that is where `guarding` stands while a server starts.
"""

from __future__ import annotations

import hmac
import http
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

_starting = threading.Lock()


@dataclass(eq=False)
class Door:
    """The check of one server."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    """First part of the address's path; the page's websocket goes to the same path."""
    guarded: bool = False
    """Whether a server has been put behind it."""

    def refusal(self, path: str, headers: Any) -> str:
        """Why a request is refused; "" when it is not."""
        first = urlsplit(path).path.strip("/").split("/")[0]
        if not hmac.compare_digest(first.encode(), self.token.encode()):
            return "This page needs the whole address that `avatars view` printed.\n"
        origins, hosts = headers.get_all("Origin"), headers.get_all("Host")
        if len(hosts) != 1 or len(origins) > 1:
            return "A request needs one Host, and at most one Origin.\n"
        if origins and urlsplit(origins[0]).netloc.lower() != hosts[0].lower():
            return "Other sites' pages may not look.\n"
        return ""

    def behind(self, serve_page: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any]:
        """viser's own handling of requests, for those that are let in; it does not see the token."""

        def process(connection: Any, request: Any) -> Any:
            refused = self.refusal(request.path, request.headers)
            if refused:
                return connection.respond(http.HTTPStatus.FORBIDDEN, refused)
            request.path = "/" + request.path.lstrip("/").removeprefix(self.token).lstrip("/")
            response = None if serve_page is None else serve_page(connection, request)
            if response is not None:
                response.headers["Referrer-Policy"] = "no-referrer"  # the address is the secret
                response.headers["X-Frame-Options"] = "DENY"
            return response

        return process


@contextmanager
def guarding(door: Door) -> Iterator[None]:
    """Every server that starts in this block stands behind the door."""
    import websockets.asyncio.server as server

    with _starting:
        plain = server.serve

        def serve(handler: Any, *arguments: Any, **options: Any) -> Any:
            door.guarded = True
            return plain(handler, *arguments, **{**options, "process_request": door.behind(options["process_request"])})

        server.serve = serve  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            server.serve = plain  # type: ignore[misc]
