"""Keep the workers of one application running: when to start, to wait, to start again, to let go, to give up.

Promise: decisions only; what is to be done is left as orders on the turn, and every end is told in words. Whoever is let
go of takes no new request from then on, and ends when it has none; if another one is to follow, that serves before.
Must never know: how a process is started or signalled, wire formats, event loops.
Next: `places.py`, by which engines and we know of each other; `launch.py` and `reap.py`, with which a driver carries
the orders out; `staff.py`, the workers.

It gets the listening socket of its place on descriptor 0 (FastCGI 2.2), /dev/null on 1 and the log on 2: the
specification closes the last two, and programs break. Exit code 0 means that it ended on purpose, as php-cgi does
after PHP_FCGI_MAX_REQUESTS.
"""

from __future__ import annotations

import math
import random
import signal
from collections import deque
from collections.abc import Callable, Sequence

from gateway.ends import End, Kill, Launch, Spawn, Turn
from gateway.processes.explain import Explanation, explain
from gateway.processes.places import BROKEN, CLOSED, LEAVING, OPEN, STARTING, Places
from gateway.processes.reap import exit_in_words
from gateway.processes.staff import PRESENT, RUNS, Phase, Staff, Worker

STEADY_S = 1.0
"""Who lived as long did start well: the next one is started at once."""
FIRST_DELAY_S = 0.1
"""Wait before the start after one bad one; doubles with each further one in a row."""
LONGEST_DELAY_S = 10.0
LONGEST_DELAY_ON_PURPOSE_S = 1.0
"""The same for exit code 0: under load, a worker may have served all its requests within STEADY_S."""
HUNG_GRACE_S = 2.0
"""How long one that hangs has to end after SIGTERM."""
FIRST_ANSWER_S = 10.0
"""So long a new process has at least for its first answer, where `start` of its staff says nothing."""
SETTLE_S = 0.3
"""So long after a worker was said to take no more, no engine sends it any by what it knew before."""
LEAVE_S = 300.0
"""What still goes on there then, such as a WebSocket, ends with it."""
WEIGH_S = 5.0
"""How often memory is looked at."""
LINE_LETTERS = 200
HUNG = "it hung"
UNREADY = "it was not ready"


class Supervisor:
    """The workers of one application.

    `launches` how each is started, for each place; its stdin is the listening socket
    `report`   takes level ("error", "warn", "info") and text
    `stderr`   makes the end that takes a worker's stderr; None: the gateway's own stderr
    `tells`    whether a process tells when it is ready (`ready`); else it is when it runs
    `refused`  the exit code of a worker that has found, however long that took, that it can't serve
    `grace_s`  how long a worker may take to end after SIGTERM
    `resident` octets of memory that a process and its children have
    `changed`  called when requests that wait may find a place
    """

    def __init__(
        self,
        turn: Turn,
        launches: Sequence[Launch],
        staff: Staff,
        places: Places,
        name: str,
        report: Callable[[str, str], None],
        stderr: Callable[[Worker], End] | None = None,
        *,
        tells: bool = False,
        grace_s: float = 10.0,
        fraction: Callable[[], float] = random.random,
        why: Callable[[OSError, Launch], Explanation] = explain,
        refused: int = -1,
        resident: Callable[[int], int] = lambda pid: 0,
        changed: Callable[[], None] = lambda: None,
        started: Callable[[Worker], None] = lambda worker: None,
    ) -> None:
        self.turn = turn
        self.launches = launches
        self.staff = staff
        self.places = places
        self.name = name
        self.workers = [Worker(self, number) for number in range(len(launches))]
        self.restarts = 0
        """Processes that took the place of one that ended by itself."""
        self.stopping = False
        self.swap: tuple[Worker, Worker] | None = None
        """Who is to leave, and who is to be there before."""
        self.restarting: Callable[[str], None] | None = None
        """Told how a restart that was asked for has ended: "" for well."""
        self._tells = tells
        self._kill_at = math.inf
        self._grace_s = grace_s
        self._report = report
        self._stderr = stderr
        self._fraction = fraction
        self._why = why
        self._refused = refused
        self._resident = resident
        self._changed = changed
        self._begun = started
        self._weighed = 0.0

    # ------------------------------------------------------------------ what others ask

    def down(self, now: float) -> str:
        """Why nobody will answer a request that comes now; "" where somebody will.

        That is so while each that is there has had a bad start, and none of those that run now is past the time within
        which a bad one dies. (One that a signal ended is bad from the second in a row.)
        """
        there = [worker for worker in self.workers if _present(worker)]
        for worker in there:
            if not worker.broken or (worker.phase is Phase.RUNNING and now - worker.since >= STEADY_S):
                return ""
        return there[0].broken if there else ""

    def retry_after_s(self, now: float) -> int:
        """When a further start will be tried and known to be good or bad, in whole seconds from now."""
        due = min((worker.due for worker in self.workers if _present(worker)), default=now)
        return math.ceil(max(0.0, due - now) + STEADY_S)

    @property
    def stopped(self) -> bool:
        """After `stop`: no worker is left."""
        return all(worker.phase is Phase.ENDED for worker in self.workers)

    def steady(self, now: float) -> bool:
        """Whether all that are to be there serve, as far as that can be known."""
        there = [worker for worker in self.workers if _present(worker)]
        return all(worker.phase is Phase.RUNNING and self._proven(worker, now) for worker in there)

    def present(self) -> int:
        """Workers that serve, or will."""
        return sum(map(_present, self.workers))

    def of_pid(self, pid: int) -> Worker | None:
        for worker in self.workers:
            if worker.pid == pid and worker.phase in RUNS:
                return worker
        return None

    def served(self, worker: Worker) -> int:
        """Requests that its process has been rid of."""
        return self.places.answered(worker.number) - worker.base

    # ------------------------------------------------------------------ what is to happen

    def start(self, now: float) -> None:
        """Start as many as there are to be."""
        self._fill(now)

    def ready(self, worker: Worker) -> None:
        """It has told that it serves."""
        if not worker.ready:
            worker.ready = True
            self._tell(worker)

    def restart(self, now: float, done: Callable[[str], None]) -> None:
        """Let others take over, one after the other; `done` is told "" when they have, or why they could not."""
        if self.restarting is not None or self.stopping:
            done("a restart is under way" if self.restarting is not None else "it is being stopped")
            return
        self.restarting = done
        for worker in self.workers:
            if worker.phase is Phase.WAITING:
                worker.due = now
            elif worker.phase in PRESENT:
                worker.worn = "a new one was asked for"
        self.tick(now)

    def stop(self, now: float, *, at_once: bool = False) -> None:
        """Ask all to end (SIGTERM), and make those end that have not after `grace_s`, or at once (SIGKILL)."""
        if self.stopping:
            if at_once and self._kill_at > now:
                self._kill_at = now
                self.tick(now)
            return
        self.stopping = True
        self._kill_at = now if at_once else now + self._grace_s
        self._restarted("it was stopped")
        for worker in self.workers:
            if worker.phase in (Phase.RUNNING, Phase.LEAVING):
                self._kill(worker, signal.SIGTERM)
            elif worker.phase in (Phase.WAITING, Phase.ABSENT):
                worker.phase = Phase.ENDED
        if at_once:
            self.tick(now)

    def look(self, now: float) -> None:
        """Engines have sent requests to where nobody is, or wait for too long."""
        if self.stopping:
            return
        for worker in self.workers:
            if worker.phase is Phase.ABSENT and self.places.outstanding(worker.number):
                self._wait(worker, now)
            elif worker.phase in (Phase.RUNNING, Phase.LEAVING):
                since = self.places.overdue_since(worker.number)
                if since and now - worker.since >= (now - since) / 2:  # else it has waited at the socket for longer
                    self._hung(worker, "has not answered a request in time", now)
        self._start_due(now)

    def tick(self, now: float) -> None:
        """Called at every sweep: do what is due."""
        for worker in self.workers:
            if worker.kill_at <= now or (now >= self._kill_at > -math.inf and worker.phase in RUNS):
                worker.kill_at = math.inf
                self._report("warn", f"{self._told(worker)} did not end in time and is ended with SIGKILL")
                self._kill(worker, signal.SIGKILL)
        if self.stopping:
            if now >= self._kill_at:
                self._kill_at = -math.inf  # also for one whose start is still under way
            return
        self.look(now)
        if now - self._weighed >= WEIGH_S:
            self._weighed = now
            for worker in self.workers:
                worker.memory = self._resident(worker.pid) if worker.phase in (Phase.RUNNING, Phase.LEAVING) else 0
        for worker in self.workers:
            if worker.phase is Phase.RUNNING:
                self._watch(worker, now)
            elif worker.phase is Phase.LEAVING:
                self._watch_leaving(worker, now)
        self._fill(now)
        self._replace(now)
        self._shrink(now)

    def _watch(self, worker: Worker, now: float) -> None:
        staff, places, number = self.staff, self.places, worker.number
        served = self.served(worker)
        outstanding = places.outstanding(number)
        if outstanding or served != worker.was_served:
            worker.was_served = served
            worker.idle_since = now
        if now - worker.since >= STEADY_S:
            worker.broken = ""
        if staff.start_s and now - worker.since >= staff.start_s and self._unproven(worker, served, outstanding):
            self._hung(worker, f"was not ready within {staff.start_s:g} s of its start", now, UNREADY)
        elif outstanding and now - max(abs(places.busy_since(number)), worker.since) >= self._busy_bound_s(served):
            self._hung(worker, f"has answered no request for {staff.busy_s:g} s", now)
        elif not worker.worn:
            if staff.requests and served >= staff.requests * worker.spread:
                worker.worn = f"it has served {served} requests"
            elif staff.lifetime_s and now - worker.since >= staff.lifetime_s * worker.spread:
                worker.worn = f"it has lived for {now - worker.since:.0f} s"
            elif staff.memory and worker.memory >= staff.memory:
                worker.worn = f"it has {worker.memory // 1024} KiB of memory"

    def _busy_bound_s(self, served: int) -> float:
        """One that has answered nothing yet may still be starting, and is no better if it is ended for that."""
        busy_s = self.staff.busy_s or math.inf
        return busy_s if served else max(busy_s, self.staff.start_s or FIRST_ANSWER_S)

    def _unproven(self, worker: Worker, served: int, outstanding: int) -> bool:
        return not worker.ready if self._tells else not served and outstanding > 0

    def _watch_leaving(self, worker: Worker, now: float) -> None:
        """It ends once no engine has anything there."""
        since = worker.leaving_since
        if now - since >= SETTLE_S and (not self.places.outstanding(worker.number) or now - since >= LEAVE_S):
            worker.phase = Phase.ENDING
            worker.kill_at = now + self._grace_s
            self._kill(worker, signal.SIGTERM)

    # ------------------------------------------------------------------ how many

    def _fill(self, now: float) -> None:
        """Never fewer than there are to be at least."""
        for _ in range(self.staff.min - self.present()):
            absent = self._absent()
            if absent is None:
                break
            self._wait(absent, now)
        self._start_due(now)

    def _absent(self) -> Worker | None:
        for worker in self.workers:
            if worker.phase is Phase.ABSENT:
                return worker
        return None

    def _wait(self, worker: Worker, now: float) -> None:
        worker.phase = Phase.WAITING
        worker.due = max(worker.due, now)
        self._tell(worker)

    def _start_due(self, now: float) -> None:
        for worker in self.workers:
            if worker.phase is not Phase.WAITING or worker.due > now:
                continue
            if not self._needed(worker):
                worker.phase = Phase.ABSENT
                worker.broken = ""
                self._tell(worker)
                continue
            worker.phase = Phase.STARTING
            worker.lines = deque()
            worker.pid = 0
            stderr = self._stderr(worker) if self._stderr else None
            self._tell(worker)
            self.turn.orders.append(Spawn(self.launches[worker.number], worker, stderr=stderr))

    def _needed(self, worker: Worker) -> bool:
        """Whether there is to be a process at its place, which waits for one."""
        if self.swap is not None and self.swap[1] is worker:
            return True
        return self.present() <= self.staff.min or self.places.outstanding(worker.number) > 0

    def _replace(self, now: float) -> None:
        """One at a time leaves that is worn, once another one serves."""
        if self.swap is not None:
            old, new = self.swap
            if old.phase is not Phase.RUNNING:  # it has ended by itself
                self.swap = None
            elif new.phase is Phase.RUNNING and self._proven(new, now):
                self.swap = None
                self._leave(old, old.worn, now)
            elif new.phase not in PRESENT:
                self.swap = None
        if self.swap is None:
            worn = [worker for worker in self.workers if worker.phase is Phase.RUNNING and worker.worn]
            absent = self._absent()
            if worn and absent is not None:
                self.swap = (min(worn, key=lambda worker: worker.since), absent)
                self._wait(absent, now)
                self._start_due(now)
            elif not worn and not any(worker.worn for worker in self.workers if worker.phase in PRESENT):
                self._restarted("")

    def _proven(self, worker: Worker, now: float) -> bool:
        if self._tells:
            return worker.ready
        return self.served(worker) > 0 or now - worker.since >= STEADY_S

    def _give_up_restart(self, new: Worker) -> None:
        """If new ones were asked for, and this one of them can't serve, the old ones go on."""
        if self.restarting is None or self.swap is None or self.swap[1] is not new or not new.broken:
            return
        self.swap = None
        new.phase = Phase.ABSENT
        self._tell(new)
        for worker in self.workers:
            worker.worn = ""
        self._restarted(new.broken)

    def _restarted(self, why: str) -> None:
        done, self.restarting = self.restarting, None
        if done is not None:
            done(why)

    def _shrink(self, now: float) -> None:
        """One that was idle for long leaves, as long as enough are left; one too many leaves as soon as it is noticed.

        There are too many where engines sent requests to more places than one while a worker that hung was ended.
        """
        present = self.present()
        if self.swap is not None or present <= self.staff.min:
            return
        idle = [worker for worker in self.workers if worker.phase is Phase.RUNNING]
        longest = min(idle, key=lambda worker: worker.idle_since, default=None)
        if longest is None:
            return
        if present > self.staff.max:
            self._leave(longest, f"there were more than {self.staff.max}", now)
        elif self.staff.idle_s and now - longest.idle_since >= self.staff.idle_s:
            self._leave(longest, f"it was idle for {self.staff.idle_s:g} s", now)

    def _leave(self, worker: Worker, why: str, now: float) -> None:
        worker.phase = Phase.LEAVING
        worker.why = why
        worker.leaving_since = now
        self._tell(worker)

    def _hung(self, worker: Worker, how: str, now: float, why: str = HUNG) -> None:
        self._report("error", f"{self._told(worker)} {how} and is ended")
        worker.phase = Phase.ENDING
        worker.why = why
        worker.kill_at = now + HUNG_GRACE_S
        self.places.hung(worker.number, now)
        self._kill(worker, signal.SIGTERM)

    # ------------------------------------------------------------------ what the workers tell

    def _started(self, worker: Worker, pid: int, now: float) -> None:
        worker.phase = Phase.RUNNING
        worker.pid = pid
        worker.since = worker.idle_since = now
        worker.base = self.places.answered(worker.number)
        worker.was_served = 0
        worker.worn = worker.why = ""
        worker.kill_at = math.inf
        worker.ready = not self._tells
        worker.spread = 0.9 + self._fraction() / 5
        self._begun(worker)
        self._tell(worker)
        if self.stopping:
            self._kill(worker, signal.SIGKILL if self._kill_at == -math.inf else signal.SIGTERM)

    def _failed(self, worker: Worker, error: OSError, now: float) -> None:
        if self.stopping:
            worker.phase = Phase.ENDED
            return
        why = self._why(error, self.launches[worker.number])
        worker.broken = f"its worker could not be started: {why.detail}"
        remedy = f"; {why.remedy}" if why.remedy else ""
        delay_s = self._back_off(worker, LONGEST_DELAY_S, now)
        self._report(
            "error",
            f"app {self.name!r} worker could not be started: {why.detail}{remedy}; trying again in {delay_s:.1f} s",
        )
        self._give_up_restart(worker)

    def _exited(self, worker: Worker, code: int, now: float) -> None:
        told = self._told(worker)
        # What is left of its group would go on to accept connections on the socket.
        self._kill(worker, signal.SIGKILL)
        was, worker.kill_at = worker.phase, math.inf
        if self.stopping:
            worker.phase = Phase.ENDED
            return
        lived_s = now - worker.since
        parts = [f"{told} {exit_in_words(code)} after {lived_s:.1f} s"]
        lines = [line[:LINE_LETTERS] for line in worker.lines]
        last = [f"last line of its stderr: {lines[-1]}"] if lines else []
        parts += last if len(lines) < 2 else ["last lines of its stderr: " + " | ".join(lines)]
        if was in (Phase.LEAVING, Phase.ENDING):
            self._ended_as_told(worker, parts[0], lived_s, now)
            return
        self.restarts += 1
        refused = code == self._refused
        if refused:
            worker.broken = "; ".join(["its worker can't start", *last])
        elif code == 0 or lived_s >= STEADY_S or (code < 0 and not worker.bad_starts):
            worker.broken = ""  # a signal may have come from anybody, once
        else:
            worker.broken = "; ".join(["its worker dies at once", *last])
        if lived_s >= STEADY_S and not refused:  # on a busy machine it may take long to say that it can't
            worker.bad_starts = 0
            worker.phase = Phase.WAITING
            worker.due = now
            parts.append("restarting" if self._needed(worker) else "no other one is needed now")
        else:
            longest_s = LONGEST_DELAY_S if code else LONGEST_DELAY_ON_PURPOSE_S
            delay_s = self._back_off(worker, longest_s, now)
            if code == 0 and worker.bad_starts > 1:
                parts.append("does it go into the background? It must stay in the foreground")
            parts.append(f"restarting in {delay_s:.1f} s")
        if code or worker.bad_starts & (worker.bad_starts - 1) == 0:  # the same each second: told less and less often
            self._report("error" if code else "info", "; ".join(parts))
        self._tell(worker)
        self._give_up_restart(worker)
        self._start_due(now)

    def _ended_as_told(self, worker: Worker, told: str, lived_s: float, now: float) -> None:
        worker.broken = ""
        if worker.why == UNREADY:
            worker.broken = f"its worker was not ready within {self.staff.start_s:g} s"
            delay_s = self._back_off(worker, LONGEST_DELAY_S, now)
            self._report("error", f"{told}; {worker.broken}; restarting in {delay_s:.1f} s")
            self._give_up_restart(worker)
            return
        if worker.why == HUNG:
            self.restarts += 1
        self._report("info", f"{told}: {worker.why}")
        worker.phase = Phase.ABSENT
        worker.due = now
        self._tell(worker)
        self.look(now)
        self._fill(now)

    def _back_off(self, worker: Worker, longest_s: float, now: float) -> float:
        """Let the worker wait; how long, in seconds. Spread, so that many do not come back at once."""
        doublings = min(worker.bad_starts, 30)
        delay_s = min(FIRST_DELAY_S * 2.0**doublings, longest_s) * (0.75 + self._fraction() / 2)
        worker.bad_starts += 1
        worker.phase = Phase.WAITING
        worker.due = now + delay_s
        self._tell(worker)
        return delay_s

    def _kill(self, worker: Worker, signal_number: int) -> None:
        self.turn.orders.append(Kill(worker.pid, signal_number))

    def _told(self, worker: Worker) -> str:
        return f"app {self.name!r} worker {worker.pid}"

    def _tell(self, worker: Worker) -> None:
        """Let the engines know what becomes of the place."""
        match worker.phase:
            case Phase.ABSENT | Phase.ENDED:
                state = CLOSED
            case Phase.WAITING:
                state = BROKEN
            case Phase.RUNNING:
                state = OPEN if worker.ready else STARTING
            case Phase.STARTING:
                state = STARTING
            case _:
                state = LEAVING
        self.places.states[worker.number] = state
        if state in (CLOSED, STARTING, OPEN):
            self._changed()


def _present(worker: Worker) -> bool:
    """Whether it serves, or will; one that was not ready in time is waited for as one that dies at once."""
    return worker.phase in PRESENT or (worker.phase is Phase.ENDING and worker.why == UNREADY)
