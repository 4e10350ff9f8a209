"""Keep the workers of one application running: when to start, to wait, to start again, to give up.

Promise: decisions only; what is to be done is left as orders on the turn, and every end is told in words.
Must never know: how a process is started or signalled, wire formats, event loops.
Next: `launch.py` and `reap.py`, with which a driver carries the orders out.

A worker is a place that one process after another takes:

    WAITING --expired--> STARTING --started--> RUNNING
       ^                    | failed              | exited
       +--------------------+---------------------+       (stopping: any of them --> ENDED)

It gets the listening socket on descriptor 0 (FastCGI 2.2), /dev/null on 1 and the log on 2: the
specification closes the last two, and programs break. Exit code 0 means that it ended on purpose, as
php-cgi does after PHP_FCGI_MAX_REQUESTS.
"""

from __future__ import annotations

import enum
import math
import random
import signal
from collections.abc import Callable

from gateway.ends import End, Kill, Launch, Spawn, Turn
from gateway.processes.explain import Explanation, explain
from gateway.processes.reap import exit_in_words

STEADY_S = 1.0
"""Who lived as long did start well: the next one is started at once."""
FIRST_DELAY_S = 0.1
"""Wait before the start after one bad one; doubles with each further one in a row."""
LONGEST_DELAY_S = 10.0
LONGEST_DELAY_ON_PURPOSE_S = 1.0
"""The same for exit code 0: under load, a worker may have served all its requests within STEADY_S."""


class Phase(enum.Enum):
    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


class Worker:
    """One of the places (an `ends.Child`). Its stderr end may note `last_line` for the log."""

    __slots__ = ("bad_starts", "broken", "due", "last_line", "phase", "pid", "since", "supervisor")

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.phase = Phase.WAITING
        self.pid = 0
        self.since = 0.0
        """When the process started."""
        self.due = 0.0
        """When the next process shall start, while WAITING."""
        self.bad_starts = 0
        self.last_line = ""
        """Last line that the process wrote to its stderr, escaped for a log."""
        self.broken = ""
        """What was wrong with the last process, if it never got so far as to serve; "" where it did."""

    def started(self, pid: int, now: float) -> None:
        self.phase = Phase.RUNNING
        self.pid = pid
        self.since = now
        self.supervisor._started(self)

    def failed(self, error: OSError, now: float) -> None:
        self.supervisor._failed(self, error, now)

    def exited(self, code: int, now: float) -> None:
        self.supervisor._exited(self, code, now)


class Supervisor:
    """The workers of one application.

    `launch`   how each is started; its stdin is the listening socket
    `report`   takes level ("error", "warn", "info") and text
    `stderr`   makes the end that takes a worker's stderr; None: the gateway's own stderr
    `refused`  the exit code of a worker that has found, however long that took, that it can't serve
    `grace_s`  how long a worker may take to end after SIGTERM
    `deadline` when `expired` shall be called, seconds of the driver's clock; math.inf for never
    """

    def __init__(
        self,
        turn: Turn,
        launch: Launch,
        count: int,
        name: str,
        report: Callable[[str, str], None],
        stderr: Callable[[Worker], End] | None = None,
        *,
        grace_s: float = 10.0,
        fraction: Callable[[], float] = random.random,
        why: Callable[[OSError, Launch], Explanation] = explain,
        refused: int = -1,
    ) -> None:
        self.turn = turn
        self.launch = launch
        self.name = name
        self.workers = [Worker(self) for _ in range(count)]
        self.deadline = math.inf
        self.restarts = 0
        """How many workers have ended that were to go on."""
        self.stopping = False
        self._kill_at = math.inf
        self._grace_s = grace_s
        self._report = report
        self._stderr = stderr
        self._fraction = fraction
        self._why = why
        self._refused = refused

    def down(self, now: float) -> str:
        """Why nobody will answer a request that comes now; "" where somebody will.

        That is so while each place has had a bad start, and none of those that run now is past the time within which a
        bad one dies. (One that a signal ended is bad from the second in a row.)
        """
        for worker in self.workers:
            if not worker.broken or (worker.phase is Phase.RUNNING and now - worker.since >= STEADY_S):
                return ""
        return self.workers[0].broken

    def steady(self, now: float) -> bool:
        """Whether each place has a worker that is past the time within which a bad one dies."""
        return all(worker.phase is Phase.RUNNING and now - worker.since >= STEADY_S for worker in self.workers)

    def retry_after_s(self, now: float) -> int:
        """When a further start will be tried and known to be good or bad, in whole seconds from now."""
        return math.ceil(max(0.0, min(worker.due for worker in self.workers) - now) + STEADY_S)

    @property
    def stopped(self) -> bool:
        """After `stop`: no worker is left."""
        return all(worker.phase is Phase.ENDED for worker in self.workers)

    def start(self, now: float) -> None:
        """Start all workers."""
        for worker in self.workers:
            worker.due = now
        self.expired(now)

    def stop(self, now: float, *, at_once: bool = False) -> None:
        """Ask all to end (SIGTERM), and make those end that have not after `grace_s`, or at once (SIGKILL)."""
        if self.stopping:
            if at_once and self._kill_at > now:
                self._kill_at = now
                self.expired(now)
            return
        self.stopping = True
        self._kill_at = now if at_once else now + self._grace_s
        for worker in self.workers:
            if worker.phase is Phase.RUNNING:
                self._kill(worker, signal.SIGTERM)
            elif worker.phase is Phase.WAITING:
                worker.phase = Phase.ENDED
        self._set_deadline()

    def expired(self, now: float) -> None:
        """`deadline` has passed: start whose wait is over, or end by force who has not ended."""
        if now >= self._kill_at > -math.inf:
            self._kill_at = -math.inf  # also for one whose start is still under way
            for worker in self.workers:
                if worker.phase is Phase.RUNNING:
                    self._report("warn", f"{self._told(worker)} did not end in time and is ended with SIGKILL")
                    self._kill(worker, signal.SIGKILL)
        for worker in self.workers:
            if worker.phase is Phase.WAITING and worker.due <= now:
                worker.phase = Phase.STARTING
                worker.last_line = ""
                worker.pid = 0
                stderr = self._stderr(worker) if self._stderr else None
                self.turn.orders.append(Spawn(self.launch, worker, stderr=stderr))
        self._set_deadline()

    # what the workers tell

    def _started(self, worker: Worker) -> None:
        if self.stopping:
            self._kill(worker, signal.SIGKILL if self._kill_at == -math.inf else signal.SIGTERM)

    def _failed(self, worker: Worker, error: OSError, now: float) -> None:
        if self.stopping:
            worker.phase = Phase.ENDED
            return
        why = self._why(error, self.launch)
        worker.broken = f"its worker could not be started: {why.detail}"
        remedy = f"; {why.remedy}" if why.remedy else ""
        delay_s = self._back_off(worker, LONGEST_DELAY_S, now)
        self._report(
            "error",
            f"app {self.name!r} worker could not be started: {why.detail}{remedy}; trying again in {delay_s:.1f} s",
        )

    def _exited(self, worker: Worker, code: int, now: float) -> None:
        told = self._told(worker)
        # What is left of its group would go on to accept connections on the shared socket.
        self._kill(worker, signal.SIGKILL)
        if self.stopping:
            worker.phase = Phase.ENDED
            self._set_deadline()
            return
        self.restarts += 1
        lived_s = now - worker.since
        parts = [f"{told} {exit_in_words(code)} after {lived_s:.1f} s"]
        if worker.last_line:
            parts.append(f"last line of its stderr: {worker.last_line}")
        if code == self._refused:
            worker.broken = "; ".join(["its worker can't start", *parts[1:]])
        elif code == 0 or lived_s >= STEADY_S or (code < 0 and not worker.bad_starts):
            worker.broken = ""  # a signal may have come from anybody, once
        else:
            worker.broken = "; ".join(["its worker dies at once", *parts[1:]])
        if lived_s >= STEADY_S:
            worker.bad_starts = 0
            worker.phase = Phase.WAITING
            worker.due = now
            parts.append("restarting")
        else:
            longest_s = LONGEST_DELAY_S if code else LONGEST_DELAY_ON_PURPOSE_S
            delay_s = self._back_off(worker, longest_s, now)
            if code == 0 and worker.bad_starts > 1:
                parts.append("does it go into the background? It must stay in the foreground")
            parts.append(f"restarting in {delay_s:.1f} s")
        if code or worker.bad_starts & (worker.bad_starts - 1) == 0:  # the same each second: told less and less often
            self._report("error" if code else "info", "; ".join(parts))
        self.expired(now)

    def _back_off(self, worker: Worker, longest_s: float, now: float) -> float:
        """Let the worker wait; how long, in seconds. Spread, so that many do not come back at once."""
        doublings = min(worker.bad_starts, 30)
        delay_s = min(FIRST_DELAY_S * 2.0**doublings, longest_s) * (0.75 + self._fraction() / 2)
        worker.bad_starts += 1
        worker.phase = Phase.WAITING
        worker.due = now + delay_s
        self._set_deadline()
        return delay_s

    def _kill(self, worker: Worker, signal_number: int) -> None:
        self.turn.orders.append(Kill(worker.pid, signal_number))

    def _set_deadline(self) -> None:
        waits = [worker.due for worker in self.workers if worker.phase is Phase.WAITING]
        if self._kill_at > -math.inf and not self.stopped:
            waits.append(self._kill_at)
        self.deadline = min(waits, default=math.inf)

    def _told(self, worker: Worker) -> str:
        return f"app {self.name!r} worker {worker.pid}"
