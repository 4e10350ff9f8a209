"""Learn how processes ended, and end them with all they started.

Promise: every watched process is reaped once and its callback called once; a signal never reaches a
process that only has the number of one of ours.
Must never know: HTTP, event loops, why a process ends. Next: `supervise.py`.

Children are waited for by their number, never all together: other code may have children too.

About numbers: the kernel gives a number to no new process while a process *or a group* has it. So a
group may be signalled as long as its leader runs or is not reaped, and after that as long as members
of it are left. Whether some are left is asked right after the leader was reaped. If later a *process*
has the number, the group had gone and the number went to a stranger: it is not signalled.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

LOST = 256
"""Reported, in place of a code, when somebody else reaped a watched process: no real code is above 255."""

_PRUNE_ABOVE = 256


class Reaper:
    """The processes of one driver. Not thread-safe: for the driver's own thread."""

    __slots__ = ("_leaderless", "_prune_above", "_watched")

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[int], None]] = {}
        self._leaderless: set[int] = set()
        self._prune_above = _PRUNE_ABOVE

    def __len__(self) -> int:
        """Processes that are watched and not yet reaped."""
        return len(self._watched)

    def watch(self, pid: int, callback: Callable[[int], None]) -> None:
        """Call `callback(code)` when `pid`, a child of ours in a process group of its own, has ended.

        `code` is as in subprocess.Popen.returncode. If it has ended before, its SIGCHLD is past and
        the callback is called here, before this returns.
        """
        self._leaderless.discard(pid)
        self._watched[pid] = callback
        self._collect(pid)

    def reap(self) -> None:
        """Reap what has ended: to be called on SIGCHLD, or at any time."""
        while self._watched:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if ended is None:
                return
            if not self._collect(ended.si_pid):
                # A child of somebody else, whose status must stay, hides ours from that question.
                break
        for pid in list(self._watched):
            self._collect(pid)

    def runs(self, pid: int) -> bool:
        """Whether a watched process has not ended yet; if it has, it is reaped here. False for any other one."""
        return not self._collect(pid) and pid in self._watched

    def _collect(self, pid: int) -> bool:
        callback = self._watched.get(pid)
        if callback is None:
            return False
        try:
            ended, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            code = LOST
        else:
            if not ended:
                return False
            code = os.waitstatus_to_exitcode(status)
            if _group_exists(pid):
                self._leaderless.add(pid)
                self._prune()
        del self._watched[pid]
        callback(code)
        return True

    def _prune(self) -> None:
        if len(self._leaderless) > self._prune_above:
            self._leaderless = {pid for pid in self._leaderless if _group_exists(pid)}
            self._prune_above = max(_PRUNE_ABOVE, 2 * len(self._leaderless))

    def kill_group(self, pid: int, signal_number: int) -> bool:
        """Send a signal to all processes of the group of `pid`; whether there was one to send it to.

        False also where we may not (the processes changed their user). Raises ValueError for a pid that
        would mean something else than a group of ours.
        """
        if pid <= 1:
            raise ValueError(f"{pid} is no process group of ours")
        if pid not in self._watched:
            if pid not in self._leaderless:
                return False
            if process_exists(pid):
                self._leaderless.discard(pid)
                return False
        try:
            os.killpg(pid, signal_number)
        except ProcessLookupError:
            self._leaderless.discard(pid)
            return False
        except PermissionError:
            return False
        return True

    def kill_all(self) -> None:
        """SIGKILL to every group that is left: the gateway ends."""
        for pid in [*self._watched, *self._leaderless]:
            self.kill_group(pid, signal.SIGKILL)


def _group_exists(pid: int) -> bool:
    return _is_there(os.killpg, pid)


def process_exists(pid: int) -> bool:
    """Whether there is a process of this number, whoever's it is."""
    return _is_there(os.kill, pid)


def _is_there(kill: Callable[[int, int], None], pid: int) -> bool:
    try:
        kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def exit_in_words(code: int) -> str:
    """How a process ended, for a log line: "exited with code 3", "was ended by SIGSEGV"."""
    if code == LOST:
        return "ended, its exit code is not known"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (perhaps out of memory?)" if code == -signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
