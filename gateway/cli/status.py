"""`gateway status`: how a running gateway is.

Promise: exit code 0 if all is well, 1 if something is down, 2 if no gateway answers; asking disturbs nobody.
Next: `gateway/admin_client.py`, how it asks; `gateway/observe/status.py`, what it is told.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from gateway.admin_client import NotAnswered, ask_one_of, default_paths, paths_of
from gateway.cli.serve import DEFAULT_CONFIG, load
from gateway.config import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from gateway.observe.status import Busy, Route, Status, Worker

REDRAW_S = 1.0
SHOWN = 12
"""So many of the requests that take long."""
CAUSES = 2
"""So many causes of errors are named for a route."""


def add_parser(subparsers: Any) -> None:
    """Register the command with argparse."""
    parser = subparsers.add_parser(
        "status", help="how a running gateway is: routes, workers, upstreams, what takes long",
        description="Asks the gateway that runs with this config, over its admin socket. Exit code 0: all is well; "
        "1: something is down; 2: no gateway answers.",
    )  # fmt: skip
    parser.add_argument("config", nargs="?", metavar="CONFIG or DIRECTORY", help="default: as for `gateway serve`")
    parser.add_argument("--watch", action="store_true", help="redraw each second, until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="the answer as it comes: docs/status.md")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask and show; the exit code."""
    try:
        paths = sockets(args.config)
        if args.watch and not args.json and sys.stdout.isatty():
            return watch(paths)
        octets = told(paths)
    except (ConfigError, NotAnswered) as error:
        print(explained(error), file=sys.stderr)
        return 2
    status = decoded(octets)
    if args.json:
        sys.stdout.write(octets.decode() + "\n")
    else:
        from rich.console import Console

        Console(highlight=False).print(shown(status))
    return 1 if status.problems else 0


def sockets(what: str | None) -> list[str]:
    """Where the gateway of a config is to be asked; of a file that can't be read now, where it is asked by default.

    Raises ConfigError where there is no such file.
    """
    try:
        return paths_of(load(what))
    except ConfigError:
        file = what or DEFAULT_CONFIG
        if not os.path.exists(file):
            raise
        return default_paths(file, os.environ, os.geteuid())


def told(paths: list[str]) -> bytes:
    """What the gateway answers. Raises NotAnswered."""
    code, octets = ask_one_of(paths, "GET", "/status")
    if code != 200:
        raise NotAnswered(f"the gateway answered {code}: {octets[:200].decode(errors='replace')}", "see its log")
    return octets


def explained(error: ConfigError | NotAnswered) -> str:
    return f"gateway: {error.what}\n  {error.remedy}" if isinstance(error, NotAnswered) else str(error)


def decoded(octets: bytes) -> Status:
    import msgspec

    from gateway.observe.status import Status

    return msgspec.json.decode(octets, type=Status)


def watch(paths: list[str]) -> int:
    """Draw anew again and again; a gateway that does not answer may come back."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    code = 2
    before: tuple[float, Status] | None = None
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        try:
            while True:
                try:
                    status = decoded(told(paths))
                except NotAnswered as error:
                    code, before = 2, None
                    live.update(Text(explained(error), style="red"), refresh=True)
                else:
                    code, now = int(bool(status.problems)), time.monotonic()
                    live.update(shown(status, rates(before, now, status)), refresh=True)
                    before = now, status
                time.sleep(REDRAW_S)
        except KeyboardInterrupt:
            return code


def rates(before: tuple[float, Status] | None, now: float, status: Status) -> dict[int, float]:
    """Requests a second of each route since the last look, by its number in the list."""
    if before is None or now <= before[0] or before[1].gateway.read != status.gateway.read:
        return {}
    pairs = zip(before[1].routes, status.routes, strict=True)
    return {number: (new.requests - old.requests) / (now - before[0]) for number, (old, new) in enumerate(pairs)}


# ---------------------------------------------------------------------- what is shown


def shown(status: Status, per_second: dict[int, float] | None = None) -> RenderableType:
    """All of it; `per_second` where it is looked at again and again."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(line) for line in head(status)]
    parts += [Text(f"! {problem}", style="bold red") for problem in status.problems]
    parts.append(routes(status, per_second))
    failing = [route for route in status.routes if route.errors]
    if failing:
        parts.append(errors(failing))
    if status.apps:
        parts.append(apps(status))
    if status.upstreams:
        parts.append(upstreams(status))
    if status.requests:
        parts.append(requests(status))
    return Group(*parts)


def head(status: Status) -> list[str]:
    gateway = status.gateway
    reloads = f", the {gateway.reloads}. since the start" if gateway.reloads else ""
    read = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(gateway.read))
    states = [one.state for one in status.engines]
    engines = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none now"
    return [
        f"gateway-suite {gateway.version}, process {gateway.pid}, {gateway.state} for {span(gateway.uptime_s)}"
        f" at {' '.join(gateway.listen)}",
        f"config {gateway.config}, read {read}{reloads}",
        f"{gateway.concurrency}; engines: {engines}; connections: {gateway.connections}",
    ]


def routes(status: Status, per_second: dict[int, float] | None) -> Table:
    heading = (">/s",) if per_second is not None else ()
    table = _table("route", "goes to", ">requests", *heading, ">in flight", ">queue", ">5xx", ">p50", ">p99")
    for number, route in enumerate(status.routes):
        if not route.path and not route.requests and not route.errors:
            continue
        rate = [] if per_second is None else [f"{per_second[number]:.0f}" if number in per_second else ""]
        _row(
            table, route.name, f"{route.interface} {route.target}", f"{route.requests:,}", *rate, str(route.in_flight),
            str(route.queued), f"{route.responses.get('5xx', 0):,}", quick(route.p50_s), quick(route.p99_s),
        )  # fmt: skip
    return table


def errors(failing: list[Route]) -> Table:
    table = _table("errors of", "cause and how many")
    for route in failing:
        _row(table, route.name, causes(route))
    return table


def causes(route: Route) -> str:
    """The most frequent ones."""
    found = sorted(route.errors.items(), key=lambda pair: -pair[1])
    named = [f"{cause} {count:,}" for cause, count in found[:CAUSES]]
    return ", ".join([*named, *([f"+{len(found) - CAUSES}"] if len(found) > CAUSES else [])])


def apps(status: Status) -> Table:
    table = _table("app", ">worker", ">pid", "state", ">for", ">requests", ">memory", ">restarts", "now")
    for app in status.apps:
        for number, worker in enumerate(app.workers):
            _row(
                table, app.name if not number else "", str(worker.number), str(worker.pid or ""), worker.state,
                *((span(worker.age_s), f"{worker.requests:,}", octets(worker.memory)) if worker.pid else ("", "", "")),
                f"{app.restarts:,}" if not number else "", doing(worker),
                style="red" if app.state == "down" else "",
            )  # fmt: skip
    return table


def doing(worker: Worker) -> str:
    if worker.request is not None:
        return f"{worker.request.method} {worker.request.path}, {span(worker.request.age_s)}"
    return f"busy for {span(worker.busy_s)}" if worker.busy_s else ""


def upstreams(status: Status) -> Table:
    from gateway.observe.status import NOT_SERVED

    table = _table("upstreams of", "address", "state", ">outstanding", ">idle", ">failures")
    for upstream in status.upstreams:
        for number, member in enumerate(upstream.members):
            state = member.state + (", backup" if member.backup else "")
            _row(
                table, upstream.route if not number else "", member.address, state, str(member.outstanding),
                str(member.idle), f"{member.failures:,}", style="red" if member.state in NOT_SERVED else "",
            )  # fmt: skip
    return table


def requests(status: Status) -> Table:
    table = _table(">takes long", "request", "route", "upstream", ">engine", "exchange")
    for busy in status.requests[:SHOWN]:
        _row(table, *_busy(busy))
    if len(status.requests) > SHOWN:
        _row(table, "", f"and {len(status.requests) - SHOWN} more", "", "", "", "")
    return table


def _busy(busy: Busy) -> tuple[str, ...]:
    return span(busy.age_s), f"{busy.method} {busy.path}", busy.route, busy.upstream, str(busy.pid), busy.id


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1), show_edge=False, collapse_padding=True, pad_edge=False)
    for heading in headings:
        right, name = heading.startswith(">"), heading.lstrip(">")
        table.add_column(
            name, justify="right" if right else "left", no_wrap=right, overflow="fold", min_width=len(name)
        )
    return table


def _row(table: Table, *cells: str, style: str = "") -> None:
    from rich.text import Text

    table.add_row(*map(Text, cells), style=style or None)  # brackets in a path are no markup


def span(seconds: float) -> str:
    """A length of time in its two largest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def quick(seconds: float | None) -> str:
    """A response time."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def octets(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB"
