"""Access control: only this machine's browser, from the page itself, at its secret address."""

import secrets
from collections.abc import Sequence

from pydisent._extras import optional

with optional("pydisent explore"):
    from starlette.datastructures import MutableHeaders
    from starlette.responses import PlainTextResponse
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FORBIDDEN, NOT_FOUND = 403, 404
_POLICY_VIOLATION = 1008


class Guard:
    """Refuses requests from elsewhere than the page, and adds security headers for browsers.

    The Host must be one of ours: a page under another name that resolves to this machine (DNS
    rebinding) sends its own. The Origin must match wherever browsers send one, so that no other
    page, even on another port, can make requests. And the path must begin with the token, which
    other users of this machine do not know.

    Parameters
    ----------
    app : ASGI application
        The guarded application; it sees paths without the token.
    token : str
        The first part of every path.
    hosts : sequence of str
        The accepted values of Host.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Sequence[str]) -> None:
        self.app, self.token, self.hosts = app, token, tuple(hosts)
        sockets = " ".join(f"ws://{host}" for host in hosts)
        self._headers = {
            "Content-Security-Policy": (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: "
                f"blob:; connect-src 'self' {sockets}; base-uri 'none'; form-action 'none'; "
                "frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on allowed requests."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        status, reason = self._refusal(scope)
        if status and scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if status:
            await PlainTextResponse(f"{reason}\n", status)(scope, receive, guarded)
            return
        path = scope["path"].removeprefix(f"/{self.token}")
        await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """Return the status and the reason of a refusal; status 0 if the request is allowed."""
        given: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            given.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts, origins = given.get("host", []), given.get("origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return FORBIDDEN, f"Host must be {' or '.join(self.hosts)}"
        asks = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        ours = f"http://{hosts[0].lower()}"
        if len(origins) > 1 or any(o.lower() != ours for o in origins) or (asks and not origins):
            return FORBIDDEN, f"Origin must be {ours}: other pages may not use this one"
        if _is_of_others(given):
            return FORBIDDEN, "other pages may not use this one"
        first = scope["path"].split("/")[1:2] or [""]
        if not secrets.compare_digest(first[0].encode(), self.token.encode()):
            return NOT_FOUND, "the address must have the token that pydisent explore printed"
        return 0, ""


def _is_of_others(given: dict[str, list[str]]) -> bool:
    """Whether the browser attributes the request to another site's page, other than by a link."""
    sites = set(given.get("sec-fetch-site", []))
    link = given.get("sec-fetch-mode") == ["navigate"] and given.get("sec-fetch-dest") == [
        "document"
    ]
    return not sites <= {"same-origin", "none"} and not link
