"""Names of workers, looked up in DNS again and again: A, AAAA and SRV.

Promise: nobody waits for a look-up; one that fails leaves what was known; what is known lasts for its TTL, a second at
least and five minutes at most. Must never know: sockets, files, what the workers are for. Next: `gateway/lookout.py`,
who asks.

Questions travel as any stream does: a datagram first, and where an answer does not fit, a connection. The records are
those of dnspython.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import msgspec

from gateway.ends import Address, Close, End, Open, Turn

TTL_LEAST_S: Final = 1.0
TTL_MOST_S: Final = 300.0
TRY_S: Final = 2.0
"""How long a name server has for its answer."""
ROUNDS: Final = 2
"""How often all name servers are asked before a look-up has failed."""
RETRY_MOST_S: Final = 30.0
"""Failed look-ups are made again after 1 s, 2 s, 4 s ..., and this at most."""


class Host(msgspec.Struct, frozen=True):
    """One worker that a name stands for."""

    host: str
    port: int
    authority: str
    """What an HTTP server there is called."""
    weight: float = 1.0
    priority: int = 0
    """Lower ones first."""


class Servers(msgspec.Struct, frozen=True):
    """Whom to ask, as in resolv.conf."""

    addresses: Sequence[Address]
    search: Sequence[str] = ()
    ndots: int = 1

    def candidates(self, name: str) -> list[str]:
        """Whole names that a name may mean, in order."""
        if name.endswith("."):
            return [name]
        searched = [f"{name}.{domain.rstrip('.')}." for domain in self.search if domain.rstrip(".")]
        whole = [name + "."]
        return whole + searched if name.count(".") >= self.ndots else searched + whole


class Answer(msgspec.Struct, frozen=True):
    """What a name server told: nothing, if there is no such name or no such record."""

    records: Sequence[object]
    ttl_s: float
    others: dict[str, list[str]] = {}
    """Addresses of the hosts that the records name, where it told them, too."""


Told = Callable[[Answer | None], None]
"""Called once; None: no server has answered."""


class Query(End):
    """One question to one name server."""

    def __init__(
        self,
        turn: Turn,
        server: Address,
        question: dns.message.QueryMessage,
        told: Callable[[dns.message.Message | None], None],
        *,
        datagram: bool,
    ) -> None:
        super().__init__(turn)
        self.question = question
        self.told = told
        self.datagram = datagram
        self.octets = b""
        self.answer: dns.message.Message | None = None
        self.deadline = turn.now + TRY_S
        wire = question.to_wire()
        self.send(wire if datagram else len(wire).to_bytes(2, "big") + wire)
        turn.orders.append(Open(server, self, datagram=datagram))

    def received(self, octets: bytes, now: float) -> None:
        if not self.datagram:
            self.octets += octets
            octets = self.octets[2:]
            if len(self.octets) < 2 or len(octets) < int.from_bytes(self.octets[:2], "big"):
                return
        try:
            answer = dns.message.from_wire(octets, ignore_trailing=True)
        except dns.exception.DNSException:
            return  # whoever sent that
        if self.question.is_response(answer):
            self.answer = answer
            self.close(Close.ABORT)

    def received_eof(self, now: float) -> None:
        self.close(Close.ABORT)

    def expired(self, now: float) -> None:
        self.close(Close.ABORT)

    def lost(self, error: OSError | None, now: float) -> None:
        self.told(self.answer)


class Question:
    """A name and a kind of record, asked of one server after the other until one answers."""

    def __init__(self, turn: Turn, servers: Servers, name: str, kind: str, told: Told) -> None:
        self.turn = turn
        self.kind = dns.rdatatype.from_text(kind)
        self.told = told
        self.names = servers.candidates(name)
        self.addresses = list(servers.addresses)
        self.left = list(servers.addresses) * ROUNDS
        self._ask(datagram=True)

    def _ask(self, *, datagram: bool) -> None:
        if not self.left or not self.names:
            self.told(None)
            return
        try:
            question = dns.message.make_query(self.names[0], self.kind)
        except dns.exception.DNSException:
            self.told(None)
            return
        question.id = random.SystemRandom().randrange(1 << 16)
        Query(self.turn, self.left[0], question, self._answered, datagram=datagram)

    def _answered(self, answer: dns.message.Message | None) -> None:
        code = answer.rcode() if answer is not None else None
        if answer is not None and answer.flags & dns.flags.TC and code == dns.rcode.NOERROR:
            self._ask(datagram=False)
        elif answer is not None and code == dns.rcode.NOERROR:
            self._read(answer)
        elif code == dns.rcode.NXDOMAIN:
            self.names.pop(0)
            if self.names:
                self.left = self.addresses * ROUNDS
                self._ask(datagram=True)
            else:
                self.told(Answer((), 0.0))
        else:
            self.left.pop(0)
            self._ask(datagram=True)

    def _read(self, answer: dns.message.Message) -> None:
        assert isinstance(answer, dns.message.QueryMessage)
        try:
            chain = answer.resolve_chaining()
        except dns.exception.DNSException:  # aliases that lead in a circle
            self.told(Answer((), 0.0))
            return
        if chain.answer is None and len(self.names) > 1:  # there is the name, and it is of another kind
            self.names.pop(0)
            self._ask(datagram=True)
            return
        others: dict[str, list[str]] = {}
        for rrset in answer.additional:
            if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
                others.setdefault(rrset.name.to_text().lower(), []).extend(record.address for record in rrset)
        self.told(Answer(list(chain.answer or ()), float(chain.minimum_ttl), others))


class Found(Protocol):
    """Called with what a name stands for by now, and for how long."""

    def __call__(self, hosts: list[Host] | None, ttl_s: float) -> None: ...


def look_up_host(turn: Turn, servers: Servers, name: str, port: int, told: Found) -> None:
    """The addresses of a host: those of IPv4, or where it has none, of IPv6."""

    def first(answer: Answer | None) -> None:
        if answer is not None and not answer.records:
            Question(turn, servers, name, "AAAA", last)
        else:
            last(answer)

    def last(answer: Answer | None) -> None:
        if answer is None or not answer.records:
            told(None, 0.0)
            return
        addresses: list[str] = [record.address for record in answer.records]  # type: ignore[attr-defined]
        authority = f"{name.rstrip('.')}:{port}"
        told([Host(address, port, authority) for address in addresses], answer.ttl_s)

    Question(turn, servers, name, "A", first)


def look_up_service(turn: Turn, servers: Servers, name: str, told: Found) -> None:
    """The hosts and ports of an SRV record (RFC 2782), with their addresses."""
    Service(turn, servers, name, told)


class Service:
    """A look-up of an SRV record; the addresses of its targets are asked for where they did not come with it."""

    def __init__(self, turn: Turn, servers: Servers, name: str, told: Found) -> None:
        self.turn = turn
        self.servers = servers
        self.told = told
        self.hosts: list[Host] = []
        self.missing = 1
        self.failed = False
        self.ttl_s = TTL_MOST_S
        Question(turn, servers, name, "SRV", self._answered)

    def _answered(self, answer: Answer | None) -> None:
        records = answer.records if answer is not None else ()
        self.failed = not records
        if answer is not None and records:
            self.ttl_s = answer.ttl_s
        for record in records:
            target = record.target.to_text()  # type: ignore[attr-defined]
            port, weight, priority = record.port, record.weight, record.priority  # type: ignore[attr-defined]
            if target == ".":  # there is no such service
                continue
            known = answer.others.get(target.lower(), []) if answer is not None else []
            if known:
                self._add(target, port, weight, priority, known)
                continue
            self.missing += 1

            def found(
                hosts: list[Host] | None, ttl_s: float, target: str = target, port: int = port, weight: int = weight,
                priority: int = priority,
            ) -> None:  # fmt: skip
                if hosts is None:
                    self.failed = True
                else:
                    self.ttl_s = min(self.ttl_s, ttl_s)
                    self._add(target, port, weight, priority, [host.host for host in hosts])
                self._done()

            look_up_host(self.turn, self.servers, target, port, found)
        self._done()

    def _add(self, target: str, port: int, weight: int, priority: int, addresses: Sequence[str]) -> None:
        """A weight of 0 is a small chance (RFC 2782)."""
        fours = [address for address in addresses if ":" not in address] or list(addresses)
        authority = f"{target.rstrip('.')}:{port}"
        self.hosts += [Host(address, port, authority, float(weight) or 0.1, priority) for address in fours]

    def _done(self) -> None:
        self.missing -= 1
        if not self.missing:
            if self.failed and not self.hosts:
                self.told(None, 0.0)
            else:
                self.told(sorted(self.hosts, key=lambda host: (host.priority, host.host, host.port)), self.ttl_s)


class Name:
    """One name of the config, and what it stands for."""

    def __init__(self, address: Address, report: Callable[[str], None]) -> None:
        self.address = address
        self.report = report
        self.hosts: list[Host] = []
        """What was found last; stays where a look-up fails."""
        self.known = False
        """Whether a look-up has ended, well or not."""
        self.due = 0.0
        self.asking = False
        self.failures = 0

    def look_up(self, turn: Turn, servers: Servers, changed: Callable[[], None]) -> None:
        """Ask anew; `changed` is called once it is known, whether anything has changed or not."""
        self.asking = True

        def told(hosts: list[Host] | None, ttl_s: float) -> None:
            self.asking = False
            first, self.known = not self.known, True
            if hosts is None:
                self.failures += 1
                self.due = turn.now + min(RETRY_MOST_S, 2.0 ** min(self.failures - 1, 10))
                if self.failures == 1 or first:
                    kept = ", ".join(f"{host.host}:{host.port}" for host in self.hosts)
                    self.report(f"{self.address}: the name was not found; " + (f"kept: {kept}" if kept else "tried again"))
            else:
                self.failures = 0
                self.due = turn.now + min(TTL_MOST_S, max(TTL_LEAST_S, ttl_s))
                self.hosts = sorted(hosts, key=lambda host: (host.priority, host.host, host.port))
            changed()

        if self.address.service:
            look_up_service(turn, servers, self.address.host, told)
        else:
            look_up_host(turn, servers, self.address.host, self.address.port, told)
