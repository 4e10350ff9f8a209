"""What systemd is told, and what it has handed over: sd_notify(3) and sd_listen_fds(3), without its library.

Promise: nobody who does not ask is told; a message that can't be sent breaks nothing; what is for us alone is taken
out of the environment, so that no child takes it for its own.
Must never know: what is served. Next: `gateway/house.py`, which tells.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
PATIENCE_S = 0.5
"""So long a service manager may keep us that does not read what it is told."""


class Notify:
    """The way to a service manager; a silent one where there is none."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """`address`: of a unix datagram socket, with @ for the NUL of an abstract one. `watchdog_s`: a sign of life is
        missed after so long; 0.0: nobody waits for one."""
        self.address = address
        self.watchdog_s = watchdog_s
        self._due = 0.0

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notify:
        """As the environment says, which is left without it."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = pid in ("", str(os.getpid()))
        return cls(address, int(period) / 1e6 if period.isdecimal() and ours else 0.0)

    def environment(self) -> dict[str, str]:
        """What makes the same of another process that takes our place."""
        found = {"NOTIFY_SOCKET": self.address} if self.address else {}
        if self.watchdog_s:
            found["WATCHDOG_USEC"] = str(round(self.watchdog_s * 1e6))
        return found

    def tell(self, **values: object) -> None:
        """READY=1, STATUS="a text" and their like, in one message."""
        if not self.address:
            return
        text = "\n".join(f"{name}={str(value).replace(chr(10), ' ')}" for name, value in values.items())
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect(name)
            sock.send(text.encode())

    def reloading(self) -> None:
        """To be followed by READY=1, whatever came of it."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def beat(self, now: float) -> None:
        """A sign of life, twice as often as one is wanted; to be called whenever all is well."""
        if self.watchdog_s and now >= self._due:
            self._due = now + self.watchdog_s / 2
            self.tell(WATCHDOG=1)


def handed_over(environment: MutableMapping[str, str]) -> list[int]:
    """Descriptors of the sockets that systemd has made for us; the environment is left without them."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    environment.pop("LISTEN_PIDFDID", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return list(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count)))
