"""The persistent samples: each serves the listening socket that it finds on descriptor 0."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import sample_apps

SAMPLES = Path(sample_apps.__path__[0])
FLUP = [[sys.executable, str(SAMPLES / "flup_fastcgi.py")], [sys.executable, str(SAMPLES / "flup_scgi.py")]]


@contextmanager
def worker(command: list[str], listener: socket.socket) -> Iterator[None]:
    # A clean environment, as the gateway gives it: flup changes its ways for some variables.
    with subprocess.Popen(command, stdin=listener.fileno(), env={"PATH": "/usr/bin:/bin"}) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture(params=["unix", "tcp"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    if request.param == "tcp":
        sock = socket.create_server(("127.0.0.1", 0))
    else:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "worker"))
        sock.listen()
    with sock:
        yield sock


def connect(listener: socket.socket) -> socket.socket:
    client = socket.socket(listener.family)
    client.settimeout(20)
    client.connect(listener.getsockname())
    return client


def fastcgi(listener: socket.socket, content: bytes = b"", **meta_variables: str) -> bytes:
    """What the worker writes to STDOUT for one request (FastCGI 3.3, 5)."""

    def record(kind: int, octets: bytes) -> bytes:
        return struct.pack(">BBHHBx", 1, kind, 1, len(octets), 0) + octets

    params = b""
    for name, value in meta_variables.items():
        params += bytes([len(name), len(value)]) + name.encode() + value.encode()
    stdout = b""
    with connect(listener) as client, client.makefile("rb") as incoming:
        client.sendall(record(1, struct.pack(">HB5x", 1, 0)) + record(4, params) + record(4, b""))
        client.sendall((record(5, content) if content else b"") + record(5, b""))
        while True:
            _, kind, _, length, padding = struct.unpack(">BBHHBx", incoming.read(8))
            octets = incoming.read(length)
            incoming.read(padding)
            if kind == 6:
                stdout += octets
            elif kind == 3:
                return stdout


def scgi(listener: socket.socket, content: bytes = b"", **meta_variables: str) -> bytes:
    pairs = {"CONTENT_LENGTH": str(len(content)), "SCGI": "1", **meta_variables}
    head = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items())
    with connect(listener) as client, client.makefile("rb") as incoming:
        client.sendall(b"%d:%s,%s" % (len(head), head, content))
        return incoming.read()


META = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "/app", "REQUEST_URI": "/app/", "SERVER_NAME": "x",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "QUERY_STRING": ""}  # fmt: skip


def test_flup_fastcgi_worker_serves_descriptor_0(listener: socket.socket) -> None:
    with worker(FLUP[0], listener):
        for _ in range(3):
            answer = fastcgi(listener, **META, PATH_INFO="/")
            assert answer.startswith(b"Status: 200 OK\r\n")
            assert answer.endswith(b"reached over FastCGI.\n")


def test_flup_scgi_worker_serves_descriptor_0(listener: socket.socket) -> None:
    with worker(FLUP[1], listener):
        for _ in range(3):
            answer = scgi(listener, **META, PATH_INFO="/")
            assert answer.startswith(b"Status: 200 OK\r\n")
            assert answer.endswith(b"reached over SCGI.\n")


@pytest.mark.parametrize("command", FLUP, ids=["fastcgi", "scgi"])
def test_flup_worker_reads_content(listener: socket.socket, command: list[str]) -> None:
    call = fastcgi if "fastcgi" in command[1] else scgi
    content = b"x" * 5000
    meta = {**META, "REQUEST_METHOD": "POST", "PATH_INFO": "/echo", "CONTENT_TYPE": "a/b"}
    with worker(command, listener):
        answer = call(listener, content, **{**meta, "CONTENT_LENGTH": str(len(content))})
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (told["bytes"], told["complete"], told["type"]) == (5000, True, "a/b")


def test_perl_fastcgi_worker_counts_its_requests(listener: socket.socket) -> None:
    if subprocess.run(["perl", "-MFCGI", "-e", "1"], capture_output=True, check=False).returncode:
        pytest.skip("needs Perl's module FCGI (Debian: libfcgi-perl)")
    with worker(["perl", str(SAMPLES / "hello.fcgi.pl")], listener):
        answers = [fastcgi(listener, **META) for _ in range(2)]
    assert b"request 1 of process" in answers[0]
    assert b"request 2 of process" in answers[1]
    assert answers[0].endswith(b"\nGET /app/\n")


def test_http_server_tells_its_url_and_serves() -> None:
    command = [sys.executable, str(SAMPLES / "http_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(url, timeout=20) as response:
                assert response.read().endswith(b"reached over HTTP.\n")
            with urllib.request.urlopen(f"{url}echo", data=b"12345", timeout=20) as response:
                assert json.load(response)["bytes"] == 5
        finally:
            process.terminate()
