"""The status: what several boards, engines and configs come to."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.apps import AppReport, PlaceReport
from gateway.config import Config, parse_config
from gateway.counts import CLASSES, IN_FLIGHT, WIDTH
from gateway.observe.metrics import metrics
from gateway.observe.status import Member, Note
from gateway.processes.scoreboard import BUSY, IDLE, Scoreboard
from gateway.report import Reporter, counters_for

ROUTE = '[[routes]]\npath = "{path}"\ninterface = "http"\naddress = {addresses}\n'
ADDRESSES = '["127.0.0.1:1", "127.0.0.1:2"]'


def config(*paths: str, more: str = "") -> Config:
    routes = "".join(ROUTE.format(path=path, addresses=ADDRESSES) + more for path in paths)
    return parse_config(routes, "/etc/gateway.toml")


def served(ok: int, in_flight: int = 0) -> list[int]:
    values = [0] * WIDTH
    values[CLASSES + 2] = ok
    values[IN_FLIGHT] = in_flight
    return values


def board(config: Config, slots: int = 3) -> Scoreboard:
    return Scoreboard(slots, (), 0, counters=counters_for(config, slots))


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(lambda: 100.0, lambda: 5000.0)


def test_engines_and_their_routes(reporter: Reporter) -> None:
    asked = config("/a", "/b")
    one = board(asked)
    reporter.begin(asked, one)
    for number, state in ((0, IDLE), (2, BUSY)):
        slot = one.slot(number)
        slot.take()
        slot.state = state
        slot.hold(number + 1)
        slot.publish(1, served(number + 5, 1))
    told = reporter.status([], ["127.0.0.1:80"])
    assert [(e.number, e.pid, e.state, e.connections) for e in told.engines] == [
        (0, os.getpid(), "idle", 1), (2, os.getpid(), "busy", 3),
    ]  # fmt: skip
    assert told.gateway.connections == 4
    assert [(r.name, r.requests, r.in_flight) for r in told.routes] == [("/a", 0, 0), ("/b", 12, 2), ("-", 0, 0)]
    assert (told.gateway.reloads, told.problems) == (0, [])


def test_a_reload_goes_on_with_the_counts_of_what_stays(reporter: Reporter) -> None:
    old, new = config("/stays", "/goes"), config("/comes", "/stays")
    first, second = board(old), board(new)
    reporter.begin(old, first)
    first.slot(0).take()
    first.slot(0).publish(0, served(7, 1))
    first.slot(0).publish(1, served(1))
    reporter.begin(new, second)
    second.slot(0).take()
    second.slot(0).publish(1, served(3))

    def counted() -> list[tuple[str, int, int]]:
        return [(r.name, r.requests, r.in_flight) for r in reporter.status([], []).routes]

    assert counted() == [("/comes", 0, 0), ("/stays", 10, 1), ("-", 0, 0)]
    first.slot(0).publish(0, served(8, 0))
    assert counted()[1] == ("/stays", 11, 0)
    reporter.keep([second])
    assert counted()[1] == ("/stays", 11, 0)
    assert reporter.status([], []).gateway.reloads == 1
    reporter.begin(old, board(old))
    reporter.keep([second])
    assert reporter.status([], []).gateway.reloads == 1, "one that fails is none"
    reporter.begin(old, third := board(old))
    assert [r.requests for r in reporter.status([], []).routes] == [11, 1, 0], "a route that comes back counts on"
    reporter.keep([third])
    assert third.counters.total(0) == [0] * WIDTH


def note(requests: int = 0, *members: Member) -> bytes:
    busy = [(f"id{n}", "GET", "/x", 0, "127.0.0.1:1", 90.0 - n) for n in range(requests)]
    return msgspec.json.encode(Note(busy, [(0, list(members))]))


def test_what_takes_long_the_oldest_first(reporter: Reporter) -> None:
    asked = config("/a")
    one = board(asked)
    reporter.begin(asked, one)
    one.slot(1).tell(note(2))
    assert [(busy.id, busy.age_s, busy.route) for busy in reporter.status([], []).requests] == [
        ("id1", 11.0, "/a"), ("id0", 10.0, "/a"),
    ]  # fmt: skip


def test_a_worker_with_an_address_of_its_own_has_its_request(reporter: Reporter) -> None:
    asked = config("/a")
    one = board(asked)
    reporter.begin(asked, one)
    one.slot(0).tell(note(1))
    places = tuple(PlaceReport(n, n, "open", 95.0, 3, 1 << 20, 1, 98.0, f"127.0.0.1:{n}") for n in (1, 2))
    told = reporter.status([AppReport("x", "wsgi", "http", "running", "", 0, places)], [])
    assert [worker.request and worker.request.id for worker in told.apps[0].workers] == ["id0", None]
    assert [(worker.age_s, worker.busy_s) for worker in told.apps[0].workers] == [(5.0, 2.0)] * 2


@pytest.mark.parametrize(
    ("states", "together"),
    [(["up"], "up"), (["down"], "down"), (["up", "up", "down"], "up"), (["up", "down"], "down"), (["out", "out"], "out")],
)
def test_what_most_engines_see_of_an_upstream(reporter: Reporter, states: list[str], together: str) -> None:
    asked = config("/a")
    one = board(asked)
    reporter.begin(asked, one)
    for number, state in enumerate(states):
        one.slot(number).tell(note(0, Member("127.0.0.1:1", state, outstanding=2, failures=1)))
    told = reporter.status([], [])
    member = told.upstreams[0].members[0]
    assert (member.state, member.outstanding, member.failures) == (together, 2 * len(states), len(states))
    assert bool(told.problems) is (together != "up")


def test_an_app_that_is_down_is_a_problem(reporter: Reporter) -> None:
    asked = config("/a")
    reporter.begin(asked, board(asked))
    told = reporter.status([AppReport("x", "command", "scgi", "down", "it dies", 3, ())], [], ending=True)
    assert told.problems == ["app x is down: it dies", "the gateway is about to end"]


@pytest.mark.parametrize(
    "made",
    [
        lambda: config("/a", more='methods = ["GET"]\n').routes + config("/a", more='methods = ["PUT"]\n').routes,
        lambda: config("/a", more='hosts = ["x.example"]\n').routes + config("/a").routes,
    ],
)
def test_two_routes_with_one_name_are_one_for_prometheus(reporter: Reporter, made: Callable[[], tuple[object, ...]]) -> None:
    routes = made()
    asked = msgspec.structs.replace(config("/a"), routes=routes)
    one = board(asked)
    reporter.begin(asked, one)
    one.slot(0).publish(0, served(1))
    one.slot(0).publish(1, served(2))
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(metrics(reporter.status([], [])).decode()):
        for sample in family.samples:
            if sample.name == "gateway_requests_total":
                key = sample.labels["route"], sample.labels["code"]
                assert key not in found
                found[key] = sample.value
    assert sum(found.values()) == 3
