"""The end that takes a supervised worker's stderr: lines for the error log, the last one for the supervisor.

Promise: it reads always, so that a worker never waits for its log.
Must never know: how the worker is started. Next: `error_log.py`.
"""

from __future__ import annotations

from typing import Protocol

from gateway.ends import Close, End, Turn
from gateway.observe.error_log import StderrLog


class HasLastLine(Protocol):
    last_line: str


class StderrEnd(End):
    """Logs what comes, and notes the last line in `worker.last_line`."""

    __slots__ = ("log", "worker")

    def __init__(self, turn: Turn, log: StderrLog, worker: HasLastLine) -> None:
        super().__init__(turn)
        self.log = log
        self.worker = worker

    def received(self, octets: bytes, now: float) -> None:
        self.log.write(octets)
        if self.log.last_line:
            self.worker.last_line = self.log.last_line

    def received_eof(self, now: float) -> None:
        self.log.close()
        self.close(Close.ABORT)

    def lost(self, error: OSError | None, now: float) -> None:
        self.log.close()
