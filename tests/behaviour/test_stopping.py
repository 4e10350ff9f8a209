"""The end of a server: what is on its way to a client arrives, however slowly it reads (SEMANTICS 69)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from tests.conftest import read_all

SIZE = 40 << 20


def test_a_download_in_flight_arrives_whole_after_sigterm(gateway: Any, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(SIZE)
    one = gateway(f'[[routes]]\npath = "/"\ninterface = "static"\nroot = "{tmp_path}"\n', server='grace = "20s"')
    with one.socket() as sock, one.socket() as idle:
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
        begun = sock.recv(1000)
        one.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""  # the server has begun to end
        content = (begun + read_all(sock)).partition(b"\r\n\r\n")[2]
    assert len(content) == SIZE
    assert one.process.wait(timeout=20) == 0


def test_a_small_answer_that_waits_in_the_server_arrives_whole_after_sigterm(gateway: Any, tmp_path: Path) -> None:
    """The exchange is over, its octets are not yet with the client."""
    script = tmp_path / "some.sh"
    script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 8000000\\n\\n'\nhead -c 8000000 /dev/zero\n")
    script.chmod(0o755)
    one = gateway(f'[[routes]]\npath = "/"\ninterface = "cgi"\nroot = "{tmp_path}"\n', server='grace = "20s"')
    with one.socket() as sock, one.socket() as idle:
        sock.sendall(b"GET /some.sh HTTP/1.1\r\nHost: x\r\n\r\n")
        begun = sock.recv(1000)
        one.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        content = (begun + read_all(sock)).partition(b"\r\n\r\n")[2]
    assert len(content) == 8_000_000
    assert one.process.wait(timeout=20) == 0
