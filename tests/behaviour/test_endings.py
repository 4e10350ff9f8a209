"""Scripts that do not end by themselves: nothing outlives its request for long, nor the gateway (SEMANTICS 29, 69)."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.behaviour.test_processes import PLAIN, SH, alive, script
from tests.conftest import eventually, read_until


@pytest.fixture
def serve(gateway: Any, tmp_path: Path) -> Any:
    """Makes gateways for one script; it says in the file `pid` who it is."""

    def make(text: str, extra: str = "", grace: str = "100ms") -> Any:
        script(tmp_path, "a.sh", SH + "echo $$ > pid\n" + text)
        toml = f'[[routes]]\npath = "/"\ninterface = "cgi"\nroot = "{tmp_path}"\n{extra}\n'
        return gateway(toml, server=f'grace = "{grace}"')

    return make


def pid_in(path: Path) -> int:
    eventually(lambda: path.exists() and path.read_text().endswith("\n"), "the note of the script")
    return int(path.read_text())


def begun(one: Any, end: bytes = b"here\n\r\n") -> Any:
    """A client whose request has been answered in part."""
    sock = one.socket()
    sock.sendall(b"GET /a.sh HTTP/1.1\r\nHost: x\r\n\r\n")
    read_until(sock, end)
    return sock


def test_a_script_that_closes_its_output_and_goes_on(serve: Any, tmp_path: Path) -> None:
    one = serve(PLAIN + "echo said\nexec sleep 600 >&- 2>&-\n", "processes = 1")
    assert requests.get(one.url + "/a.sh", timeout=20).text == "said\n"
    first = pid_in(tmp_path / "pid")
    assert requests.get(one.url + "/a.sh", timeout=20).text == "said\n"  # it has got the place of the first
    assert not alive(first)
    one.wait_for_log("goes on after the end of its output")


@pytest.mark.parametrize("left", [False, True])
def test_a_script_that_ignores_sigterm_does_not_outlive_the_gateway(serve: Any, tmp_path: Path, left: bool) -> None:
    one = serve("trap '' TERM\n" + PLAIN + "echo here\nwhile :; do sleep 600; done\n", 'on_disconnect = "continue"')
    with begun(one) as sock:
        pid = pid_in(tmp_path / "pid")
        if left:
            sock.close()
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(timeout=20) == 0
    assert not alive(pid)


def test_what_a_script_has_put_into_the_background_does_not_outlive_the_gateway(serve: Any, tmp_path: Path) -> None:
    one = serve(PLAIN + "sleep 600 >&- 2>&- <&- &\necho $! > job\necho said\n")
    assert requests.get(one.url + "/a.sh", timeout=20).text == "said\n"
    job = pid_in(tmp_path / "job")
    assert alive(job)
    assert one.stop() == 0
    eventually(lambda: not alive(job), "the end of the background job")


def test_a_script_that_goes_on_without_its_client_has_the_grace_of_the_gateway(serve: Any, tmp_path: Path) -> None:
    one = serve(
        PLAIN + "echo here\nwhile ! [ -e go ]; do sleep 0.02; done\ntouch finished\n",
        'on_disconnect = "continue"', grace="20s",
    )  # fmt: skip
    begun(one).close()
    with one.socket() as idle:
        one.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""  # the gateway has begun to end
    (tmp_path / "go").touch()
    assert one.process.wait(timeout=20) == 0
    assert (tmp_path / "finished").exists()
