"""Clients that ask without end and check every answer: whether a fault, or a planned change, has lost a request.

Promise: each request has a token of its own, GET and POST by turns, and its answer has to hold both; nothing is
counted twice, and what failed is kept with its time. A client repeats what any browser would, and says so: a GET on a
kept connection that the server closed before the first octet of an answer.
Must never know: which server it asks. Next: `faults.py`, which breaks things meanwhile.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

TIMEOUT_S: Final = 15.0
PAUSE_S: Final = 0.01
"""After a failure, so that a server that refuses all is not asked a thousand times more than one that answers."""
_CLOSED: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Failure:
    """One request without its answer."""

    at: float
    """When it was known, seconds of time.monotonic."""
    method: str
    what: str
    """`502`, `refused`, `closed`, `timeout`, `cut`, `wrong`."""


@dataclass
class Tally:
    """What the clients have seen."""

    sent: int = 0
    right: int = 0
    repeated: int = 0
    """GETs that were sent once more, on a new connection, because a kept one was found closed."""
    failures: list[Failure] = field(default_factory=list)
    by: Counter[str] = field(default_factory=Counter)
    """Right answers by who gave them, where pages are `named`."""

    def __str__(self) -> str:
        kinds = Counter(f"{failure.method} {failure.what}" for failure in self.failures)
        told = ", ".join(f"{number} x {kind}" for kind, number in kinds.most_common())
        return f"{self.sent} sent, {self.right} right, {self.repeated} repeated" + (f"; {told}" if told else "")

    def recovered_s(self, since: float) -> float:
        """From a fault at `since` (time.monotonic) to the last failure; 0.0 where nothing failed."""
        return max((failure.at - since for failure in self.failures if failure.at >= since), default=0.0)


class Load:
    """So many clients, a thread each, between entering and leaving the `with` block."""

    def __init__(
        self, port: int, path: str, *, clients: int = 8, fresh: int = 2, pause_s: float = 0.0, named: bool = False
    ) -> None:
        """`fresh`: so many of the clients connect anew for each request. `pause_s`: of a client after each answer.

        The page at `path` answers with the method, the query and the content, a space between each. `named`: a word
        stands before them, that says who answers.
        """
        self.port = port
        self.path = path
        self.pause_s = pause_s
        self.named = named
        self.tally = Tally()
        self._tokens = itertools.count(1)
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number >= fresh,), daemon=True) for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def more(self, answers: int, *, within_s: float = 30.0) -> None:
        """Wait until so many further requests were answered rightly. Raises TimeoutError."""
        with self._grown:
            wanted = self.tally.right + answers
            if not self._grown.wait_for(lambda: self.tally.right >= wanted, within_s):
                raise TimeoutError(f"{answers} answers did not come within {within_s:g} s: {self.tally}")

    def while_not(self, over: Callable[[], bool], *, within_s: float = 60.0) -> None:
        """Go on until `over`, asked after each few answers. Raises TimeoutError."""
        until = time.monotonic() + within_s
        while not over():
            if time.monotonic() > until:
                raise TimeoutError(f"it did not happen within {within_s:g} s: {self.tally}")
            self.more(10, within_s=within_s)

    # ------------------------------------------------------------------ one client

    def _run(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        for number in itertools.count():
            if self._over.is_set():
                break
            what, again = self._ask(connection, "POST" if number % 2 else "GET", keeps)
            with self._grown:
                self.tally.sent += 1
                self.tally.repeated += again
                if what:
                    self.tally.failures.append(Failure(time.monotonic(), "POST" if number % 2 else "GET", what))
                else:
                    self.tally.right += 1
                    self._grown.notify_all()
            if what:
                connection.close()
                self._over.wait(PAUSE_S)
            elif self.pause_s:
                self._over.wait(self.pause_s)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, method: str, keeps: bool) -> tuple[str, bool]:
        """What went wrong, "" for nothing; and whether it was repeated."""
        token = f"token{next(self._tokens)}"
        content = f"content-of-{token}" if method == "POST" else None
        kept = connection.sock is not None
        what = self._once(connection, method, token, content, keeps)
        if what == "closed" and kept and method == "GET":
            connection.close()
            return self._once(connection, method, token, content, keeps), True
        return what, False

    def _once(
        self, connection: http.client.HTTPConnection, method: str, token: str, content: str | None, keeps: bool
    ) -> str:
        fields = {} if keeps else {"Connection": "close"}
        try:
            connection.request(method, f"{self.path}?{token}", content, fields)
            response = connection.getresponse()
        except ConnectionRefusedError:
            return "refused"
        except TimeoutError:
            return "timeout"
        except _CLOSED:
            return "closed"
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        try:
            page = response.read().decode("latin-1")
        except TimeoutError:
            return "timeout"
        except (OSError, http.client.HTTPException):
            return "cut"
        if response.status != 200:
            return str(response.status)
        who = ""
        if self.named:
            who, _, page = page.partition(" ")
        if page.strip() != f"{method} {token} {content or ''}".strip():
            return "wrong"
        if self.named:
            with self._lock:
                self.tally.by[who] += 1
        return ""
