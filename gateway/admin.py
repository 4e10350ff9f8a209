"""The admin socket: whoever may signal the gateway may ask it how it is, and tell it what to do.

Promise: a unix socket for its owner and root only, served by the process that was started, beside what it does for
the public: it counts in no limit of the server's, and that it can't be made is no reason not to serve.
Must never know: what is asked. Next: `interfaces/admin.py`, which answers; `admin_client.py`, who asks.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct

from gateway.admin_client import private_directory
from gateway.config import Kind, Limits, Match, Route, Timeouts
from gateway.drivers.driver import Driver
from gateway.ends import Address, Turn
from gateway.errors import GatewayError, Side
from gateway.forwarding import Forwarding
from gateway.fronts.http1 import Http1Front
from gateway.interfaces.admin import AdminInterface, Handler
from gateway.observe.error_log import ErrorLog
from gateway.processes.listen_socket import explain_bind, make_listener, remove_stale
from gateway.routing import Found
from gateway.site import Service, Site
from protocols.http1 import tokeniser
from protocols.message import RemoteProtocolError
from protocols.target import Place, parse

CONNECTIONS = 64
CONTENT_BYTES = 64 * 1024
AGAIN_S = 1.0
"""So often it is tried to take the place of another gateway, which may be about to end."""
ROUTE = Route(
    number=0, path="admin", match=Match(Kind.PREFIX, b"/"), interface="admin", response_s=0.0, read_s=0.0,
    content_limit=CONTENT_BYTES,
)  # fmt: skip


class Anywhere:
    """Every path is of the one route (site.Resolver)."""

    def resolve(self, method: bytes, host: bytes, raw_target: bytes) -> Found:
        """Raises GatewayError 400."""
        try:
            return Found(ROUTE, parse(method, raw_target), Place())
        except RemoteProtocolError as error:
            raise GatewayError(400, "bad-target", error.detail, side=Side.CLIENT) from None


class Admin:
    """One socket, and what is said there."""

    def __init__(self, turn: Turn, error_log: ErrorLog, path: str) -> None:
        """`path`: of the socket; "" for none."""
        self.error_log = error_log
        self.path = path
        self.sock: socket.socket | None = None
        self.interface = AdminInterface()
        self.site = Site(
            turn, Limits(content=CONTENT_BYTES, connections=CONNECTIONS), Timeouts(), tokeniser("h11"), Forwarding(()),
            None, error_log,
        )  # fmt: skip
        self.site.services = [Service(ROUTE, self.interface)]
        self.site.router = Anywhere()
        self._driver: Driver | None = None
        self._due = 0.0
        self._told = ""

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Have `handler` called for a path; for all below it, where it ends with a slash."""
        self.interface.add(method, path, handler)

    # ------------------------------------------------------------------ its life

    def bind(self, inherited: int = -1) -> None:
        """Make the socket, while we still may; what keeps us from it is told once. `inherited`: that of a gateway whose
        place we take."""
        if inherited >= 0:
            self.sock = socket.socket(fileno=inherited)
            self.path = self.sock.getsockname()
        if not self.path or self.sock is not None:
            return
        try:
            if os.path.dirname(self.path) == private_directory(os.environ, os.geteuid()):
                make_private(os.path.dirname(self.path))
            self.sock = make_listener(Address(path=self.path), mode=0o600)[0]
        except OSError as error:
            what, remedy = explain_bind(error, Address(path=self.path))
            if error.errno == errno.EADDRINUSE:
                what = f"unix:{self.path}: process {listener_of(self.path)} listens there"
                remedy = "with one config only one gateway can be asked; when that one has ended, this one takes its place"
            self._tell(f"there is no admin socket, so `gateway status` gets no answer: {what}; {remedy}")

    def give_to(self, uid: int, gid: int) -> None:
        """To whom we become: they may signal us, too."""
        if self.sock is not None:
            os.chown(self.path, uid, gid)

    def open(self, driver: Driver) -> None:
        """Answer, on the house's own driver."""
        self._driver = driver
        driver.ticks.append(self.tick)
        self._listen()

    def tick(self, now: float, wall: float) -> None:
        self.site.tick(now, wall)
        if self.sock is None and now >= self._due:
            self._due = now + AGAIN_S
            self.bind()
            self._listen()

    def forked(self) -> None:
        """In a child: the socket is the parent's."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def forget(self) -> None:
        """Another process answers there by now."""
        if self.sock is not None:
            self.sock.close()
            self.sock, self.path = None, ""

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()
            remove_stale(self.path)
            self.sock = None

    def _listen(self) -> None:
        if self.sock is not None and self._driver is not None:
            driver = self._driver
            driver.listen(self.sock, lambda sock: driver.take(sock, Http1Front(self.site)))

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self.error_log.log("warn", text)


def make_private(directory: str) -> None:
    """A directory in one that everybody may write to. Raises OSError where it is, or may be, somebody else's."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    found = os.lstat(directory)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(errno.EPERM, "it is not a directory of ours alone", directory)


def listener_of(path: str) -> int:
    """The process that listens at a unix socket, as the kernel noted it; 0 where it can't be known."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
            pid: int = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError:
            return 0
        return pid
