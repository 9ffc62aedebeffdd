"""Who is served: a browser on this machine that has the token. Everyone else gets a short refusal, whatever is asked for.

The address that the command prints holds the token. It is traded for a cookie at once, so that it does not stay in the
address bar. The name of the host is checked as well, so that no other site can reach the server under a name of its own.
"""

import hmac
import secrets

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; font-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def new_token() -> str:
    return secrets.token_urlsafe(24)


class Guard:
    """Around the whole application, static files included."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token, self.port = app, token, port
        self.cookie = f"vgrpo-{port}"  # a browser sends a cookie to every port of a host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self.refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """What is answered in the application's place; None where it may answer."""
        headers = Headers(scope=scope)
        if headers.get("host", "") not in {f"{host}:{self.port}" for host in HOSTS}:
            return PlainTextResponse("this address is not served here", 421)
        given = QueryParams(scope["query_string"]).get("token")
        if given is not None and scope["method"] == "GET" and scope["path"] == "/":
            return self._traded(given)
        if not self._knows(HTTPConnection(scope).cookies.get(self.cookie)):
            return PlainTextResponse("open the address that `vgrpo ui` printed; it holds the token", 403)
        if scope["method"] in UNSAFE and not self._own(headers):
            return PlainTextResponse("only the page itself may send this", 403)
        return None

    def _traded(self, given: str) -> Response:
        if not self._knows(given):
            return PlainTextResponse("this token is of another `vgrpo ui`; open the address that the newest one printed", 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(self.cookie, self.token, httponly=True, samesite="lax", path="/")
        return answer

    def _knows(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def _own(self, headers: Headers) -> bool:
        """Whether a request that changes something was sent by the page."""
        origin, kind = headers.get("origin"), headers.get("content-type", "")
        return origin in {f"http://{host}:{self.port}" for host in HOSTS} and kind.partition(";")[0] == "application/json"
