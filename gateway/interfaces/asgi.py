"""The interface `asgi`: an application in this process, a coroutine for each request (ASGI 3).

Promise: HTTP for every front, WebSockets for one that speaks HTTP, and the lifespan around them.
Must never know: the front. Next: `gateway/hosting/asgi_call.py`, one request; `asgi_websocket.py`, one WebSocket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.ends import RunAsync
from gateway.hosting.asgi_call import AsgiApp, HttpCall
from gateway.hosting.asgi_lifespan import Lifespan
from gateway.hosting.asgi_websocket import WebSocketCall, check_handshake, opens_websocket
from gateway.hosting.heads import Heads

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.site import Site


class AsgiInterface:
    """One application, and its calls."""

    needs_length = False  # `more_body` tells where content ends
    spools = False

    def __init__(self, site: Site, app: AsgiApp, *, lifespan: str = "auto") -> None:
        """`lifespan`: "auto", "on" or "off"; see Lifespan."""
        self.site = site
        self.app = app
        self.running = 0
        """Calls that have not come back."""
        self.closed = False
        self.heads = Heads()
        self.lifespan = Lifespan(app, site.error_log, lifespan)
        self.websockets: set[WebSocketCall] = set()

    # ------------------------------------------------------------------ its life

    async def startup(self) -> None:
        """Before the first request. Raises HostingError if the application says that it can't start."""
        await self.lifespan.startup()

    async def shutdown(self) -> None:
        """After the last one."""
        await self.lifespan.shutdown()

    def open(self, driver: Any) -> None:
        """`startup`, on the loop of an event driver that does not run yet."""
        driver.loop.run_until_complete(self.startup())

    def shut(self, driver: Any) -> None:
        """`shutdown`, likewise."""
        driver.loop.run_until_complete(self.shutdown())

    # ------------------------------------------------------------------ for the exchange and the site (Interface)

    def start(self, exchange: Exchange) -> None:
        """Have the application called. Raises GatewayError 400 or 426."""
        state = self.lifespan.state
        if exchange.request.upgrade and opens_websocket(exchange):
            check_handshake(exchange.request)
            self._start_websocket(exchange, state)
            return
        call = HttpCall(self.app, exchange, self.heads, state, self._ended)
        self.running += 1
        whole = exchange.whole_content()
        if whole is not None:
            if whole:
                call.content(whole)
            call.content_complete = True
        exchange.connected(call)
        self.site.turn.orders.append(RunAsync(call))
        if whole is None:
            if exchange.request.expects_continue:  # 100 as soon as the application receives, if it ever does
                call.waits = True
            else:
                exchange.pump()

    def _start_websocket(self, exchange: Exchange, state: dict[str, Any]) -> None:
        call = WebSocketCall(self.app, exchange, self.heads, state, self._ended)
        self.running += 1
        self.websockets.add(call)
        exchange.connected(call)
        self.site.turn.orders.append(RunAsync(call))

    def _ended(self) -> None:
        if not self.closed:
            self.running -= 1

    def tick(self, now: float) -> None:
        for call in list(self.websockets):
            call.tick(now)
            if call.gone:
                self.websockets.discard(call)

    def let_go(self) -> None:
        """Nothing is kept for the next request."""

    def close(self) -> None:
        """The server ends: whoever has a WebSocket is told, and no call is waited for any longer."""
        self.closed = True
        self.running = 0
        for call in list(self.websockets):
            call.going_away()
        self.websockets.clear()
