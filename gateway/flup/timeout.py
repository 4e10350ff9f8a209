"""`timeout=` of the forking servers: an application that takes longer is interrupted by an exception.

Promise: the exception rises in code of the application only, never within ours, whose state it would break: where
the application waits for one of our own methods, it rises as soon as that has returned.
Must never know: what is served. Next: `application.py`, which calls it.
"""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

AGAIN_S = 0.1
"""When to try again where it was our code that ran."""


class TimeoutException(Exception):
    """The application took too long."""


class Timeout:
    """The clock of one process that serves one request at a time, in its main thread."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.errors: Any = None
        self.before: Any = None
        self.armed = False
        self.in_application = False

    def begin(self, environ: dict[str, Any]) -> None:
        """A request begins."""
        self.errors = environ["wsgi.errors"]
        for name in ("wsgi.input", "wsgi.errors"):
            environ[name] = _Ours(environ[name], self)
        if threading.current_thread() is threading.main_thread():  # in no other are there signals
            self.armed = True
            self.before = signal.signal(signal.SIGALRM, self._over)
            signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def end(self) -> None:
        if self.armed:
            self.armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self.before)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call into the application."""
        self.in_application = True
        try:
            return function(*arguments)
        finally:
            self.in_application = False

    def back(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The application calls us."""
        was, self.in_application = self.in_application, False
        try:
            return function(*arguments)
        finally:
            self.in_application = was

    def _over(self, number: int, frame: FrameType | None) -> None:
        if not self.armed:
            return
        if not self.in_application:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            return
        self.in_application = False
        what = f"the request took more than {self.seconds:g} s"
        self.errors.write(f"{what}, and is interrupted here:\n{''.join(traceback.format_stack(frame))}")
        raise TimeoutException(what)


class _Ours:
    """One of the two streams of PEP 3333: what it does while the application waits is not to be interrupted."""

    def __init__(self, stream: Any, timeout: Timeout) -> None:
        self._stream = stream
        self._timeout = timeout

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._stream, name)
        if not callable(value):
            return value
        return lambda *arguments: self._timeout.back(value, *arguments)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._timeout.back(next, self._stream)
