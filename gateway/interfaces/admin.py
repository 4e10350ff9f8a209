"""The interface of the admin socket: a function of ours answers, now or later.

Promise: one answer, and none to a client who has left. Must never know: what is asked.
Next: `gateway/admin.py`, which has the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from protocols.message import Response

if TYPE_CHECKING:
    from gateway.exchange import Exchange

Reply: TypeAlias = Callable[[int, str, bytes], None]
"""Takes status, content type and content; on the house's own driver, in a turn of it. Once; further calls are lost."""
Handler: TypeAlias = Callable[[str, str, Reply], None]
"""Takes what is left of the path beyond that under which it was added, the query, and the way to answer."""


class AdminInterface:
    """All that may be asked."""

    needs_length = False  # content says nothing here
    spools = False

    def __init__(self) -> None:
        self.running = 0
        self.handlers: dict[tuple[str, str], Handler] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Have `handler` called for a path; for all below it, where it ends with a slash."""
        self.handlers[method, path] = handler

    def start(self, exchange: Exchange) -> None:
        found = exchange.found
        assert found is not None
        path = found.target.path.decode("utf-8", "replace")
        method = exchange.request.method.decode("latin-1").replace("HEAD", "GET")
        matching = {asked: known for asked, known in self.handlers if path == known or
                    (known.endswith("/") and path.startswith(known))}  # fmt: skip
        call = AdminCall(exchange)
        exchange.connected(call)
        if method not in matching:
            known = ", ".join(f"{asked} {at}" for asked, at in self.handlers)
            call.reply(405 if matching else 404, "text/plain", f"may be asked: {known}\n".encode())
            return
        rest = path.removeprefix(matching[method])
        self.handlers[method, matching[method]](rest, found.target.query.decode("latin-1"), call.reply)

    def tick(self, now: float) -> None:
        """A handler that takes its time has its own."""

    def let_go(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""


class AdminCall:
    """A request that is to be answered (exchange.Call)."""

    full = False
    upstream = ""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange: Exchange | None = exchange

    def reply(self, status: int, content_type: str, octets: bytes) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        exchange.respond(Response(status, [(b"Content-Type", content_type.encode())], length=len(octets)))
        if octets:
            exchange.response_content(octets)
        exchange.response_end()

    def content(self, octets: bytes) -> None:
        """Nobody asked for it."""

    def content_end(self) -> None:
        """Likewise."""

    def abort(self, *, client_left: bool = False) -> None:
        self.exchange = None

    def read(self, wanted: bool) -> None:
        """The answer is here, all of it."""

    def room(self) -> None:
        """There always is."""
