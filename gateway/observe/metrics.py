"""The status for Prometheus: `GET /metrics`.

Promise: names and units as Prometheus wants them; what is only counted never goes down while the gateway runs.
Must never know: how it was found out. Next: `status.py`, the same in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.observe.status import NOT_SERVED, Route, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(status: Status) -> bytes:
    """The text that is scraped."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told([*_of_gateway(status), *_of_routes(status), *_of_apps(status), *_of_upstreams(status)]))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, told: Sequence[Metric]) -> None:
        self.told = told

    def collect(self) -> Iterable[Metric]:
        return self.told


class _Sums:
    """Values by their labels: two routes may have the same."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, labels: tuple[str, ...], value: float) -> None:
        self.values[labels] = self.values.get(labels, 0) + value


_Values: TypeAlias = Iterable[tuple[tuple[str, ...], float]]


def _gauge(name: str, meaning: str, labels: Sequence[str], values: _Values) -> Metric:
    return _filled(GaugeMetricFamily(name, meaning, labels=labels), values)


def _counter(name: str, meaning: str, labels: Sequence[str], values: _Values) -> Metric:
    return _filled(CounterMetricFamily(name, meaning, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: _Values) -> Metric:
    sums = _Sums()
    for key, value in values:
        sums.add(key, value)
    for key, value in sums.values.items():
        family.add_metric(key, value)
    return family


def _of_gateway(status: Status) -> Iterable[Metric]:
    gateway = status.gateway
    yield _gauge("gateway_build_info", "Version that runs.", ["version"], [((gateway.version,), 1)])
    yield _gauge("gateway_start_time_seconds", "When the gateway was started.", [], [((), gateway.started)])
    yield _gauge("gateway_config_read_time_seconds", "When the config was read that holds now.", [], [((), gateway.read)])
    yield _counter("gateway_reloads", "New configs since the start.", [], [((), gateway.reloads)])
    yield _gauge("gateway_connections", "Connections of clients.", [], [((), gateway.connections)])
    states = ("starting", "idle", "busy", "ending")
    yield _gauge(
        "gateway_engines", "Processes and threads that serve clients.", ["state"],
        [((state,), sum(one.state == state for one in status.engines)) for state in states],
    )  # fmt: skip


def _of_routes(status: Status) -> Iterable[Metric]:
    labels = ["route", "interface"]
    routes = [((one.name, one.interface), one) for one in status.routes]
    yield _counter(
        "gateway_requests", "Requests that are over, by class of their status; none: the client left before.",
        [*labels, "code"], [((*key, code), count) for key, one in routes for code, count in one.responses.items()],
    )  # fmt: skip
    yield _counter(
        "gateway_request_errors", "Requests that the gateway answered, or broke off, with an error of its own.",
        [*labels, "cause"], [((*key, cause), count) for key, one in routes for cause, count in one.errors.items()],
    )  # fmt: skip
    yield _counter("gateway_retries", "Requests sent again.", labels, [(key, one.retries) for key, one in routes])
    yield _counter(
        "gateway_response_content_bytes", "Response content sent.", labels, [(key, one.octets) for key, one in routes]
    )
    yield _gauge(
        "gateway_requests_in_flight", "Requests under way.", labels, [(key, one.in_flight) for key, one in routes]
    )
    yield _gauge("gateway_queue", "Requests that wait for a worker.", labels, [(key, one.queued) for key, one in routes])
    family = HistogramMetricFamily(
        "gateway_request_duration_seconds", "From the request head to the end of the response.", labels=labels
    )
    by_key: dict[tuple[str, str], list[Route]] = {}
    for key, one in routes:
        by_key.setdefault(key, []).append(one)
    for key, same in by_key.items():
        bounds = [bound for bound, _ in same[0].buckets]
        below = [sum(one.buckets[number][1] for one in same) for number in range(len(bounds))]
        everything = below[-1] + sum(one.longer for one in same)
        buckets = [(f"{bound:g}", float(count)) for bound, count in zip(bounds, below, strict=True)]
        family.add_metric(key, [*buckets, ("+Inf", float(everything))], sum(one.seconds for one in same))
    yield family


def _of_apps(status: Status) -> Iterable[Metric]:
    apps = status.apps
    yield _gauge("gateway_app_up", "Whether workers of it serve.", ["app"], [((a.name,), a.state != "down") for a in apps])
    yield _counter(
        "gateway_worker_restarts", "Workers that were started again.", ["app"], [((app.name,), app.restarts) for app in apps]
    )
    workers = [((app.name, str(worker.number)), worker) for app in apps for worker in app.workers]
    yield _gauge(
        "gateway_workers", "Workers by state.", ["app", "state"], [((key[0], one.state), 1) for key, one in workers]
    )
    yield _gauge(
        "gateway_worker_memory_bytes", "Resident memory.", ["app", "worker"],
        [(key, one.memory) for key, one in workers if one.pid],
    )  # fmt: skip
    yield _gauge(
        "gateway_worker_requests", "Requests that the process has served.", ["app", "worker"],
        [(key, one.requests) for key, one in workers if one.pid],
    )  # fmt: skip


def _of_upstreams(status: Status) -> Iterable[Metric]:
    members = {(one.route, member.address): member for one in status.upstreams for member in one.members}
    labels = ["route", "address"]
    yield _gauge(
        "gateway_upstream_up", "Whether requests are sent there.", labels,
        [(key, one.state not in NOT_SERVED) for key, one in members.items()],
    )  # fmt: skip
    yield _gauge(
        "gateway_upstream_outstanding", "Requests that are there.", labels,
        [(key, one.outstanding) for key, one in members.items()],
    )  # fmt: skip
    yield _counter(
        "gateway_upstream_failures", "Connections that failed there.", labels,
        [(key, one.failures) for key, one in members.items()],
    )  # fmt: skip
