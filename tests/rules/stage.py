"""A playbook for hosted applications: clients on one side, a real WSGI or ASGI application on the other.

Promise: the application runs where the driver's contract lets it run, outside any end; while it waits, the steps
that the test has planned happen one by one, and a wait for which nothing is planned is an error.
Must never know: sockets, threads. Next: `test_wsgi.py` and `test_asgi.py`.

    stage.later(lambda: stage.client >> b"lo")       happens when the application waits
    stage.client.post("/", b"hel")
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from gateway.config import Route
from gateway.ends import FileSlice, Order, Outgoing, Run, RunAsync
from gateway.exchange import Exchange
from gateway.hosting import HostRouter
from gateway.interfaces.asgi import AsgiInterface
from gateway.interfaces.wsgi import WsgiInterface
from gateway.site import Interface
from protocols.message import FieldLines, Peer, Request, Response
from tests.rules.playbook import Talk, route

Step = Callable[[], object]


class Stuck(BaseException):
    """The application waits, and nothing will happen any more."""


class Stage(Talk):
    """An application server without input and output, in front of an application."""

    def __init__(self, app: Any, *, prefix: bytes = b"", http: bool = True, **options: Any) -> None:
        self.app = app
        self.works: deque[Any] = deque()
        self.steps: deque[Step] = deque()
        self.working = False
        self.streams = Way(self)
        self.stuck: Stuck | None = None
        self.interrupts = True
        """Whether works run as soon as they are ordered; else by `work`."""
        super().__init__(route("http", response_s=0.0, read_s=0.0), **options)
        self.route: Route = self.site.services[0].route
        self.site.router = HostRouter(self.route, prefix, http=http)  # type: ignore[assignment]

    def _interface(self, route: Route, workers: int) -> Interface:
        return WsgiInterface(self.site, self.app, multithread=True, multiprocess=False, run_once=False)

    def later(self, *steps: Step) -> None:
        self.steps += steps

    # ------------------------------------------------------------------ the driver

    def _perform(self, order: Order) -> None:
        if isinstance(order, Run | RunAsync):
            self.works.append(order.work)
        else:
            super()._perform(order)

    def settle(self) -> None:
        super().settle()
        if not self.settling and self.interrupts:
            self.work()

    def work(self) -> None:
        while self.works and not self.working:
            self.working = True
            try:
                self.works.popleft().run(self.streams)
            finally:
                self.working = False
            super().settle()
        if self.stuck is not None:
            raise self.stuck

    def settle_only(self) -> None:
        """Settle, and let no work begin."""
        super().settle()

    # ------------------------------------------------------------------ what must hold at the end

    def check_nothing_is_left(self) -> None:
        assert self.site.exchanges == 0
        assert not self.site.fronts
        assert self.interface().running == 0
        assert not self.steps, "a step that was planned never happened"


class Way:
    """The way from the application back to the rules (Streams)."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.entered: list[str] = []
        """The names of the methods that were called."""

    def enter(self, method: Callable[..., None], *arguments: Any) -> None:
        stage = self.stage
        assert not any(wire.entered for wire in stage.wires), "the rules are entered while they are entered"
        self.entered.append(method.__name__)
        method(*arguments)
        stage.settle_only()

    def wait(self, ready: Callable[[], bool]) -> None:
        stage = self.stage
        while not ready():
            if not stage.steps:
                stage.stuck = Stuck("the application waits for ever")
                raise stage.stuck
            stage.steps.popleft()()


class AsyncStage(Stage):
    """Coroutines on a loop of their own, which goes round until nothing happens any more, and never waits."""

    def __init__(self, app: Any, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []
        self.lifespan = options.pop("lifespan", "auto")
        super().__init__(app, **options)

    def _interface(self, route: Route, workers: int) -> Interface:
        return AsgiInterface(self.site, self.app, lifespan=self.lifespan)

    def work(self) -> None:
        if self.working:
            return
        self.working = True
        try:
            for _ in range(100_000):
                while self.works:
                    task = self.loop.create_task(self.works.popleft().run(self.streams))
                    self.tasks.add(task)
                    task.add_done_callback(self._done)
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
                if not self.works and not self.loop._ready:  # type: ignore[attr-defined]
                    return
            raise AssertionError("a loop that never comes to rest")
        finally:
            self.working = False
            self.settle_only()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.errors.append(task.exception())  # type: ignore[arg-type]

    def complete(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def all_leave(self) -> None:
        super().all_leave()
        for task in list(self.tasks):
            task.cancel()
        self.work()
        self.loop.close()

    def check_nothing_is_left(self) -> None:
        super().check_nothing_is_left()
        assert not self.tasks
        assert not self.errors


class WebServer:
    """A web server that tells a request in meta-variables (Client, for the exchange)."""

    def __init__(
        self, stage: Stage, variables: Mapping[bytes, bytes], *, length: int | None = 0, https: bool = False
    ) -> None:
        self.stage = stage
        self.deadline = math.inf
        self.peer = Peer(variables.get(b"REMOTE_ADDR", b""), b"4711", b"192.0.2.2", b"80", https)
        self.variables: Mapping[bytes, bytes] | None = variables
        self.response: Response | None = None
        self.got = b""
        self.slices: list[FileSlice] = []
        self.state = ""
        self.wanted = True
        fields = [(name[5:].replace(b"_", b"-"), value) for name, value in variables.items() if name.startswith(b"HTTP_")]
        if b"CONTENT_TYPE" in variables:
            fields.append((b"Content-Type", variables[b"CONTENT_TYPE"]))
        method = variables.get(b"REQUEST_METHOD", b"GET")
        target = variables.get(b"REQUEST_URI", b"/")
        version = variables.get(b"SERVER_PROTOCOL", b"HTTP/1.1")
        request = Request(method, target, fields, version, variables.get(b"HTTP_HOST", b""), length)
        self.exchange = Exchange(stage.site, self, request)
        self.exchange.begin()
        stage.settle()

    def content(self, octets: Outgoing) -> None:
        if isinstance(octets, FileSlice):
            self.slices.append(octets)
        else:
            self.got += octets

    def interim(self, response: Response) -> None:
        raise AssertionError("CGI has no interim responses")

    def respond(self, response: Response) -> None:
        self.response = response

    def finished(self, trailers: FieldLines) -> None:
        self.state = "finished"

    def tunnel(self, response: Response) -> bytes:
        raise AssertionError("CGI has no tunnels")

    def close_after(self) -> None:
        """Framing is not ours."""

    def cut(self) -> None:
        self.state = "cut"

    def read_content(self, wanted: bool) -> None:
        self.wanted = wanted

    # for the test

    def send(self, octets: bytes) -> None:
        self.exchange.content(octets)
        self.stage.settle()

    def end(self) -> None:
        self.exchange.content_end()
        self.stage.settle()

    def leave(self) -> None:
        self.exchange.client_lost()
        self.stage.settle()
