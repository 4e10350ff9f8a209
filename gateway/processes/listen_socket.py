"""Listening sockets: for the server's own `listen`, and to be handed to workers on descriptor 0.

Promise: a socket file is replaced only if nobody listens at it; no client gets in before the mode is set.
Must never know: HTTP, event loops. Next: `supervise.py`, which hands one to each worker.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from typing import Final, TypeAlias

from gateway.ends import Address

UNIX_PATH_BYTES = 107
"""Longest path of a unix socket on Linux (sun_path less its NUL)."""

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel lowers it to net.core.somaxconn."""


Place: TypeAlias = Address | int
"""Where to listen; a number is a descriptor that listens already (socket activation, `fd:3`)."""
SYSTEMD: Final = -1
"""A place that stands for all sockets that systemd has handed over."""


def make_listener(place: Place, *, mode: int = 0o660, backlog: int = BACKLOG) -> tuple[socket.socket, str]:
    """A socket that listens there, and its name: "127.0.0.1:8000", "[::1]:8000", "unix:/a/path", "fd:3".

    It is blocking, as workers expect it, and close-on-exec. Port 0 lets the system choose one, and the
    name tells which. A host of "" is all addresses of the machine, in both families where it has both.
    Raises OSError: EADDRINUSE where another listens, ENOTSOCK where a path is some other file,
    ENAMETOOLONG for a path above 107 octets, EINVAL for a descriptor that does not listen,
    socket.gaierror for an unknown host, and what bind raises. `explain_bind` tells what to do.
    """
    if isinstance(place, int):
        return _adopt(place), f"fd:{place}"
    if place.path:
        return _make_unix_listener(place.path, mode, backlog), str(place)
    host = place.host
    if not host and socket.has_dualstack_ipv6():
        family: int = socket.AF_INET6
        name: tuple[object, ...] = ("::", place.port)
    else:
        family, _, _, _, name = socket.getaddrinfo(
            host or "0.0.0.0", place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted server must not wait for the old connections to leave TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # Else [::] would take the port of 0.0.0.0 as well, and one config could not name both.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host else 0)
        listener.bind(name)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    bound = listener.getsockname()
    return listener, str(Address(bound[0], bound[1]))


def close_listener(listener: socket.socket) -> None:
    """Close it, and remove the file of a unix socket unless somebody else still listens at it."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else ""
    listener.close()
    remove_stale(path)


def remove_stale(path: str) -> None:
    """Remove the file of a unix socket unless somebody listens at it."""
    if path:
        with contextlib.suppress(OSError), _lock_of_directory(path):
            _remove_if_stale(path)


def _adopt(fd: int) -> socket.socket:
    if fd <= 2:  # a program that we host may close what it takes for its standard input
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, fd)
        os.close(null)
        fd = moved
    listener = socket.socket(fileno=fd)
    try:
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError(errno.EINVAL, "the socket does not listen")
        listener.set_inheritable(False)
        listener.setblocking(True)
    except BaseException:
        listener.detach()
        raise
    return listener


def _make_unix_listener(path: str, mode: int, backlog: int) -> socket.socket:
    length = len(os.fsencode(path))
    if length > UNIX_PATH_BYTES:
        raise OSError(
            errno.ENAMETOOLONG,
            f"the path has {length} octets, a unix socket may have {UNIX_PATH_BYTES}",
            path,
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _lock_of_directory(path):
            try:
                listener.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                _remove_if_stale(path)
                listener.bind(path)
            # Before listen, every connect is refused, so that the mode is never too open for a moment.
            os.chmod(path, mode)
            listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _lock_of_directory(path: str) -> Iterator[None]:
    """Keep two gateways that start at once from each taking the other's new socket for a stale one."""
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        yield  # a directory that we may write but not read: no lock, and the race is left open
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_if_stale(path: str) -> None:
    """Unlink a socket at which nobody listens; OSError if it is none, or somebody does."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), path)
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog must not make us wait: it answers EAGAIN
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def explain_bind(error: OSError, place: Place) -> tuple[str, str]:
    """Why `make_listener` could not listen there, and what to do (SEMANTICS 97), each a short sentence."""
    if isinstance(place, int):
        return (
            f"descriptor {place} is no listening socket: {error.strerror or error}",
            'listen = "fd:N" is for socket activation: systemd numbers its sockets from 3',
        )
    if isinstance(error, socket.gaierror):
        return f"{place}: the name {place.host} is not known: {error.strerror}", "give an IP address"
    code = error.errno
    if code == errno.EADDRINUSE:
        if place.path:
            return f"{place}: another server listens there", "stop that server, or choose another path"
        return (
            f"{place}: another server listens there",
            f"stop that server, or choose another port; who has it: ss -ltnp 'sport = :{place.port}'",
        )
    if place.path:
        return _explain_path(error, place)
    if code in (errno.EACCES, errno.EPERM):
        return (
            f"{place}: user {os.geteuid()} may not listen at this port",
            "ports below 1024 need root (the gateway then drops to `user`) or "
            "AmbientCapabilities=CAP_NET_BIND_SERVICE of systemd; or choose a port from 1024 up",
        )
    if code == errno.EADDRNOTAVAIL:
        return (
            f"{place}: this machine does not have the address",
            "see `ip address`, or listen at 0.0.0.0 or [::]",
        )
    if code == errno.EAFNOSUPPORT:
        return f"{place}: this machine does not speak that kind of address", "listen at an IPv4 address"
    return f"{place}: {error.strerror or error}", ""


def _explain_path(error: OSError, place: Address) -> tuple[str, str]:
    code = error.errno
    parent = os.path.dirname(place.path) or "."
    if code == errno.ENAMETOOLONG:
        return f"{place}: {error.strerror}", "choose a shorter path"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return f"{place}: directory {parent} does not exist", f"mkdir -p {parent}"
    if code == errno.ENOTSOCK:
        return (
            f"{place}: a file that is not a socket is there, and is left alone",
            "remove it, or choose another path",
        )
    if code in (errno.EACCES, errno.EPERM):
        if os.path.exists(place.path):
            return (
                f"{place}: a socket is there, and user {os.geteuid()} may not see whether it is in use",
                "remove it, or choose another path",
            )
        return (
            f"{place}: user {os.geteuid()} may not create a file in {parent}",
            f"chown or chmod {parent}, or choose a directory of that user",
        )
    if code == errno.EROFS:
        return f"{place}: the file system is read-only", "choose another directory, for example below /run"
    return f"{place}: {error.strerror or error}", ""
