"""The end of a server: what is on its way to a client arrives, however slowly it reads (SEMANTICS 69)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT, eventually, read_all

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
    head = "Content-Type: text/plain\\nContent-Length: 8000000\\n\\n"
    script.write_text(f"#!/bin/sh\nprintf '{head}'\nhead -c 8000000 /dev/zero\n")
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


STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("ready", "w").close()
time.sleep(99)
"""
APP = '[[routes]]\npath = "/"\ninterface = "fastcgi"\napp = "one"\n[apps.one]\ninterface = "fastcgi"\n'


def test_a_second_sigterm_waits_for_nobody(gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    one = gateway(f'{APP}command = ["{sys.executable}", "stubborn.py"]\n', directory=tmp_path)
    eventually((tmp_path / "ready").exists)
    (worker,) = one.children()
    one.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(timeout=1)  # the worker has been asked, and does not go
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(timeout=5) == 0
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_a_standard_descriptor_that_is_closed_at_the_start_harms_nobody(closed: str, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[server]\nlisten = ["127.0.0.1:0"]\n[[routes]]\npath = "/"\ninterface = "static"\nroot = "."\n')
    command = f"exec {sys.executable} -m gateway serve {config} {closed}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(["sh", "-c", command], stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        url = process.stderr.readline().split()[1]
        assert requests.get(url + "gateway.toml", timeout=10).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""
