"""`Apps.restart` and `Apps.update`, on a driver of their own and with real processes: who runs afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.apps import Apps
from gateway.config import App, parse_config
from gateway.drivers.blocking import BlockingDriver
from gateway.ends import Turn
from gateway.observe.error_log import ErrorLog
from gateway.processes.launch import Start
from gateway.processes.reap import Reaper

HOSTED = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'']\n"


class Rig:
    """Applications, and the driver that they run on."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.turn = Turn()
        self.reaper = Reaper()
        self.driver = BlockingDriver(self.turn, Start, self.reaper, lambda end, error: pytest.fail(repr(error)))
        self.driver.open()
        self.apps = Apps(self.turn, ErrorLog(str(directory / "error.log")), [self.app()])
        self.driver.ticks.append(lambda now, wall: self.apps.tick(now))
        self.apps.start(self.driver, self.driver.clock())
        self.driver.settle()
        self.until(lambda: self.states() == ["running"])

    def app(self, text: str = "") -> tuple[App, str]:
        config = parse_config(
            '[[routes]]\npath = "/"\ninterface = "http"\napp = "x"\n[apps.x]\nwsgi = "hosted:application"\n' + text,
            str(self.directory / "gateway.toml"),
        )
        return config.apps["x"], "http"

    def until(self, holds: Callable[[], object]) -> None:
        until = self.driver.clock() + 40
        self.driver.run(lambda: bool(holds()) or self.driver.clock() > until)
        assert holds(), (self.directory / "error.log").read_text()

    def states(self) -> list[str]:
        places = self.apps.report(self.driver.clock())[0].places
        running = self.apps.running["x/http"].supervisor.workers
        return [place.state for place in places if place.pid and running[place.number].ready]

    def pids(self) -> list[int]:
        return [place.pid for place in self.apps.report(self.driver.clock())[0].places if place.pid]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    (tmp_path / "hosted.py").write_text(HOSTED)
    made = Rig(tmp_path)
    yield made
    made.apps.stop(made.driver.clock())
    made.driver.settle()
    made.until(lambda: made.apps.stopped)
    made.apps.close()
    made.driver.close()
    made.apps.error_log.close()


def test_a_restart_waits_until_the_new_one_serves(rig: Rig) -> None:
    before = rig.pids()
    told: list[str] = []
    rig.apps.restart("x", rig.driver.clock(), told.append)
    rig.driver.settle()
    rig.until(lambda: told)
    assert told == [""]
    rig.until(lambda: len(rig.pids()) == 1)
    assert rig.pids() != before
    assert rig.states() == ["running"]


def test_a_restart_to_code_that_is_broken_tells_why_and_the_old_one_stays(rig: Rig) -> None:
    before = rig.pids()
    (rig.directory / "hosted.py").write_text("1 / 0\n")
    told: list[str] = []
    rig.apps.restart("x", rig.driver.clock(), told.append)
    rig.driver.settle()
    rig.until(lambda: told)
    assert "ZeroDivisionError" in told[0]
    rig.until(lambda: len(rig.pids()) == 1)
    assert rig.pids() == before


def test_a_name_that_nobody_has(rig: Rig) -> None:
    with pytest.raises(KeyError):
        rig.apps.restart("y", rig.driver.clock(), lambda why: None)


def test_an_update_leaves_alone_what_it_does_not_change(rig: Rig) -> None:
    before = rig.pids()
    rig.apps.update([rig.app()], rig.driver.clock())
    assert rig.pids() == before
    assert not rig.apps.retired


def test_an_update_starts_the_new_ones_and_the_old_ones_end_when_no_engine_has_them(rig: Rig) -> None:
    old = rig.apps.running["x/http"]
    row = old.places.claim(1)
    rig.apps.update([rig.app('environment = { NEW = "1" }\n')], rig.driver.clock())
    rig.driver.settle()
    rig.until(lambda: rig.states() == ["running"])
    assert rig.apps.running["x/http"] is not old
    assert not old.supervisor.stopping
    old.places.free(row)
    rig.until(lambda: not rig.apps.retired)
    assert old.supervisor.stopped


def test_an_update_that_fails_changes_nothing(rig: Rig) -> None:
    from gateway.errors import ServeError

    before = rig.apps.running
    with pytest.raises(ServeError):
        rig.apps.update([rig.app('cgroup = "nowhere"\n')], rig.driver.clock())
    assert rig.apps.running is before
