"""Anything in any order: clients, workers and time, and what must hold whatever happens (STYLE's states x inputs).

Promise: every request gets exactly one final response or a visible break; no octet of one exchange is
in another, in either direction; memory is bounded; when all have left, nothing is left.
Must never know: the inside of the gateway, but for its counts. Next: `playbook.py`.
"""

from __future__ import annotations

import errno
import re
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.config import Timeouts
from gateway.ends import WINDOW, Address
from gateway.interfaces.fastcgi_hub import Hub
from gateway.upstreams.connection import Connection
from protocols.fastcgi_records import RecordReader, RecordType, decode_pairs
from protocols.http1 import ResponseReader, tokeniser
from protocols.message import Content, EndOfMessage, Response
from tests.rules.playbook import CLOSED, EOF, LOST, Peer, Process, Sign, Talk, route
from tests.rules.words import end, stderr, stdout

which = st.integers(0, 99)
HEAD_LINE = re.compile(rb"(?:GET|HEAD|POST|PUT) /(c\d+r\d+)\S* HTTP/1\.1\r\n")
STATUS_LINE = re.compile(rb"(?=HTTP/1\.1 |(?:HTTP/1\.1|HTTP/1\.|HTTP/1|HTTP/|HTTP|HTT|HT|H)\Z)")
"""Where a response begins, though it may be cut in its first octets."""
URI = re.compile(rb"REQUEST_URI\0/(c\d+r\d+)")
INWARD = re.compile(rb"\[(c\d+r\d+)\]")
NAME = re.compile(rb"c\d+r\d+")
REFUSED = re.compile(rb"HTTP/1\.1 40[08]")
LATE = b"(late)"
SPEECHES = ("whole", "whole", "whole", "head", "content", "content", "end", "redirect", "reject", "late", "stderr",
            "interim", "rubbish", "eof", "lost", "clog", "unclog")  # fmt: skip
ACTS = ("whole", "whole", "head", "content", "redirect", "rubbish", "eof", "exit", "killed", "stdin lost", "stderr",
        "stderr eof", "clog", "unclog")  # fmt: skip


def mark(name: bytes, count: int = 1) -> bytes:
    """Octets of a response to a request of this name."""
    return (b"(" + name + b")") * count


class Client:
    """What a client has sent and got."""

    def __init__(self, peer: Peer, number: int) -> None:
        self.peer = peer
        self.number = number
        self.requests: list[tuple[bytes, bytes]] = []
        """Method and name of those begun."""
        self.to_send = b""
        self.rubbish = False
        self.left = False
        self.got = b""
        self.signs: list[Sign] = []

    def look(self) -> None:
        for item in self.peer.got:
            if isinstance(item, Sign):
                self.signs.append(item)
            else:
                assert CLOSED not in self.signs, "octets after the end"
                self.got += item
        self.peer.got.clear()

    def check(self) -> None:
        """One final response for each request, in order, each with its own octets; or the end is visible."""
        self.look()
        # cut before each status-line, so that what belongs to the next response is left alone
        pieces = [piece for piece in STATUS_LINE.split(self.got) if piece]
        asked = iter(self.requests)
        while pieces:
            method, name = next(asked, (b"GET", b""))
            reader = ResponseReader(tokeniser())
            # of a request that can't be read, the method can't be known either
            reader.expect(b"GET" if REFUSED.match(pieces[0]) else method)
            finals: list[Response] = []
            content, complete = b"", False
            while pieces and not complete:
                for event in reader.receive(pieces.pop(0)):
                    if isinstance(event, Content):
                        content += event.data
                    elif isinstance(event, EndOfMessage):
                        complete = True
                    elif isinstance(event, Response) and event.status >= 200:
                        finals.append(event)
            assert not reader.held, f"{reader.held} octets too many"
            assert len(finals) <= 1
            if finals and finals[0].status < 400:
                assert name, "a response that nobody has asked for"
                assert set(NAME.findall(content)) <= {name}, (name, content)
            elif finals and not name:
                assert finals[0].status in (400, 408)
            if not complete:
                assert not pieces, "more after a response that is not complete"
                assert self.signs or self.left, "a response that never ends"
        if not self.left and not self.rubbish and not self.signs:
            assert next(asked, None) is None or self.to_send, f"a request without an answer: {self.requests}"


class Worker:
    """What a worker knows of its requests, by what it was sent."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.records = RecordReader()
        self.params: dict[int, bytes] = {}
        self.names: dict[int, bytes] = {}
        """Of the requests that it has not ended."""
        self.known: dict[int, bytes] = {}
        self.over: list[int] = []
        self.got = b""
        self.answered = 0
        self.chunked = False

    def look_fastcgi(self) -> None:
        for kind, number, content in self.records.receive(self.peer.take()):
            if kind == RecordType.BEGIN_REQUEST:
                self.params[number] = b""
            elif kind == RecordType.PARAMS and content:
                self.params[number] += content
            elif kind == RecordType.PARAMS:
                pairs = dict(decode_pairs(self.params.pop(number)))
                self.names[number] = self.known[number] = pairs[b"REQUEST_URI"].split(b"/")[1]
            elif kind == RecordType.STDIN:
                assert set(INWARD.findall(content)) <= {self.known[number]}

    def look(self) -> None:
        self.got += self.peer.take()


class Machine(RuleBasedStateMachine):
    """All interfaces share these rules; `speak` is theirs."""

    interface = "http"
    one_kept = False
    """Whether all share one worker that serves one connection at a time, which is kept."""
    shared = False
    """Whether requests share a connection."""

    @initialize(buffering=st.booleans(), keepalive=st.sampled_from([0, 2]), limit=st.sampled_from([1, 100]))
    def start(self, buffering: bool, keepalive: int, limit: int) -> None:
        options: dict[str, Any] = {"response_s": 20.0, "read_s": 10.0}
        if self.one_kept:
            buffering, keepalive, limit = True, 2, 1
        if self.interface in ("http", "fastcgi"):
            options |= {"request_buffering": buffering, "keepalive": keepalive}
        if self.interface == "scgi":
            options["preconnect"] = keepalive
        if self.shared:
            options["multiplex"] = True
        if self.interface == "cgi":
            options |= {"processes": 1 + limit % 2, "queue": 2, "on_disconnect": "end" if buffering else "continue"}
        else:
            options["addresses"] = (Address(path="/a"), Address(path="/b"))[: 1 if self.one_kept else 1 + limit % 2]
        one = self.talk = Talk(
            route(self.interface, content_limit=200_000, **options),
            timeouts=Timeouts(header_s=5.0, idle_s=10.0, read_s=10.0, write_s=10.0),
        )
        self.clients = [Client(one.client, 0)]
        self.workers: dict[int, Worker] = {}
        self.begun = 0
        if self.interface != "cgi" and limit == 1:
            one.pool.limit_to(one.pool.members[0], 1)

    # ------------------------------------------------------------------ clients

    @property
    def connected(self) -> list[Client]:
        return [client for client in self.clients if client.peer.wire is not None]

    @precondition(lambda self: len(self.connected) < 4)
    @rule()
    def a_client_comes(self) -> None:
        self.clients.append(Client(self.talk.connect(), len(self.clients)))

    @precondition(lambda self: self.connected)
    @rule(
        number=which,
        kind=st.sampled_from(["GET", "GET", "HEAD", "POST", "PUT", "chunked", "expect", "1.0", "big", "close", "rubbish"]),
        length=st.integers(0, 300),
        now=st.booleans(),
    )
    def a_client_asks(self, number: int, kind: str, length: int, now: bool) -> None:
        client = self.connected[number % len(self.connected)]
        name = b"c%dr%d" % (client.number, len(client.requests))
        if kind == "rubbish":
            client.rubbish = True
            client.requests.append((b"GET", b""))
            client.to_send += b"nonsense\r\n\r\n"
        else:
            method = {"GET": b"GET", "HEAD": b"HEAD", "PUT": b"PUT"}.get(kind, b"POST")
            content = (b"[" + name + b"]") * (length if kind != "big" else 20_000)
            if method in (b"GET", b"HEAD"):
                content = b""
            version = b"1.0" if kind == "1.0" else b"1.1"
            head = b"%b /%b HTTP/%b\r\nHost: x\r\n" % (method, name, version)
            if kind == "close":
                head += b"Connection: close\r\n"
            if kind == "expect":
                head += b"Expect: 100-continue\r\n"
            if kind == "chunked":
                head += b"Transfer-Encoding: chunked\r\n"
                content = (b"%x\r\n%b\r\n" % (len(content), content) if content else b"") + b"0\r\n\r\n"
            elif content or method == b"POST":
                head += b"Content-Length: %d\r\n" % len(content)
            client.requests.append((method, name))
            client.to_send += head + b"\r\n" + content
        if now:
            self.send(client, len(client.to_send))

    @precondition(lambda self: any(client.to_send for client in self.connected))
    @rule(number=which, share=st.integers(1, 4))
    def a_client_sends(self, number: int, share: int) -> None:
        clients = [client for client in self.connected if client.to_send]
        client = clients[number % len(clients)]
        self.send(client, 1 + len(client.to_send) // share)

    def send(self, client: Client, length: int) -> None:
        while length > 0 and client.to_send and client.peer.wire is not None:
            piece, client.to_send = client.to_send[: min(length, 65536)], client.to_send[min(length, 65536) :]
            length -= len(piece)
            client.peer.say(piece)
        self.everybody_looks()

    @precondition(lambda self: self.connected)
    @rule(number=which, how=st.sampled_from([EOF, LOST]))
    def a_client_leaves(self, number: int, how: Sign) -> None:
        client = self.connected[number % len(self.connected)]
        client.left = True
        client.peer.say(how)

    @precondition(lambda self: self.connected)
    @rule(number=which, room=st.sampled_from([0, 10, 1000, None]))
    def a_client_clogs_or_reads(self, number: int, room: int | None) -> None:
        client = self.connected[number % len(self.connected)]
        if room is None:
            client.peer.takes_all()
        else:
            client.peer.room = room

    # ------------------------------------------------------------------ workers

    def everybody_looks(self) -> None:
        for peer in self.talk.workers:
            worker = self.workers.setdefault(id(peer), Worker(peer))
            if self.interface == "fastcgi":
                worker.look_fastcgi()
            else:
                worker.look()
        for client in self.clients:
            client.look()

    @property
    def live(self) -> list[Worker]:
        self.everybody_looks()
        return [self.workers[id(peer)] for peer in self.talk.workers if peer.wire is not None]

    @precondition(lambda self: self.interface != "cgi" and self.live)
    @rule(
        number=which,
        what=st.sampled_from(SPEECHES),
        length=st.sampled_from([0, 1, 3, 9000]),
    )
    def a_worker_speaks(self, number: int, what: str, length: int) -> None:
        worker = self.live[number % len(self.live)]
        if what == "eof":
            worker.peer.say(EOF)
        elif what == "lost":
            worker.peer.say(LOST)
        elif what == "clog":
            worker.peer.room = 10
        elif what == "unclog":
            worker.peer.takes_all()
        else:
            octets = getattr(self, "speak_" + self.interface)(worker, what, length, number)
            if octets and worker.peer.wire is not None:
                worker.peer.say(octets)
        self.everybody_looks()

    def speak_fastcgi(self, worker: Worker, what: str, length: int, number: int) -> bytes:
        if what == "late":
            return b"".join(stdout(over, LATE) for over in worker.over[-1:])
        ids = list(worker.names)
        if not ids:
            return b""
        request_id = ids[number % len(ids)]
        name = worker.names[request_id]
        text = mark(name, length)
        if what in ("whole", "end", "reject"):
            del worker.names[request_id]
            worker.over.append(request_id)
        return {
            "whole": stdout(request_id, b"Content-Type: t\n\n" + text) + stdout(request_id) + end(request_id),
            "head": stdout(request_id, b"Status: 200\n\n" if length else b"Status: 200\nContent-Length: 40\n\n"),
            "content": stdout(request_id, text) if text else b"",
            "end": stdout(request_id) + end(request_id),
            "redirect": stdout(request_id, b"Location: /" + name + b"/again\n\n"),
            "reject": end(request_id, protocol_status=1 + length % 3),
            "stderr": stderr(request_id, b"warned\n"),
            "interim": stdout(request_id, b"Content-"),
            "rubbish": b"\2rubbish" * 2,
        }[what]

    def speak_scgi(self, worker: Worker, what: str, length: int, number: int) -> bytes:
        found = URI.search(worker.got)
        if found is None:
            return b""
        name = found[1]
        assert set(INWARD.findall(worker.got)) <= {name}
        text = mark(name, length)
        return {
            "whole": b"Content-Type: t\n\n" + text,
            "head": b"Status: 200\n\n" if length else b"Status: 200\nContent-Length: 40\n\n",
            "content": text,
            "redirect": b"Location: /" + name + b"/again\n\n",
            "rubbish": b"rubbish\n\n",
            "interim": b"Content-",
        }.get(what, b"")

    def speak_http(self, worker: Worker, what: str, length: int, number: int) -> bytes:
        heads = list(HEAD_LINE.finditer(worker.got))
        if len(heads) <= worker.answered:
            return b""
        name = heads[-1][1]
        assert set(INWARD.findall(worker.got[heads[-1].end() :])) <= {name}
        text = mark(name, length)
        has_content = not heads[-1][0].startswith(b"HEAD")
        if what == "whole":
            worker.answered = len(heads)
            worker.chunked = False
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + (text if has_content else b"")
        if what == "head":
            worker.chunked = True
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        if what == "content" and worker.chunked and text:
            return b"%x\r\n%b\r\n" % (len(text), text)
        if what == "end" and worker.chunked:
            worker.answered = len(heads)
            worker.chunked = False
            return b"0\r\n\r\n"
        return {"interim": b"HTTP/1.1 103 Early Hints\r\n\r\n", "rubbish": b"rubbish\r\n\r\n"}.get(what, b"")

    # ------------------------------------------------------------------ scripts

    @property
    def running(self) -> list[Process]:
        return [script for script in self.talk.scripts if not script.exited or script.stdout.wire is not None]

    @precondition(lambda self: self.interface == "cgi" and self.running)
    @rule(
        number=which,
        what=st.sampled_from(ACTS),
        length=st.sampled_from([0, 1, 3, 9000]),
    )
    def a_script_acts(self, number: int, what: str, length: int) -> None:
        script = self.running[number % len(self.running)]
        name = script.environment[b"REQUEST_URI"].split(b"/")[1]
        assert set(INWARD.findall(script.stdin.take())) <= {name}
        text = mark(name, length)
        if what in ("exit", "killed"):
            script.exit(0 if what == "exit" else -9)
        elif what in ("stdin lost", "clog", "unclog"):
            if script.stdin.wire is not None:
                if what == "stdin lost":
                    script.stdin.say(LOST)
                elif what == "clog":
                    script.stdin.room = 10
                else:
                    script.stdin.takes_all()
        elif what.startswith("stderr"):
            if script.stderr.wire is not None and not script.stderr.wire.ended:
                script.stderr.say(EOF if what == "stderr eof" else b"warned\n")
        elif script.stdout.wire is not None and not script.stdout.wire.ended:
            octets = {
                "whole": b"Content-Type: t\n\n" + text,
                "head": b"Status: 200\n\n" if length else b"Status: 200\nContent-Length: 40\n\n",
                "content": text,
                "redirect": b"Location: /" + name + b"/again\n\n",
                "rubbish": b"rubbish\n\n",
            }.get(what, b"")
            if octets:
                script.stdout.say(octets)
            if what in ("whole", "eof") and script.stdout.wire is not None:
                script.stdout.say(EOF)

    # ------------------------------------------------------------------ the system

    @rule(at_once=st.booleans())
    def connecting_takes_its_time(self, at_once: bool) -> None:
        self.talk.connects = self.talk.starts = at_once

    @precondition(lambda self: self.talk.opens)
    @rule(accepts=st.booleans())
    def a_connection_is_made(self, accepts: bool) -> None:
        if accepts:
            self.talk.accept()
        else:
            self.talk.refuse()
        self.everybody_looks()

    @precondition(lambda self: self.talk.spawns)
    @rule(starts=st.booleans())
    def a_process_is_made(self, starts: bool) -> None:
        if starts:
            self.talk.start()
        else:
            self.talk.fail(errno.EAGAIN)

    @rule(length_s=st.sampled_from([0.5, 3.0, 12.0, 25.0]))
    def time_passes(self, length_s: float) -> None:
        self.talk.wait(length_s)
        self.everybody_looks()

    # ------------------------------------------------------------------ always

    @invariant()
    def counts_agree(self) -> None:
        one = self.talk
        fronts = [wire.end for wire in one.wires if wire.peer.name.startswith("client")]
        assert one.site.exchanges == sum(front.exchange is not None for front in fronts)  # type: ignore[attr-defined]
        assert len(one.site.fronts) == len(fronts)
        if self.interface == "cgi":
            interface = one.interface()
            unfinished = sum(not script.exited for script in one.scripts) + len(one.spawns)
            assert interface.running == unfinished
            return
        ends: list[Any] = [wire.end for wire in one.wires] + [order.end for order in one.opens]
        for member in one.pool.members:
            mine = [end for end in ends if isinstance(end, Connection) and end.member is member]
            carried = [end for end in ends if isinstance(end, Hub) and end.member is member]
            assert member.open == len(mine) + sum(len(hub.streams) for hub in carried)
            assert set(member.unproven) <= set(mine)
            assert all(connection in mine and connection.exchange is None for connection in member.idle)

    @invariant()
    def memory_is_bounded(self) -> None:
        for wire in self.talk.wires:
            waiting = len(wire.pending) + sum(map(len, wire.end.out))
            assert waiting <= 4 * WINDOW, f"{waiting} octets wait for {wire.peer.name}"

    def teardown(self) -> None:
        if not hasattr(self, "talk"):
            return
        one = self.talk
        for wire in list(one.wires):
            wire.peer.takes_all()
        self.everybody_looks()
        for _ in range(60):  # every patience comes to its end
            one.wait(25)
            if not one.site.exchanges:
                break
        for client in self.clients:
            client.check()
        one.all_leave()
        self.everybody_looks()
        exchanges = [record.exchange for record in one.accesses.records]
        assert len(exchanges) == len(set(exchanges)), "an exchange ended twice"
        assert "defect" not in one.log.text
        assert not any(LATE in client.got for client in self.clients)


def machine(interface: str, one_kept: bool = False, shared: bool = False) -> Any:
    made = type(f"{interface}Machine", (Machine,), {"interface": interface, "one_kept": one_kept, "shared": shared})
    made.TestCase.settings = settings(
        max_examples=80, stateful_step_count=40, deadline=None, report_multiple_bugs=False
    )
    return made.TestCase


TestHttp = machine("http")
TestHttpOnOneKeptConnection = machine("http", one_kept=True)
TestFastcgi = machine("fastcgi")
TestFastcgiOnOneKeptConnection = machine("fastcgi", one_kept=True)
TestFastcgiOnSharedConnections = machine("fastcgi", shared=True)
TestScgi = machine("scgi")
TestCgi = machine("cgi")
