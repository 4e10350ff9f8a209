"""Each failure has its status, its line in the log, and an end that the client can tell."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import eventually, read_all


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /../x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /c%2fhello HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 40000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_bad_requests(served: Any, request_head: bytes, status: int) -> None:
    with served.gateway.socket() as sock:
        sock.sendall(request_head)
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == status
        assert b"Exchange" in response.read()


def test_the_error_page_has_the_id_that_the_log_has(served: Any) -> None:
    response = served.get("http", "/rubbish")
    assert response.status_code == 502
    exchange = re.search(r"Exchange ([0-9a-f-]+)<", response.text)
    assert exchange is not None
    assert response.headers["X-Exchange-Id"] == exchange[1]
    line = next(line for line in served.gateway.error_log().splitlines() if f"exchange={exchange[1]} " in line)
    assert "route=/h" in line
    assert "502 bad-response" in line
    assert "; " in line  # the remedy


@pytest.mark.parametrize("path", ["/no-header", "/bad-header", "/die-before"])
def test_a_worker_that_gives_no_response(served: Any, interface: str, path: str) -> None:
    assert served.get(interface, path).status_code == 502


def test_a_worker_that_dies_in_the_middle(served: Any, interface: str) -> None:
    path = served.path(interface, "/die-mid")
    octets = served.gateway.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert b"\r\n\r\n4\r\nsome\r\n" in octets
    if interface == "scgi":  # the end of the stream is all that SCGI has to say that it is over
        assert octets.endswith(b"0\r\n\r\n")
    else:
        assert not octets.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("interface", ["cgi", "fastcgi", "http"])
def test_http_1_0_sees_a_reset_when_the_worker_dies(served: Any, interface: str, tmp_path: Path) -> None:
    with served.gateway.socket() as sock:
        path = served.path(interface, f"/die-mid?file={tmp_path}/go")
        sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        while not sock.recv(65536).endswith(b"some"):
            pass
        (tmp_path / "go").touch()
        with pytest.raises(ConnectionResetError):
            read_all(sock)


@pytest.mark.parametrize("interface", ["cgi", "fastcgi", "scgi"])
def test_content_shorter_than_declared(served: Any, interface: str) -> None:
    path = served.path(interface, "/short")
    octets = served.gateway.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"Content-Length: 10" in octets
    assert octets.endswith(b"short")


@pytest.mark.parametrize("interface", ["cgi", "fastcgi", "scgi"])
def test_content_longer_than_declared_is_cut(served: Any, interface: str) -> None:
    assert served.get(interface, "/long").content == b"long"


def test_status_of_a_script(served: Any, interface: str) -> None:
    assert served.get(interface, "/status?code=404").status_code == 404


def test_stderr_lands_in_the_log(served: Any) -> None:
    for interface in ("cgi", "fastcgi"):
        assert served.get(interface, "/stderr").content == b"logged"
        served.gateway.wait_for_log(f"route=/{interface[0]}")
    eventually(lambda: served.gateway.error_log().count("stderr: a line for the log") >= 2)


@pytest.fixture(scope="module")
def strict(gateway: Any, workers: Any) -> Any:
    """Short patience, small limits."""
    from tests.behaviour.conftest import Served

    extra = 'timeouts = { response = "1s", read = "300ms", total = "5s" }\nlimits = { content = "1KiB" }'
    return Served(
        gateway(
            workers.routes(extra) + '[[routes]]\npath = "/none"\ninterface = "fastcgi"\n'
            'address = "unix:/nonexistent.sock"\n[[routes]]\npath = "/post"\ninterface = "http"\n'
            f'address = "unix:{workers.directory}/http.sock"\nmethods = ["POST"]\n',
            server='timeouts = { header = "300ms", read = "300ms", idle = "300ms" }\nlimits = { connections = 50 }',
        ),
        workers.directory,
    )


def test_a_worker_that_is_too_slow(strict: Any, interface: str, tmp_path: Path) -> None:
    response = strict.get(interface, f"/when?file={tmp_path}/go")
    (tmp_path / "go").touch()
    assert response.status_code == 504


def test_a_worker_that_stops_in_the_middle(strict: Any, interface: str, tmp_path: Path) -> None:
    path = strict.path(interface, f"/steps?n=1&dir={tmp_path}")
    octets = strict.gateway.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    (tmp_path / "go1").touch()
    assert b"step0" in octets
    assert not octets.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_too_much_content(strict: Any, interface: str, framing: str) -> None:
    with strict.gateway.socket() as sock:
        path = strict.path(interface, "/length")
        if framing == "length":
            sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n".encode() + b"x" * 4000)
        else:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            sock.sendall(head + b"fa0\r\n" + b"x" * 4000 + b"\r\n0\r\n\r\n")
        response = http.client.HTTPResponse(sock)
        response.begin()
        assert response.status == 413


def test_no_worker(strict: Any) -> None:
    import requests

    response = requests.get(strict.url + "/none", timeout=10)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    strict.gateway.wait_for_log("connect-refused: cannot connect to unix:/nonexistent.sock: No such file or directory")


def test_methods(strict: Any) -> None:
    import requests

    response = requests.get(strict.url + "/post", timeout=10)
    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_slow_heads(strict: Any, sent: bytes) -> None:
    octets = strict.gateway.raw(sent)
    assert octets == b"" if not sent else octets.startswith(b"HTTP/1.1 408 ")


def test_slow_content(strict: Any, interface: str) -> None:
    path = strict.path(interface, "/length")
    octets = strict.gateway.raw(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc".encode())
    assert octets.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 504 "))


def test_an_idle_connection_is_closed(strict: Any) -> None:
    octets = strict.gateway.raw(b"GET /h/hello HTTP/1.1\r\nHost: x\r\n\r\n")
    assert octets.endswith(b"hello")


def test_too_many_connections(strict: Any) -> None:
    socks = [strict.gateway.socket() for _ in range(60)]
    try:
        answers = []
        for sock in socks[50:]:
            sock.settimeout(5)
            with contextlib.suppress(ConnectionResetError):  # it closes at once, and what we had sent may not be read
                answers.append(sock.recv(65536)[:12])
        assert b"HTTP/1.1 503" in answers
    finally:
        for sock in socks:
            sock.close()

    def served_again() -> bool:
        try:
            return bool(strict.gateway.raw(b"GET /h/hello HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200"))
        except ConnectionResetError:
            return False

    eventually(served_again)


def test_half_a_request_and_gone(strict: Any) -> None:
    for _ in range(20):
        with strict.gateway.socket() as sock:
            sock.sendall(b"POST /h/length HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert strict.get("http", "/hello").status_code == 200
