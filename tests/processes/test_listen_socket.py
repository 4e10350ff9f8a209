"""Listening sockets: whose file is replaced, who may connect, and what to do where it fails."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.ends import Address
from gateway.processes.listen_socket import Place, close_listener, explain_bind, make_listener


@pytest.fixture
def listen() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def unix(path: Path) -> Address:
    return Address(path=str(path))


def refused(place: Place) -> OSError:
    with pytest.raises(OSError) as caught:
        make_listener(place)
    return caught.value


def test_a_client_can_connect_and_the_name_tells_the_port(listen: ExitStack) -> None:
    listener, name = make_listener(Address("127.0.0.1", 0))
    listen.enter_context(listener)
    assert name == f"127.0.0.1:{listener.getsockname()[1]}"
    with socket.create_connection(listener.getsockname()):
        listener.accept()[0].close()


def test_it_blocks_and_is_not_inherited(listen: ExitStack) -> None:
    listener, _ = make_listener(Address("127.0.0.1", 0))
    listen.enter_context(listener)
    assert listener.getblocking() and not listener.get_inheritable()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_both_families_can_have_the_same_port(listen: ExitStack) -> None:
    four, _ = make_listener(Address("0.0.0.0", 0))
    listen.enter_context(four)
    port = four.getsockname()[1]
    six, name = make_listener(Address("::", port))
    listen.enter_context(six)
    assert name == f"[::]:{port}"


def test_no_host_is_every_address(listen: ExitStack) -> None:
    listener, _ = make_listener(Address("", 0))
    listen.enter_context(listener)
    socket.create_connection(("127.0.0.1", listener.getsockname()[1])).close()


def test_a_socket_file_is_for_owner_and_group(tmp_path: Path, listen: ExitStack) -> None:
    path = tmp_path / "s"
    listener, name = make_listener(unix(path))
    listen.enter_context(listener)
    assert name == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_stale_socket_is_replaced(tmp_path: Path, listen: ExitStack) -> None:
    path = tmp_path / "s"
    make_listener(unix(path))[0].close()
    assert path.exists()
    listener, _ = make_listener(unix(path))
    listen.enter_context(listener)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_where_somebody_listens_is_left_alone(tmp_path: Path, listen: ExitStack) -> None:
    path = tmp_path / "s"
    listener, _ = make_listener(unix(path), backlog=0)
    listen.enter_context(listener)
    error = refused(unix(path))
    assert error.errno == errno.EADDRINUSE
    # Also while its backlog is full: the first question has filled it.
    assert refused(unix(path)).errno == errno.EADDRINUSE
    assert path.exists()
    assert explain_bind(error, unix(path))[0] == f"unix:{path}: another server listens there"


def test_of_many_that_start_at_once_one_gets_the_stale_path(tmp_path: Path) -> None:
    path = tmp_path / "s"
    make_listener(unix(path))[0].close()

    def one(_: int) -> socket.socket | int | None:
        try:
            return make_listener(unix(path))[0]
        except OSError as error:
            return error.errno

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(one, range(8)))
    winners = [result for result in results if isinstance(result, socket.socket)]
    assert len(winners) == 1
    assert results.count(errno.EADDRINUSE) == 7
    winners[0].close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("text")
    error = refused(unix(path))
    assert error.errno == errno.ENOTSOCK
    assert path.read_text() == "text"
    assert "left alone" in explain_bind(error, unix(path))[0]


def test_a_path_of_107_octets_is_the_longest(tmp_path: Path, listen: ExitStack) -> None:
    start = os.path.relpath(tmp_path)
    longest = start + "/" + "x" * (106 - len(start))
    if len(longest) != 107:
        pytest.skip("the temporary directory has too long a name")
    listen.enter_context(make_listener(Address(path=longest))[0])
    os.unlink(longest)
    error = refused(Address(path=longest + "x"))
    assert error.errno == errno.ENAMETOOLONG
    assert "108 octets" in explain_bind(error, Address(path=longest + "x"))[0]


def test_a_closed_one_leaves_no_file_unless_somebody_else_listens(tmp_path: Path, listen: ExitStack) -> None:
    path = tmp_path / "s"
    close_listener(make_listener(unix(path))[0])
    assert not path.exists()
    first, _ = make_listener(unix(path))
    listen.enter_context(first.dup())
    close_listener(first)
    assert path.exists()


def test_a_descriptor_that_listens_already_is_taken_over(listen: ExitStack) -> None:
    given, _ = make_listener(Address("127.0.0.1", 0))
    fd = given.detach()
    listener, name = make_listener(fd)
    listen.enter_context(listener)
    assert (name, listener.fileno()) == (f"fd:{fd}", fd)


def test_a_descriptor_that_does_not_listen_is_refused(listen: ExitStack) -> None:
    one, other = socket.socketpair()
    listen.enter_context(one)
    listen.enter_context(other)
    error = refused(one.fileno())
    assert error.errno == errno.EINVAL
    assert "systemd" in explain_bind(error, one.fileno())[1]
    assert refused(987_654).errno == errno.EBADF


def test_a_port_in_use_is_told_with_the_command_that_finds_it(listen: ExitStack) -> None:
    listener, _ = make_listener(Address("127.0.0.1", 0))
    listen.enter_context(listener)
    place = Address("127.0.0.1", listener.getsockname()[1])
    what, remedy = explain_bind(refused(place), place)
    assert what == f"{place}: another server listens there"
    assert f"sport = :{place.port}" in remedy


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    place = unix(tmp_path / "none" / "s")
    assert explain_bind(refused(place), place)[1] == f"mkdir -p {tmp_path}/none"


def test_an_address_of_another_machine_is_told() -> None:
    place = Address("192.0.2.1", 0)
    assert "does not have the address" in explain_bind(refused(place), place)[0]


@pytest.mark.parametrize(
    ("code", "place", "hint"),
    [
        (errno.EACCES, Address("127.0.0.1", 80), "CAP_NET_BIND_SERVICE"),
        (errno.EAFNOSUPPORT, Address("::1", 80), "IPv4"),
        (errno.EACCES, Address(path="/nowhere/s"), "chown"),
        (errno.EACCES, Address(path="/dev/null"), "remove it"),
        (errno.EROFS, Address(path="/nowhere/s"), "/run"),
    ],
)
def test_other_refusals_have_a_remedy(code: int, place: Address, hint: str) -> None:
    what, remedy = explain_bind(OSError(code, os.strerror(code)), place)
    assert what.startswith(f"{place}: ")
    assert hint in remedy


def test_an_unknown_name_is_told() -> None:
    place = Address("no.such.host.invalid", 80)
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert "no.such.host.invalid" in explain_bind(error, place)[0]
