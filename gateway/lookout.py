"""Who looks out for the workers of somebody else: asks for their names and for their health, and tells the engines.

Promise: one for the whole server, in the parent, on its driver; engines read rosters and never wait for it. What fails
leaves what was known. Must never know: requests, how engines choose. Next: `upstreams/names.py` and `checks.py`, the
questions; `processes/rosters.py`, where the engines read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import dns.resolver

from gateway import checks
from gateway.config import Route
from gateway.config_workers import is_named
from gateway.ends import Address, Turn
from gateway.processes.rosters import SharedRoster
from gateway.upstreams.health import Verdict
from gateway.upstreams.names import Name, Servers
from gateway.upstreams.terms import Entry

REREAD_S = 30.0
"""How often the machine's own files, /etc/hosts and /etc/resolv.conf, are read."""
_BACKUPS = 1 << 16
"""Added to the tier of a backup: after all priorities of the others."""

Report = Callable[[str, str], None]


def machine_servers() -> Servers:
    """Those of /etc/resolv.conf."""
    try:
        resolver = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return Servers(())
    addresses = [Address(str(server), resolver.port) for server in resolver.nameservers]
    return Servers(addresses, [domain.to_text() for domain in resolver.search], resolver.ndots or 1)


def machine_hosts(path: str = "/etc/hosts") -> set[str]:
    """The names in /etc/hosts, in lower case."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return {name.lower() for line in lines for name in line.partition("#")[0].split()[1:]}
    except OSError:
        return set()


class Asking:
    """One worker that is asked for its health."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.since: float | None = None
        """When it came back."""
        self.due = 0.0
        self.asking = False


class Watched:
    """One route."""

    def __init__(self, route: Route, roster: SharedRoster) -> None:
        self.route = route
        self.roster = roster
        self.entries: list[Entry] | None = None
        """As they were told last; None: never."""
        self.asked: dict[str, Asking] = {}
        """By the address of each worker."""
        self.arrived: dict[str, float | None] = {}
        """When each came; None for those of the beginning."""
        self.begun = False


class Lookout:
    """All routes with somebody to look out for."""

    def __init__(
        self,
        turn: Turn,
        report: Report,
        routes: Sequence[Route],
        roster: Callable[[Route], SharedRoster | None],
        own: Sequence[Address],
        servers: Callable[[], Servers] = machine_servers,
        hosts: Callable[[], set[str]] = machine_hosts,
    ) -> None:
        """
        roster  where to tell of the workers of a route; None for one that is not watched
        own     name servers of the config: who is asked in place of the machine's
        """
        self.turn = turn
        self.report = report
        self.watched = [Watched(route, told) for route in routes if (told := roster(route)) is not None]
        self.own = Servers(own)
        self.read_servers, self.read_hosts = servers, hosts
        self.servers = Servers(())
        self.hosts: set[str] = set()
        self.reread_at = 0.0
        addresses = {address for one in self.watched for address in one.route.addresses if is_named(address)}
        self.names = {
            address: Name(address, lambda text: self.report("warn", text))
            for address in sorted(addresses, key=str)
        }  # fmt: skip
        self.stopped = False

    @property
    def settled(self) -> bool:
        """Whether each name has been asked for once."""
        return all(name.known or self.is_local(name.address) for name in self.names.values())

    def start(self, now: float) -> None:
        self._publish_all()
        self.tick(now)

    def stop(self) -> None:
        """Nobody wants to know any more."""
        self.stopped = True

    def tick(self, now: float, wall: float = 0.0) -> None:
        """Called at every sweep, as a driver does it."""
        if self.stopped:
            return
        if now >= self.reread_at:
            self.reread_at = now + REREAD_S
            self.servers, before = self.own if self.own.addresses else self.read_servers(), self.hosts
            self.hosts = self.read_hosts()
            if before != self.hosts:
                self._publish_all()
        for name in self.names.values():
            if now >= name.due and not name.asking and not self.is_local(name.address):
                name.look_up(self.turn, self.servers, self._publish_all)
        for watched in self.watched:
            if watched.route.terms.check is not None:
                self._check(watched, now)

    def is_local(self, address: Address) -> bool:
        """Whether the machine knows it without DNS; then whoever connects looks it up."""
        name = address.host.lower().rstrip(".")
        return not address.service and (name in self.hosts or name == "localhost" or name.endswith(".localhost"))

    # ------------------------------------------------------------------ who there is

    def _publish_all(self) -> None:
        for watched in self.watched:
            self.publish(watched)

    def publish(self, watched: Watched) -> None:
        """Tell the engines, if there is anything new to tell."""
        found: dict[str, Entry] = {}
        for number, address in enumerate(watched.route.addresses):
            for entry in self._workers(watched.route, number, address):
                found.setdefault(str(Address(entry.host, entry.port, entry.path)), entry)
        if not watched.begun:
            watched.arrived = dict.fromkeys(found)
            watched.begun = all(name.known or self.is_local(name.address) for name in self._names(watched))
        watched.arrived = {key: watched.arrived.get(key, self.turn.now) for key in found}
        watched.asked = {key: asking for key, asking in watched.asked.items() if key in found}
        entries = [self._as_it_is(watched, key, entry) for key, entry in found.items()]
        if entries == watched.entries:
            return
        watched.entries = entries
        told = watched.roster.write(entries)
        if told < len(entries):
            self.report("warn", f"route {watched.route.path}: of {len(entries)} workers only {told} are used")

    def _names(self, watched: Watched) -> list[Name]:
        return [self.names[address] for address in watched.route.addresses if address in self.names]

    def _workers(self, route: Route, number: int, address: Address) -> list[Entry]:
        """Those that one address of the config stands for."""
        weight, tier = route.terms.weight(number), route.terms.tier(number) * _BACKUPS
        source = str(address)
        name = self.names.get(address)
        if name is not None and name.hosts and not self.is_local(address):
            priorities = sorted({host.priority for host in name.hosts})
            return [
                Entry(host.host, host.port, "", source, host.authority, weight * host.weight,
                      tier + priorities.index(host.priority))
                for host in name.hosts
            ]  # fmt: skip
        if address.service or (name is not None and self.own.addresses and not self.is_local(address)):
            return []  # else whoever connects may know it: there are more ways to look up a host than DNS
        authority = "localhost" if address.path else source
        return [Entry(address.host, address.port, address.path, source, authority, weight, tier)]

    def _as_it_is(self, watched: Watched, key: str, entry: Entry) -> Entry:
        asking = watched.asked.get(key)
        since = watched.arrived[key]
        up = True
        if asking is not None:
            up = asking.verdict.up
            since = asking.since if asking.since is not None else since
        return Entry(
            entry.host, entry.port, entry.path, entry.source, entry.authority, entry.weight, entry.tier, up, since
        )

    # ------------------------------------------------------------------ how they are

    def _check(self, watched: Watched, now: float) -> None:
        check = watched.route.terms.check
        assert check is not None
        for entry in watched.entries or ():
            address = Address(entry.host, entry.port, entry.path)
            if is_named(address) and not self.is_local(address):  # nobody knows where that is
                continue
            key = str(address)
            asking = watched.asked.get(key)
            if asking is None:
                asking = watched.asked[key] = Asking(Verdict(check.rise, check.fall))
            if asking.asking or now < asking.due:
                continue
            asking.asking = True
            asking.due = now + check.every_s
            heard = self._heard(watched, key, asking)
            checks.ask(self.turn, watched.route.interface, address, entry.authority, check, heard)

    def _heard(self, watched: Watched, key: str, asking: Asking) -> Callable[[str], None]:
        def heard(fault: str) -> None:
            asking.asking = False
            if not asking.verdict.heard(not fault) or self.stopped:
                return
            route = watched.route.path
            if fault:
                self.report("warn", f"{key} of route {route} is down: {fault}; others are asked while there are any")
            else:
                asking.since = self.turn.now
                self.report("info", f"{key} of route {route} is up")
            self.publish(watched)

        return heard
