"""php-fpm is reloaded, restarted and ended under load: with another address left nothing is lost, with one only the time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checked_load import Load
from benchmarks.fault_servers import PAGE
from tests.conftest import eventually, needs
from tests.faults.clients import PAUSE_S

ROUTE = """
[[routes]]
path = "/"
interface = "fastcgi"
root = "{root}"
split = ".php"
address = [{addresses}]
"""


class Fpm:
    """php-fpm with two children, on a unix socket."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.socket = directory / "fpm.sock"
        self.log = directory / "log"
        self.config = directory / "fpm.conf"
        as_root = "user=root\ngroup=root\n" if os.geteuid() == 0 else ""
        self.config.write_text(
            f"[global]\nerror_log={self.log}\ndaemonize=no\nprocess_control_timeout=5s\n"
            f"[www]\nlisten={self.socket}\npm=static\npm.max_children=2\n{as_root}"
        )
        self.start()

    def start(self) -> None:
        program = needs(Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name)
        as_root = ["-R"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([program, *as_root, "-y", self.config], stderr=subprocess.DEVNULL)
        eventually(self.socket.exists, "the start of php-fpm")

    def starts(self) -> int:
        return self.log.read_text().count("ready to handle connections")

    def reload(self) -> None:
        before = self.starts()
        self.process.send_signal(signal.SIGUSR2)
        eventually(lambda: self.starts() > before, "the reload of php-fpm")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Fpm]]:
    made = [Fpm(tmp_path / name) for name in ("one", "two")]
    eventually(lambda: all(fpm.starts() for fpm in made), "the start of php-fpm")
    yield made
    for fpm in made:
        fpm.stop()


def serve(gateway: Any, directory: Path, *fpms: Fpm) -> Load:
    (directory / "page.php").write_text(PAGE)
    addresses = ", ".join(f'"unix:{fpm.socket}"' for fpm in fpms)
    one = gateway(ROUTE.format(root=directory, addresses=addresses), server="processes = 2")
    return Load(one.address[1], "/page.php", pause_s=PAUSE_S)


def test_reload_with_another_address_left_loses_nothing(gateway: Any, two: list[Fpm], tmp_path: Path) -> None:
    with serve(gateway, tmp_path, *two) as clients:
        for fpm in two * 3:
            clients.more(100)
            fpm.reload()
        clients.more(100)
    assert not clients.tally.failures, clients.tally


def test_reload_of_the_only_one_loses_nothing(gateway: Any, two: list[Fpm], tmp_path: Path) -> None:
    """Its listening socket stays: what comes meanwhile waits there."""
    with serve(gateway, tmp_path, two[0]) as clients:
        for _ in range(3):
            clients.more(100)
            two[0].reload()
        clients.more(100)
    assert not clients.tally.failures, clients.tally


def test_restart_with_another_address_left(gateway: Any, two: list[Fpm], tmp_path: Path) -> None:
    """SIGTERM is not graceful (php-fpm ends its children at once): what they held, or what waited to be accepted, is lost
    where it can't be repeated: of four POSTs at a time no more than those."""
    with serve(gateway, tmp_path, *two) as clients:
        clients.more(100)
        since = time.monotonic()
        two[0].stop()
        clients.more(200)
        two[0].start()
        clients.more(200)
    assert len(clients.tally.failures) <= 4, clients.tally
    assert {failure.method for failure in clients.tally.failures} <= {"POST"}, clients.tally
    assert clients.tally.recovered_s(since) < 2.0, clients.tally
