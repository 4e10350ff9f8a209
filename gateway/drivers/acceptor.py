"""A listening socket under a driver: whoever connects is handed on.

Promise: nobody is accepted while it is paused, so that a client waits for, or goes to, an engine that has room;
where the system has no descriptor left, it waits for a second and does not spin.
Must never know: what is served. Next: `driver.py`, under which it listens.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from gateway.drivers.poller import ONE_OF_US, READABLE

if TYPE_CHECKING:
    from gateway.drivers.driver import Driver

STALL_S: Final = 1.0
"""So long nobody is accepted after the system could not."""
_THEIRS: Final = (
    errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET,
    errno.EHOSTUNREACH, errno.EOPNOTSUPP, errno.ENETUNREACH,
)  # fmt: skip
"""It is over with the connection that was next, not with us (accept(2))."""


def moved(sock: socket.socket) -> socket.socket:
    """The socket above 0, 1 and 2, which a program that we host may have closed: what it prints must go nowhere."""
    number = sock.detach()
    above = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, number)
    if null > 2:
        os.close(null)
    return socket.socket(fileno=above)


class Acceptor:
    """Accepts at one listening socket."""

    def __init__(
        self,
        driver: Driver,
        sock: socket.socket,
        taker: Callable[[socket.socket], None],
        exclusive: bool,
        at_once: int,
        trouble: Callable[[OSError], None] | None,
    ) -> None:
        sock.setblocking(False)
        self.driver = driver
        self.sock = sock
        self.taker = taker
        self.events = READABLE | ONE_OF_US if exclusive else READABLE
        self.at_once = at_once
        self.trouble = trouble
        self.descriptor = sock.fileno()
        """-1 once it is closed; the socket itself may be closed before."""
        self.paused = False
        self.stalled_until = 0.0
        """0.0: it is not stalled."""
        self._watched = False
        self._poll: Any = None
        driver.acceptors.add(self)
        self._look()

    def pause(self) -> None:
        """Accept nobody."""
        self.paused = True
        self._look()

    def go_on(self) -> None:
        self.paused = False
        self._look()

    def close(self) -> None:
        """Accept nobody ever; the socket is its owner's to close."""
        self.pause()
        self.descriptor = -1
        self.driver.acceptors.discard(self)

    def leave(self, *, last: bool) -> None:
        """Accept nobody ever, but those for whom we were woken already, as others may not be; all of them, if `last`:
        nobody will accept here after us."""
        if self._watched:
            self._ready(READABLE)
        while last and not self.stalled_until and self.pending():
            self.go_on()
            self._ready(READABLE)
        self.close()

    def pending(self) -> bool:
        """Whether somebody waits to be accepted."""
        if self.descriptor < 0:
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self.descriptor, select.POLLIN)
        return bool(self._poll.poll(0))

    def tick(self, now: float) -> None:
        """Called at every sweep."""
        if self.stalled_until and now >= self.stalled_until:
            self.stalled_until = 0.0
            self._look()

    def _look(self) -> None:
        wanted = not self.paused and not self.stalled_until
        if wanted is self._watched or self.descriptor < 0:
            return
        self._watched = wanted
        poller = self.driver.poller
        if wanted:
            poller.watch(self.descriptor, self.events, self._ready)
        else:
            try:
                poller.forget(self.descriptor)
            except OSError:  # its owner has closed the socket: the kernel has taken it out
                pass

    def _ready(self, events: int) -> None:
        for _ in range(self.at_once):
            try:
                sock = self.sock.accept()[0]
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _THEIRS:
                    continue
                self._stall(error)
                return
            if sock.fileno() <= 2:
                sock = moved(sock)
            try:
                self.taker(sock)
            except Exception as error:
                sock.close()
                self.driver.guard(None, error)
            if not self._watched:
                return

    def _stall(self, error: OSError) -> None:
        self.stalled_until = monotonic() + STALL_S
        self._look()
        if self.trouble is not None:
            try:
                self.trouble(error)
            except Exception as defect:
                self.driver.guard(None, defect)
