"""The end that takes a supervised worker's stderr: lines for the error log, the last ones for the supervisor.

Promise: it reads always, so that a worker never waits for its log.
Must never know: how the worker is started. Next: `error_log.py`.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from gateway.ends import Close, End, Turn
from gateway.observe.error_log import ErrorLog, StderrLog


class Printing(Protocol):
    pid: int
    lines: deque[str]


class StderrEnd(End):
    """Logs what comes as that of the process that the worker is now; notes the last lines in `worker.lines`."""

    __slots__ = ("error_log", "log", "name", "worker")

    def __init__(self, turn: Turn, error_log: ErrorLog, name: str, worker: Printing) -> None:
        super().__init__(turn)
        self.error_log = error_log
        self.log: StderrLog | None = None
        self.name = name
        self.worker = worker

    def received(self, octets: bytes, now: float) -> None:
        if self.log is None:  # only now the process is known
            self.log = self.error_log.stderr_of("", "", f"{self.name}:{self.worker.pid}")
        self.log.write(octets)
        self.worker.lines = self.log.last_lines

    def received_eof(self, now: float) -> None:
        self._end()
        self.close(Close.ABORT)

    def lost(self, error: OSError | None, now: float) -> None:
        self._end()

    def _end(self) -> None:
        if self.log is not None:
            self.log.close()
