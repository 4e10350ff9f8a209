"""Workers on several machines, found by DNS: one is slow, one is cut off, one is gone, one is added; clients ask all the
time, and every response is looked at.

In network namespaces with links that really go down; where the tests may not make these, on addresses of 127.0.0.0/8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import eventually
from tests.faults.machines import PORT, Load, Machine, Network
from tests.name_server import NameServer, Zone

CLIENTS = 8


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with Network(namespaces=getattr(request, "param", True)) as made:
        yield made


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
def names(zone: Zone) -> Iterator[NameServer]:
    made = NameServer(zone)
    yield made
    made.close()


def tell(zone: Zone, *machines: Machine) -> None:
    zone.records["app.test.", "A"] = [machine.host for machine in machines]


def front(gateway: Any, names: NameServer, server: str = "", health: str = "") -> Any:
    return gateway(
        f'[[routes]]\npath = "/"\ninterface = "http"\naddress = "app.test:{PORT}"\n'
        f'timeouts = {{ connect = "1s", response = "3s" }}\n{health}\n',
        server=f'resolver = "{names.address}"\n{server}',
    )


CHECKED = 'health = { path = "/healthz", every = "500ms", timeout = "500ms", rise = 1, fall = 2 }'


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("server", "network"),
    [("processes = 2", True), ('concurrency = "prefork"', True), ("processes = 2", False)],
    ids=["event", "prefork", "addresses"], indirect=["network"],
)
def test_machines_come_and_go_under_load(
    gateway: Any, network: Network, zone: Zone, names: NameServer, server: str
) -> None:
    cut, gone, slow = network.machine(), network.machine(), network.machine(delay_s=0.2)
    tell(zone, cut, gone, slow)
    one = front(gateway, names, server, CHECKED)
    with Load(one.address, CLIENTS) as load:
        eventually(lambda: all(map(load.by, (cut, gone, slow))), "answers of all machines", 20)
        eventually(lambda: load.total() > 300, "many answers", 20)
        if "prefork" not in server:  # where an engine serves one at a time, it does not see what others have sent
            assert load.by(slow) < load.by(gone)  # it has requests for longer, so it gets fewer
        assert not load.failed

        load.anew()
        cut.cut_off()
        one.wait_for_log(f"{cut.host}:{PORT} of route / is down")
        # what it held, and what it was given before that was known, may be lost
        assert {status for _, status in load.failed} <= {502, 504}
        assert len(load.failed) <= 2 * CLIENTS

        load.anew()
        eventually(lambda: load.total() > 300, "requests go on without it", 30)
        assert not load.by(cut)
        assert not load.failed

        load.anew()
        gone.kill()
        added = network.machine()
        tell(zone, added, slow)
        eventually(lambda: load.by(added) > 50, "answers of the new machine", 20)
        assert set(load.failed) <= {("POST", 502)}  # what it held and could not be repeated
        assert len(load.failed) <= CLIENTS

        load.anew()
        cut.come_back()
        tell(zone, added, slow, cut)
        eventually(lambda: load.by(cut) > 20, "answers of the one that was cut off", 20)
        tell(zone, added, cut)
        zone.asked.clear()
        eventually(lambda: len(zone.asked) > 1, "another look-up")  # the one before has been told by then
        seen, before = load.by(slow), load.total()
        eventually(lambda: load.total() > before + 300, "requests go on without the slow one", 30)
        assert load.by(slow) - seen <= CLIENTS  # what it had
        assert not load.failed  # nothing of this was a fault
    assert not load.wrong


def test_a_name_that_is_not_there_at_first(gateway: Any, network: Network, zone: Zone, names: NameServer) -> None:
    """A warning, and served as soon as it is there."""
    one = front(gateway, names)
    one.wait_for_log(f"app.test:{PORT}: the name was not found")
    machine = network.machine()
    tell(zone, machine)
    with Load(one.address, 1) as load:
        eventually(lambda: load.by(machine), "an answer", 20)
    assert {status for _, status in load.failed} <= {503}


@pytest.mark.parametrize("concurrency", ["single", "fork", "thread", "prefork", "threadpool", "event"])
def test_every_model_follows_the_name(
    gateway: Any, network: Network, zone: Zone, names: NameServer, concurrency: str
) -> None:
    first, second = network.machine(), network.machine()
    tell(zone, first)
    one = front(gateway, names, f'concurrency = "{concurrency}"', "keepalive = 0")
    with Load(one.address, 1) as load:
        eventually(lambda: load.by(first), "an answer of the first", 20)
    tell(zone, second)
    zone.asked.clear()
    eventually(lambda: len(zone.asked) > 1, "another look-up")  # the one before has been told by then

    with Load(one.address, 1) as load:
        eventually(lambda: load.by(second), "an answer of the second", 20)
        print(load.served, load.failed)
        load.anew()
        eventually(lambda: load.by(second) > 5, "more of them", 20)
        assert not load.by(first)
        assert not load.failed


def test_services_bring_their_ports_and_backups(
    gateway: Any, network: Network, zone: Zone, names: NameServer
) -> None:
    main, backup = network.machine(), network.machine()
    zone.records["_http._tcp.app.test.", "SRV"] = [f"1 1 {PORT} main.test.", f"2 1 {PORT} backup.test."]
    zone.records["main.test.", "A"], zone.records["backup.test.", "A"] = [main.host], [backup.host]
    one = gateway(
        '[[routes]]\npath = "/"\ninterface = "http"\naddress = "srv:_http._tcp.app.test"\n',
        server=f'resolver = "{names.address}"',
    )
    with Load(one.address, 2) as load:
        eventually(lambda: load.by(main) > 20, "answers of the first choice", 20)
        assert not load.by(backup)
        main.kill()
        eventually(lambda: load.by(backup) > 20, "answers of the backup", 20)
        assert all(failure == ("POST", 502) for failure in load.failed)
        assert len(load.failed) <= 2
    assert not load.wrong
