"""What goes wrong around the engines: one is killed, no descriptor is left, the disk is full. Load runs throughout."""

from __future__ import annotations

import os
import resource
import signal
import socket
from typing import Any

import pytest
import requests

from tests.behaviour.conftest import MODELS, Workers
from tests.behaviour.conftest import workers as workers  # a fixture
from tests.concurrency.conftest import HELLO, wakeups
from tests.conftest import Gateway, eventually, read_until
from tests.faults.load import Load


@pytest.mark.parametrize("model", ["prefork", "threadpool", "event"])
def test_a_child_is_killed(gateway: Any, workers: Workers, model: str) -> None:
    """What it had is lost, nothing else, and another one takes its place."""
    one: Gateway = gateway(workers.routes(only=("http",)), server=MODELS[model])
    with Load(one.address, 2, 2) as load:
        for number in range(3):
            before = one.children()
            os.kill(before[0], signal.SIGKILL)
            eventually(lambda: before[0] not in one.children(), "its end")  # noqa: B023
            answered = load.answered
            eventually(lambda: load.answered > answered + 40, "answers after it")  # noqa: B023
            assert len(load.wrong) <= 4 * (number + 1), "no more than it had connections"
    assert one.error_log().count("was ended by SIGKILL") == 3


@pytest.mark.parametrize("model", ["single", "event-1"])
def test_no_descriptor_is_left(gateway: Any, workers: Workers, model: str) -> None:
    """Clients wait until there is one, and nothing spins meanwhile."""
    one: Gateway = gateway(workers.routes(only=("http",)), server=MODELS[model])
    assert requests.get(one.url + "/h/hello", timeout=20).text == "hello"
    limits = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (one.descriptors() + 2, limits[1]))
    clients = [one.socket() for _ in range(12)]
    before = wakeups(one.pid)
    with pytest.raises(requests.RequestException):
        requests.get(one.url + "/h/hello", timeout=2)
    assert wakeups(one.pid) - before < 200
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, limits)
    for sock in clients[1:]:
        sock.close()
    clients[0].close()
    assert requests.get(one.url + "/h/hello", timeout=20).text == "hello"


@pytest.mark.parametrize("model", MODELS)
def test_no_log_can_be_written(gateway: Any, workers: Workers, model: str) -> None:
    one: Gateway = gateway(workers.routes(only=("http",)), server=MODELS[model])
    config = one.directory / "gateway.toml"
    for name in ("access.log", "error.log"):
        (one.directory / name).unlink()
        (one.directory / name).symlink_to("/dev/full")
    os.kill(one.pid, signal.SIGUSR1)
    with Load(one.address, 1, 1) as load:
        eventually(lambda: load.answered > 100 or load.wrong, "answers")
        config.write_text(config.read_text() + '[[routes]]\npath = "/more"\ninterface = "static"\nroot = "."\n')
        os.kill(one.pid, signal.SIGHUP)
        eventually(lambda: requests.get(one.url + "/more/gateway.toml", timeout=20).status_code == 200, "the reload")
    for name in ("access.log", "error.log"):
        (one.directory / name).unlink()
    os.kill(one.pid, signal.SIGUSR1)
    eventually(lambda: (one.directory / "error.log").exists(), "the new log")
    assert not load.wrong, load.wrong
    with socket.create_connection(one.address, timeout=20) as sock:
        sock.sendall(HELLO)
        read_until(sock, b"hello")
    eventually(lambda: one.access_log(), "its line")
