"""Names of workers: what is asked of whom, what stays known, when it is asked again; no socket."""

from __future__ import annotations

import dns.rcode
import pytest

from gateway.ends import OPEN, Address, Open, Turn
from gateway.upstreams.names import RETRY_MOST_S, TRY_S, TTL_MOST_S, Name, Servers
from tests.name_server import Zone

SERVER = Address("10.0.0.2", 53)
SECOND = Address("10.0.0.3", 53)


class Net:
    """Name servers, and the driver's part of a question's life."""

    def __init__(self, zone: Zone, servers: Servers | None = None) -> None:
        self.turn = Turn(now=100.0)
        self.zones = {SERVER: zone, SECOND: zone}
        self.servers = servers or Servers([SERVER])
        self.opened: list[tuple[Address, bool]] = []
        self.reports: list[str] = []
        self.changes = 0

    def name(self, address: Address) -> Name:
        return Name(address, self.reports.append)

    def look_up(self, name: Name) -> list[tuple[str, int]]:
        name.look_up(self.turn, self.servers, self.changed)
        self.settle()
        return [(host.host, host.port) for host in name.hosts]

    def changed(self) -> None:
        self.changes += 1

    def settle(self) -> None:
        while self.turn.orders:
            orders, self.turn.orders = self.turn.orders, []
            for order in orders:
                assert isinstance(order, Open)
                self._answer(order)

    def _answer(self, order: Open) -> None:
        end, datagram = order.end, order.datagram
        self.opened.append((order.address, datagram))
        end.connected(self.turn.now)
        said = b"".join(octets for octets in end.outgoing() if isinstance(octets, bytes))
        if not datagram:
            assert int.from_bytes(said[:2], "big") == len(said) - 2
            said = said[2:]
        answer = self.zones[order.address].answer(said, datagram=datagram)
        if answer is None:
            self.turn.now += TRY_S
            end.expired(self.turn.now)
        elif datagram:
            end.received(answer, self.turn.now)
        else:
            answer = len(answer).to_bytes(2, "big") + answer
            for at in range(0, len(answer), 100):
                end.received(answer[at : at + 100], self.turn.now)
        assert end.closing is not OPEN
        end.lost(None, self.turn.now)


APP = Address("app.test", 9000)
SRV = Address("_http._tcp.app.test", service=True)


def test_each_address_is_a_worker_until_its_time_is_over() -> None:
    net = Net(Zone({("app.test.", "A"): ["10.0.0.9", "10.0.0.8"]}, ttl=20))
    name = net.name(APP)
    assert net.look_up(name) == [("10.0.0.8", 9000), ("10.0.0.9", 9000)]
    assert name.due == 120.0
    assert {host.authority for host in name.hosts} == {"app.test:9000"}
    assert net.changes == 1


@pytest.mark.parametrize(("ttl", "due_s"), [(0, 1.0), (86400, TTL_MOST_S)])
def test_no_time_is_too_short_or_too_long(ttl: int, due_s: float) -> None:
    net = Net(Zone({("app.test.", "A"): ["10.0.0.9"]}, ttl=ttl))
    name = net.name(APP)
    net.look_up(name)
    assert name.due == 100.0 + due_s


def test_ipv6_where_there_is_no_other() -> None:
    zone = Zone({("app.test.", "AAAA"): ["fd00::1"]})
    assert Net(zone).look_up(Net(zone).name(APP)) == [("fd00::1", 9000)]
    assert [kind for _, kind in zone.asked] == ["A", "AAAA"]


def test_an_alias_is_followed() -> None:
    net = Net(Zone({("app.test.", "CNAME"): ["real.test."], ("real.test.", "A"): ["10.0.0.9"]}))
    assert net.look_up(net.name(APP)) == [("10.0.0.9", 9000)]


def test_a_failed_look_up_leaves_what_was_known() -> None:
    zone = Zone({("app.test.", "A"): ["10.0.0.9"]})
    net = Net(zone)
    name = net.name(APP)
    net.look_up(name)
    zone.code = dns.rcode.SERVFAIL
    pauses = []
    for _ in range(8):
        assert net.look_up(name) == [("10.0.0.9", 9000)]
        pauses.append(name.due - net.turn.now)
    assert pauses == [1, 2, 4, 8, 16, RETRY_MOST_S, RETRY_MOST_S, RETRY_MOST_S]
    assert net.reports == ["app.test:9000: the name was not found; kept: 10.0.0.9:9000"]
    zone.code = dns.rcode.NOERROR
    zone.records["app.test.", "A"] = ["10.0.0.7"]
    assert net.look_up(name) == [("10.0.0.7", 9000)]
    assert name.failures == 0


def test_a_name_that_nobody_has_is_told_and_asked_again() -> None:
    net = Net(Zone({}))
    name = net.name(APP)
    assert net.look_up(name) == []
    assert name.known
    assert net.reports == ["app.test:9000: the name was not found; tried again"]


def test_a_silent_server_is_left_for_the_next() -> None:
    zone = Zone({("app.test.", "A"): ["10.0.0.9"]})
    net = Net(zone, Servers([SERVER, SECOND]))
    net.zones[SERVER] = Zone({})
    net.zones[SERVER].silent = True
    assert net.look_up(net.name(APP)) == [("10.0.0.9", 9000)]
    assert net.opened == [(SERVER, True), (SECOND, True)]


def test_no_server_at_all() -> None:
    net = Net(Zone({}))
    net.servers = Servers(())
    assert net.look_up(net.name(APP)) == []


def test_what_does_not_fit_comes_over_a_connection() -> None:
    addresses = [f"10.0.1.{n}" for n in range(60)]
    net = Net(Zone({("app.test.", "A"): addresses}))
    assert len(net.look_up(net.name(APP))) == 60
    assert net.opened == [(SERVER, True), (SERVER, False)]


def test_what_answers_another_question_is_dropped() -> None:
    zone = Zone({("app.test.", "A"): ["10.0.0.9"]})
    net = Net(zone)
    name = net.name(APP)
    name.look_up(net.turn, net.servers, net.changed)
    (order,) = net.turn.orders
    assert isinstance(order, Open)
    (said,) = order.end.outgoing()
    assert isinstance(said, bytes)
    forged = zone.answer(said, datagram=True)
    assert forged is not None
    order.end.received(bytes([forged[0] ^ 1]) + forged[1:], 100.0)
    order.end.received(b"\0nonsense", 100.0)
    assert order.end.closing is OPEN


def test_search_domains_as_in_kubernetes() -> None:
    zone = Zone({("app.shop.svc.cluster.local.", "A"): ["10.0.0.9"]})
    net = Net(zone, Servers([SERVER], ["shop.svc.cluster.local", "svc.cluster.local"], 5))
    assert net.look_up(net.name(Address("app", 80))) == [("10.0.0.9", 80)]
    servers = net.servers
    assert servers.candidates("a.b") == ["a.b.shop.svc.cluster.local.", "a.b.svc.cluster.local.", "a.b."]
    assert servers.candidates("a.b.") == ["a.b."]
    assert Servers([SERVER], ["x.test"]).candidates("a.b") == ["a.b.", "a.b.x.test."]


@pytest.mark.parametrize("additional", [True, False])
def test_services_have_ports_weights_and_priorities(additional: bool) -> None:
    zone = Zone({
        ("_http._tcp.app.test.", "SRV"): ["10 3 8001 a.test.", "10 0 8002 b.test.", "20 1 8003 c.test."],
        ("a.test.", "A"): ["10.0.0.1"], ("b.test.", "A"): ["10.0.0.2"], ("c.test.", "A"): ["10.0.0.3", "10.0.0.4"],
    })  # fmt: skip
    zone.additional = additional
    net = Net(zone)
    name = net.name(SRV)
    assert net.look_up(name) == [("10.0.0.1", 8001), ("10.0.0.2", 8002), ("10.0.0.3", 8003), ("10.0.0.4", 8003)]
    assert [(host.weight, host.priority) for host in name.hosts] == [(3.0, 10), (0.1, 10), (1.0, 20), (1.0, 20)]
    assert name.hosts[0].authority == "a.test:8001"
    assert len(zone.asked) == (1 if additional else 4)


def test_a_target_without_address_costs_only_itself() -> None:
    zone = Zone({
        ("_http._tcp.app.test.", "SRV"): ["10 1 8001 a.test.", "10 1 8002 none.test."], ("a.test.", "A"): ["10.0.0.1"],
    })  # fmt: skip
    net = Net(zone)
    assert net.look_up(net.name(SRV)) == [("10.0.0.1", 8001)]


def test_there_is_decidedly_no_such_service() -> None:
    net = Net(Zone({("_http._tcp.app.test.", "SRV"): ["0 0 0 ."]}))
    assert net.look_up(net.name(SRV)) == []
    assert net.reports == []
