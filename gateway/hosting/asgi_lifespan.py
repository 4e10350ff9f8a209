"""An ASGI application's beginning and end in a process: the lifespan protocol.

Promise: an application that does not know of it is served without it; one that says it cannot start is not served.
Must never know: requests. Next: `gateway/interfaces/asgi.py`, the user.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from gateway.errors import HostingError
from gateway.hosting.asgi_call import AsgiApp, Message
from gateway.hosting.asgi_scope import LIFESPAN_VERSION, VERSION
from gateway.hosting.faults import code_of, place, summary
from gateway.observe.error_log import ErrorLog

SHUTDOWN_S: Final = 10.0
"""How long an application may take to end."""
MODES: Final = ("auto", "on", "off")


class Lifespan:
    """One application's, in one event loop."""

    def __init__(self, app: AsgiApp, error_log: ErrorLog, mode: str = "auto") -> None:
        """`mode`: "on" makes it an error if the application does not know the protocol; "off" never asks."""
        self.app = app
        self.error_log = error_log
        self.mode = mode
        self.state: dict[str, Any] = {}
        """What the application keeps here, each request finds in its scope."""
        self._task: asyncio.Task[None] | None = None
        self._told: asyncio.Queue[str]
        self._answered: asyncio.Event
        self._wanted = ""
        self._answer = ""
        self._message = ""
        self._received = False
        self._error: BaseException | None = None

    async def startup(self) -> None:
        """Raises HostingError."""
        if self.mode == "off":
            return
        self._told = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._ask("startup")
        error, where = self._error, code_of(self.app)
        if self._answer == "failed":
            raise HostingError(
                f"the application says that it can't start: {self._message or 'it does not say why'}",
                "correct what it does at lifespan.startup" + (f" ({where})" if where else ""),
            )
        if self._answer:
            return
        self._task = None
        what = f"raised {summary(error)}" if error is not None else "returned"
        where = (place(error) if error is not None else "") or where
        told = f"the application {what} at lifespan.startup" + (f" ({where})" if where else "")
        if self.mode == "on":
            raise HostingError(told, "let it answer with lifespan.startup.complete, or set lifespan to auto")
        if self._received and error is not None:  # it knows the protocol, and failed
            self.error_log.log("warn", told, remedy="it is served all the same; lifespan.startup.failed would prevent that")

    async def shutdown(self) -> None:
        """The last request is over."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            await self._ask("shutdown", SHUTDOWN_S)
            await asyncio.wait((task,), timeout=0.0 if not self._answer else SHUTDOWN_S)
        if self._answer == "failed":
            self.error_log.log("error", f"the application's shutdown failed: {self._message or 'it does not say why'}")
        elif self._error is not None:
            where = place(self._error)
            told = f"the application raised {summary(self._error)} in its lifespan" + (f" ({where})" if where else "")
            self.error_log.log("error", told)
        if not task.done():
            self.error_log.log("error", f"the application did not end within {SHUTDOWN_S:g} s of lifespan.shutdown")
            task.cancel()
            await asyncio.wait((task,), timeout=1.0)

    async def _ask(self, what: str, patience_s: float | None = None) -> None:
        """Tell the application; return when it has answered or ended, or the time is over."""
        self._answered = asyncio.Event()
        self._wanted, self._answer, self._message = what, "", ""
        self._told.put_nowait(f"lifespan.{what}")
        try:
            await asyncio.wait_for(self._answered.wait(), patience_s)
        except TimeoutError:
            pass

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": VERSION, "spec_version": LIFESPAN_VERSION},
            "state": self.state,
        }
        try:
            await self.app(scope, self._receive, self._send)
        except BaseException as error:  # SystemExit, too; what was cancelled ends here
            self._error = error
        finally:
            self._answered.set()

    async def _receive(self) -> Message:
        self._received = True
        return {"type": await self._told.get()}

    async def _send(self, message: Message) -> None:
        _, _, answer = message["type"].partition("lifespan.")
        what, _, answer = answer.partition(".")
        if what != self._wanted or answer not in ("complete", "failed") or self._answer:
            raise RuntimeError(f"{message['type']} was sent, where lifespan.{self._wanted}.complete was due at most")
        self._answer = answer
        self._message = str(message.get("message", ""))
        self._answered.set()
