"""Where a flup program listens: `bindAddress`, `umask`, descriptor 0."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.ends import Address
from gateway.flup import listening
from gateway.flup.listening import descriptor_0, listen, place_of


@pytest.mark.parametrize(
    ("bind", "place"),
    [
        ("/run/x.sock", Address(path="/run/x.sock")),
        (Path("x"), Address(path="x")),
        (("127.0.0.1", 9000), Address("127.0.0.1", 9000)),
        (("", 9000), Address("0.0.0.0", 9000)),
        (("localhost", 4000), Address("127.0.0.1", 4000)),
        (("::1", 9000), Address("::1", 9000)),
        (("::1", 9000, 0, 0), Address("::1", 9000)),
        (("fe80::1", 9000, 0, 3), Address("fe80::1%3", 9000)),
    ],
)
def test_addresses(bind: Any, place: Address) -> None:
    assert place_of(bind) == place


@pytest.mark.parametrize("bind", [9000, ("127.0.0.1",), ("127.0.0.1", "9000"), (1, 2), ["127.0.0.1", 9000], None, b"/x"])
def test_what_is_no_address(bind: Any) -> None:
    with pytest.raises(TypeError, match="neither a path nor a host and a port"):
        place_of(bind)


def test_a_host_that_is_not_known() -> None:
    with pytest.raises(OSError, match="give an IP address"):
        listen(("no such host.invalid", 9000), None)


@pytest.mark.parametrize(("umask", "mode"), [(0, 0o777), (0o117, 0o660), (0o077, 0o700)])
def test_the_mode_of_a_unix_socket(tmp_path: Path, umask: int, mode: int) -> None:
    with listen(str(tmp_path / "s"), umask):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode


def test_the_mode_without_umask_is_what_that_of_the_process_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with listen(str(tmp_path / "s"), None):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o750
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_a_socket_that_is_left_over_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listen(path, None).close()
    assert os.path.exists(path)
    with listen(path, None), pytest.raises(OSError, match="another server listens there; stop that server") as caught:
        listen(path, None)
    assert caught.value.errno == errno.EADDRINUSE


def test_a_file_is_never_removed(tmp_path: Path) -> None:
    """flup would."""
    (tmp_path / "s").write_text("of value")
    with pytest.raises(OSError, match="not a socket"):
        listen(str(tmp_path / "s"), None)
    assert (tmp_path / "s").read_text() == "of value"


def test_a_port_in_use() -> None:
    with listen(("127.0.0.1", 0), None) as sock, pytest.raises(OSError, match="choose another port"):
        listen(sock.getsockname(), None)


# ---------------------------------------------------------------------- descriptor 0, which is another one here


@pytest.fixture
def at_0(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def be(descriptor: int) -> None:
        monkeypatch.setattr(listening, "LISTENSOCK", descriptor)

    return be


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_listening_socket_is_served_and_stays(at_0: Any, family: int, tmp_path: Path) -> None:
    with socket.socket(family) as sock:
        sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "s"))
        sock.listen()
        at_0(sock.fileno())
        found = descriptor_0()
        assert found is not None
        assert (found.family, found.getsockname()) == (family, sock.getsockname())
        assert found.fileno() != sock.fileno()
        found.close()
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def test_no_socket_is_cgi(at_0: Any) -> None:
    reader, writer = os.pipe()
    at_0(reader)
    assert descriptor_0() is None
    os.close(reader)
    os.close(writer)
    assert descriptor_0() is None  # closed


def test_a_connected_socket_is_cgi(at_0: Any) -> None:
    one, other = socket.socketpair()
    with one, other:
        at_0(one.fileno())
        assert descriptor_0() is None


def test_a_socket_that_was_forgotten_to_listen(at_0: Any) -> None:
    with socket.socket() as sock:
        at_0(sock.fileno())
        with pytest.raises(OSError, match=r"has to call listen\(\) on it"):
            descriptor_0()
