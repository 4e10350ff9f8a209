"""Where a flup program listens: `bindAddress`, `umask`, or the socket on descriptor 0.

Promise: a socket that somebody else listens at is never taken away from them; an address that can't be had is an
OSError that says what to do. Must never know: what is served. Next: `processes/listen_socket.py`, which binds.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, TypeAlias

from gateway.ends import Address
from gateway.processes.listen_socket import explain_bind, make_listener

BindAddress: TypeAlias = str | os.PathLike[str] | tuple[Any, ...] | None
"""The path of a unix socket; (host, port), which is IPv4 unless the host is an IPv6 address; (host, port, flow
information, scope) for IPv6; None for descriptor 0."""

LISTENSOCK = 0
"""Where a FastCGI program finds its listening socket (FastCGI 2.2)."""


def listen(bind: BindAddress, umask: int | None) -> socket.socket:
    """A socket of our own; a unix socket gets the mode that `umask`, or that of the process, leaves. Raises OSError."""
    place = place_of(bind)
    try:
        return make_listener(place, mode=0o777 & ~(umask if umask is not None else _umask_of_process()))[0]
    except OSError as error:
        what, remedy = explain_bind(error, place)
        raise OSError(error.errno, f"{what}; {remedy}" if remedy else what) from None


def place_of(bind: BindAddress) -> Address:
    """What `bindAddress` says. Raises OSError for a host that is not known, TypeError for what is no address."""
    if isinstance(bind, str | os.PathLike):
        return Address(path=os.fspath(bind))
    is_name = isinstance(bind, tuple) and len(bind) in (2, 4) and isinstance(bind[0], str) and isinstance(bind[1], int)
    if not is_name or not isinstance(bind, tuple):
        raise TypeError(f"bindAddress={bind!r}: neither a path nor a host and a port, such as ('127.0.0.1', 9000)")
    host, port = bind[0], bind[1]
    if len(bind) == 4:
        return Address(f"{host}%{bind[3]}" if bind[3] else host, port)
    if ":" in host:
        return Address(host, port)
    # of a name with both kinds of addresses, such as localhost, a web server's config means the old one
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", port, socket.AF_INET, socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(errno.EADDRNOTAVAIL, f"the name {host} is not known ({error.strerror}): give an IP address") from None
    return Address(str(found[0][4][0]), port)


def descriptor_0() -> socket.socket | None:
    """The listening socket that whoever started us has put there, as a descriptor of its own; None if there is none.

    Raises OSError for a socket that neither listens nor is connected.
    """
    try:
        fd = os.dup(LISTENSOCK)
    except OSError:
        return None
    try:
        sock = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        return None
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return sock
    try:
        sock.getpeername()
    except OSError:
        raise OSError(
            errno.EINVAL, "descriptor 0 is a socket that does not listen; who starts this program has to call listen() on it"
        ) from None
    else:
        return None  # a web server may give a CGI program a connected socket for its stdin
    finally:
        sock.close()


def _umask_of_process() -> int:
    umask = os.umask(0o077)  # for the moment, rather too strict
    os.umask(umask)
    return umask
