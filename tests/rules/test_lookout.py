"""Who looks out for workers: what is told of names and of health, when, and to whom; no socket."""

from __future__ import annotations

import pytest

from gateway.ends import OPEN, Address, Open, Turn
from gateway.lookout import REREAD_S, Lookout, machine_hosts
from gateway.processes.rosters import Rosters
from gateway.upstreams.names import Query, Servers
from gateway.upstreams.terms import Check, Entry, Terms
from tests.name_server import Records, Zone
from tests.rules.playbook import route

SERVER = Address("10.0.0.2", 53)
HTTP_OK = b"HTTP/1.1 204 No Content\r\n\r\n"
FASTCGI_OK = (
    b"\1\6\0\1\0\x17\0\0Status: 200 OK\r\n\r\npong\n"[:8] + b"Status: 200 OK\r\n\r\npong\n"
    b"\1\3\0\1\0\x08\0\0\0\0\0\0\0\0\0\0"
)


class Watch:
    """A lookout with a name server, and workers that answer what they are told to."""

    def __init__(
        self, *addresses: Address, interface: str = "http", own: bool = True,
        records: Records | None = None, **terms: object,
    ) -> None:  # fmt: skip
        self.turn = Turn(now=100.0)
        self.zone = Zone(records, ttl=10)
        self.hosts: set[str] = set()
        self.reports: list[str] = []
        self.asked: list[tuple[str, bytes]] = []
        self.answers: dict[str, bytes | None] = {}
        """What a worker says; None: it refuses, b"": it says nothing. All others are well."""
        self.well = {"http": HTTP_OK, "fastcgi": FASTCGI_OK, "scgi": b"Status: 200 OK\r\n\r\n"}[interface]
        rosters = Rosters(1)
        self.told = rosters.roster(0)
        one = route(interface, addresses=addresses, terms=Terms(**terms))  # type: ignore[arg-type]
        self.lookout = Lookout(
            self.turn, lambda level, text: self.reports.append(f"{level}: {text}"), [one], lambda _: rosters.roster(0),
            [SERVER] if own else [], lambda: Servers([SERVER]), lambda: set(self.hosts),
        )  # fmt: skip
        self.lookout.start(self.turn.now)
        self.settle()

    def settle(self) -> None:
        while self.turn.orders:
            orders, self.turn.orders = self.turn.orders, []
            for order in orders:
                assert isinstance(order, Open)
                self._answer(order)

    def _answer(self, order: Open) -> None:
        end, now = order.end, self.turn.now
        said = b"".join(octets for octets in end.outgoing() if isinstance(octets, bytes))
        if isinstance(end, Query):
            answer = self.zone.answer(said, datagram=True)
            assert answer is not None
            end.received(answer, now)
            end.lost(None, now)
            return
        self.asked.append((str(order.address), said))
        answer = self.answers.get(str(order.address), self.well)
        if answer is None:
            end.lost(ConnectionRefusedError(111, "Connection refused"), now)
            return
        end.connected(now)
        if end.closing is OPEN and answer:
            end.received(answer, now)
        if end.closing is OPEN:
            end.expired(now)
        assert end.closing is not OPEN
        end.lost(None, now)

    def wait(self, length_s: float) -> None:
        until = self.turn.now + length_s
        while self.turn.now < until:
            self.turn.now = min(until, self.turn.now + 0.25)
            self.lookout.tick(self.turn.now)
            self.settle()

    @property
    def entries(self) -> list[Entry]:
        return self.told.read()

    def hosts_told(self, *, up: bool = True) -> list[str]:
        return [entry.host for entry in self.entries if entry.up is up]


APP = Address("app.test", 9000)
A, B = Address("10.0.0.7", 9000), Address("10.0.0.8", 9000)


def test_a_name_is_asked_again_when_its_time_is_over() -> None:
    watch = Watch(APP)
    watch.zone.records["app.test.", "A"] = ["10.0.0.7"]
    watch.wait(2)
    assert watch.hosts_told() == ["10.0.0.7"]
    watch.zone.records["app.test.", "A"] = ["10.0.0.8", "10.0.0.9"]
    watch.wait(5)
    assert watch.hosts_told() == ["10.0.0.7"]
    watch.wait(6)
    assert watch.hosts_told() == ["10.0.0.8", "10.0.0.9"]
    assert {entry.source for entry in watch.entries} == {"app.test:9000"}


def test_new_ones_have_a_beginning_and_the_first_have_none() -> None:
    """So that a share grows for those that come later."""
    watch = Watch(APP, records={("app.test.", "A"): ["10.0.0.7"]})
    assert [entry.since for entry in watch.entries] == [None]
    watch.zone.records["app.test.", "A"] = ["10.0.0.7", "10.0.0.8"]
    watch.wait(12)
    first, second = watch.entries
    assert first.since is None
    assert second.since is not None and second.since > 100.0


@pytest.mark.parametrize("own", [True, False])
def test_a_name_that_is_not_found(own: bool) -> None:
    """With a resolver of the config nobody else is asked; else whoever connects may know it by another way."""
    watch = Watch(APP, own=own)
    assert watch.told.changed()
    assert watch.hosts_told() == ([] if own else ["app.test"])
    assert watch.reports == ["warn: app.test:9000: the name was not found; tried again"]
    assert watch.lookout.settled


def test_what_the_machine_knows_is_left_to_it() -> None:
    watch = Watch(APP, Address("localhost", 80), Address("x.localhost", 80))
    watch.zone.records["app.test.", "A"] = ["10.0.0.7"]
    watch.wait(2)
    assert watch.hosts_told() == ["10.0.0.7", "localhost", "x.localhost"]
    watch.hosts.add("app.test")
    watch.wait(REREAD_S)
    assert watch.hosts_told() == ["app.test", "localhost", "x.localhost"]
    assert all(name == "app.test." for name, _ in watch.zone.asked)


def test_the_file_of_hosts(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("etc") / "hosts"
    path.write_text("127.0.0.1 localhost\n# 10.0.0.1 no\n10.0.0.2\tApp.Test app # 10.0.0.3 neither\n")
    assert machine_hosts(str(path)) == {"localhost", "app.test", "app"}
    assert machine_hosts(str(path) + ".none") == set()


def test_priorities_are_tiers_and_backups_come_after_all() -> None:
    service = Address("_http._tcp.app.test", service=True)
    watch = Watch(A, service, backups=(True, False), weights=(1.0, 2.0))
    watch.zone.records["_http._tcp.app.test.", "SRV"] = ["5 3 80 a.test.", "7 1 80 b.test."]
    watch.zone.records["a.test.", "A"], watch.zone.records["b.test.", "A"] = ["10.0.1.1"], ["10.0.1.2"]
    watch.wait(2)
    by_tier = sorted(watch.entries, key=lambda entry: entry.tier)
    assert [(entry.host, entry.weight) for entry in by_tier] == [("10.0.1.1", 6.0), ("10.0.1.2", 2.0), ("10.0.0.7", 1.0)]
    assert by_tier[0].authority == "a.test:80"


CHECK = Check(path=b"/healthz", every_s=5.0, rise=2, fall=3)


@pytest.fixture
def watch() -> Watch:
    return Watch(A, B, check=CHECK)


def test_workers_are_asked_again_and_again(watch: Watch) -> None:
    watch.wait(10)
    assert [address for address, _ in watch.asked] == ["10.0.0.7:9000", "10.0.0.8:9000"] * 3
    assert watch.asked[0][1].startswith(b"GET /healthz HTTP/1.1\r\nHost: 10.0.0.7:9000\r\n")
    assert watch.reports == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"HTTP/1.1 503 No\r\n\r\n", "it answered 503"), (None, "Connection refused"), (b"", "no answer in 2 s"),
     (b"SSH-2.0\r\n\r\n", "its answer is none")],
)  # fmt: skip
def test_one_that_fails_is_down_and_comes_back(watch: Watch, answer: bytes | None, why: str) -> None:
    watch.wait(1)
    watch.answers["10.0.0.8:9000"] = answer
    watch.wait(10)
    assert watch.hosts_told(up=False) == []
    watch.wait(5)
    assert watch.hosts_told(up=False) == ["10.0.0.8"]
    assert f"warn: 10.0.0.8:9000 of route / is down: {why}" in watch.reports[0]
    del watch.answers["10.0.0.8:9000"]
    watch.wait(5)
    assert watch.hosts_told(up=False) == ["10.0.0.8"]
    watch.wait(5)
    assert watch.hosts_told() == ["10.0.0.7", "10.0.0.8"]
    assert watch.entries[1].since is not None
    assert watch.reports[1:] == ["info: 10.0.0.8:9000 of route / is up"]


def test_an_interim_response_is_no_answer(watch: Watch) -> None:
    watch.answers["10.0.0.8:9000"] = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 No\r\n\r\n"
    watch.wait(30)
    assert "it answered 404" in watch.reports[0]


@pytest.mark.parametrize("interface", ["fastcgi", "scgi"])
def test_other_interfaces_are_asked_in_their_words(interface: str) -> None:
    watch = Watch(A, interface=interface, check=Check(path=b"/ping?full"))
    watch.wait(1)
    (_, said), *_ = watch.asked
    assert b"SCRIPT_NAME" in said and b"/ping" in said and b"full" in said
    assert watch.hosts_told() == ["10.0.0.7"]
    watch.answers["10.0.0.7:9000"] = b"Status: 500 No\r\n\r\n" if interface == "scgi" else b"nonsense"
    watch.wait(20)
    assert watch.hosts_told(up=False) == ["10.0.0.7"]


def test_to_connect_is_enough_where_nothing_is_asked_for() -> None:
    watch = Watch(A, check=Check(every_s=1.0))
    watch.wait(1)
    assert watch.asked[0] == ("10.0.0.7:9000", b"")
    watch.answers["10.0.0.7:9000"] = None
    watch.wait(4)
    assert watch.hosts_told(up=False) == ["10.0.0.7"]


def test_those_of_a_name_are_asked_too() -> None:
    watch = Watch(APP, check=CHECK)
    watch.zone.records["app.test.", "A"] = ["10.0.0.7", "10.0.0.8"]
    watch.answers["10.0.0.8:9000"] = None
    watch.wait(3)
    assert watch.hosts_told() == ["10.0.0.7"]  # the first answer of all is believed
    assert b"Host: app.test:9000\r\n" in watch.asked[0][1]
    watch.zone.records["app.test.", "A"] = ["10.0.0.7"]
    watch.wait(12)
    assert [entry.host for entry in watch.entries] == ["10.0.0.7"]


def test_nothing_is_told_where_nothing_has_changed(watch: Watch) -> None:
    watch.told.read()
    watch.wait(60)
    assert not watch.told.changed()


def test_after_the_end_nobody_is_asked(watch: Watch) -> None:
    watch.lookout.stop()
    count = len(watch.asked)
    watch.wait(20)
    assert len(watch.asked) == count


