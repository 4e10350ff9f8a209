"""An application server: hosts a WSGI or ASGI application behind any web server, over any of the four interfaces.

Promise: the same rules, drivers and shapes as the gateway's; only the fronts are others, and the one interface is
the application itself. Knows everybody; is known by the command line and `flup/` only.
Next: `house.py`, how it runs; `fronts/fastcgi.py` and `interfaces/wsgi.py`, the two sides of a request.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import signal
import socket
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.concurrency import slots
from gateway.config import Kind, Limits, Match, Route, Timeouts
from gateway.drivers.driver import Driver
from gateway.ends import End
from gateway.engine import Engine, Hosted
from gateway.forwarding import Forwarding, Network
from gateway.fronts.cgi import CgiFront
from gateway.fronts.fastcgi import FastcgiFront
from gateway.fronts.http1 import Http1Front
from gateway.fronts.scgi import ScgiFront
from gateway.hosting import HostRouter
from gateway.house import House
from gateway.interfaces.wsgi import WsgiInterface
from gateway.models import Hosting
from gateway.observe.error_log import ErrorLog
from gateway.processes.listen_socket import Place
from gateway.processes.reap import Reaper
from gateway.site import Interface, Service, Site
from protocols.http1 import tokeniser

CONTENT_BYTES = 1 << 62
"""No bound of ours: the web server has its own."""
TIMEOUTS = Timeouts(header_s=60.0, idle_s=120.0, read_s=math.inf, write_s=math.inf)
"""Likewise. A kept connection is the web server's to close, so that it closes none that is about to be used."""
MULTIPLEXED = 1024
"""Requests on one FastCGI connection, where an engine can serve several at the same time."""
LOOPBACK = tuple(ipaddress.ip_network(one) for one in ("127.0.0.0/8", "::1/128"))


@dataclass(frozen=True)
class Settings:
    """How an application is hosted."""

    interface: str
    hosting: Hosting
    listen: Sequence[Place] = (0,)
    trusted_proxies: Sequence[Network] = LOOPBACK
    """HTTP only: whose X-Forwarded-* fields are believed; who comes over a unix socket always is."""
    connections: int = 10_000
    http: str = "auto"
    grace_s: float = 30.0
    error: str = "-"
    web_servers: Collection[str] | None = None
    """FastCGI and SCGI, over TCP only: the addresses that may connect; all if empty. None: those of
    FCGI_WEB_SERVER_ADDRS for FastCGI, all for SCGI."""


def allowed_from(environment: Any) -> tuple[str, ...]:
    """FastCGI 3.2: a list with commas."""
    return tuple(one.strip() for one in environment.get("FCGI_WEB_SERVER_ADDRS", "").split(",") if one.strip())


def serve_app(
    app: Any, kind: str, settings: Settings, *, ready: Callable[[list[str]], None] | None = None
) -> None:
    """Host an application that is imported already, `kind` "wsgi" or "asgi", until SIGTERM or SIGINT.

    Raises ServeError with a remedy when it cannot start.
    """
    worker = Worker(app, kind, settings)
    worker.take_over(os.environ)
    worker.run(ready)


class Worker(House):
    """One application, and web servers that ask for it."""

    def __init__(self, app: Any, kind: str, settings: Settings) -> None:
        self.app = app
        self.kind = kind
        self.settings = settings
        self.loops = kind == "asgi"
        super().__init__(settings.hosting, settings.listen, settings.error, settings.grace_s)

    def build(self, driver: Driver, reaper: Reaper, error_log: ErrorLog) -> Engine:
        settings = self.settings
        limits = Limits(content=CONTENT_BYTES, connections=settings.connections)
        http = settings.interface == "http"  # else meta-variables tell who the client is
        forwarding = Forwarding(settings.trusted_proxies if http else (), unix=http)
        site = Site(driver.turn, limits, TIMEOUTS, tokeniser(settings.http), forwarding, None, error_log)
        interface: Interface
        hosted: Hosted | None = None
        if self.kind == "asgi":
            from gateway.interfaces.asgi import AsgiInterface  # with asyncio, which nobody else needs

            interface = hosted = AsgiInterface(site, self.app)
        else:
            interface = WsgiInterface(
                site, self.app, multithread=self.multithread, multiprocess=self.multiprocess,
                run_once=settings.interface == "cgi",
            )  # fmt: skip
        route = Route(
            number=0, path="/", match=Match(Kind.PREFIX, b"/"), interface=self.kind, response_s=0.0, read_s=0.0,
            content_limit=CONTENT_BYTES,
        )  # fmt: skip
        site.services = [Service(route, interface)]
        site.router = HostRouter(route, http=http)
        engine = Engine(driver, reaper, site, self._front, hosted)
        engine.grace_s = self.grace_s
        return engine

    def _front(self, site: Site) -> End:
        match self.settings.interface:
            case "fastcgi":
                return FastcgiFront(
                    site, max_requests=self.at_once, values=self._values(), allowed=self._allowed()
                )
            case "scgi":
                return ScgiFront(site, allowed=self._allowed())
            case _:
                return Http1Front(site)

    def _allowed(self) -> Collection[str]:
        if self.settings.web_servers is not None:
            return self.settings.web_servers
        return allowed_from(os.environ) if self.settings.interface == "fastcgi" else ()

    @property
    def at_once(self) -> int:
        """Requests that one engine serves at the same time."""
        return MULTIPLEXED if self.hosting.concurrency == "event" else 1

    def _values(self) -> dict[bytes, bytes]:
        """FastCGI 4.1: what a web server may ask."""
        connections = self.settings.connections if self.at_once > 1 else slots(self.hosting)
        return {
            b"FCGI_MAX_CONNS": b"%d" % connections,
            b"FCGI_MAX_REQS": b"%d" % (connections * self.at_once if self.at_once > 1 else connections),
            b"FCGI_MPXS_CONNS": b"1" if self.at_once > 1 else b"0",
        }

    @property
    def multithread(self) -> bool:
        """Whether the application may be called again in another thread while it runs (PEP 3333)."""
        if self.hosting.concurrency == "thread":
            return self.hosting.children.max > 1
        return self.hosting.concurrency in ("threadpool", "event") and self.hosting.threads > 1

    @property
    def multiprocess(self) -> bool:
        """Likewise in another process."""
        if self.settings.interface == "cgi":
            return True
        return self.hosting.concurrency not in ("single", "thread") and self.hosting.children.max > 1


def tell_ready(name: str) -> None:
    """Tell whoever has started us that requests are taken (sd_notify(3)); nobody else need know."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.sendto(b"READY=1", "\0" + name[1:] if name.startswith("@") else name)


def run_once(app: Any, kind: str) -> int:
    """Answer the one request that a web server has put into the environment and on stdin (CGI); the exit code."""
    settings = Settings("cgi", Hosting("single"), ())
    worker = Worker(app, kind, settings)
    engine = worker.build(worker.driver, worker.reaper, worker.error_log)
    engine.open()
    front = CgiFront(engine.site, dict(os.environb))
    # stdout is the response: what the application prints must not come between
    output = os.dup(1)
    os.dup2(2, 1)
    engine.driver.attach(0, front.stdin, reads=True)
    engine.driver.attach(output, front.stdout, reads=False)
    front.begin()
    engine.driver.settle()
    engine.driver.run(lambda: front.finished)
    engine.close()
    engine.driver.close()
    if front.exit_code:  # a response of unknown length ends like a whole one; a signal tells the web server (SEMANTICS 79)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    return front.exit_code
