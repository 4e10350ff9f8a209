"""The interface `cgi`: a process per request (RFC 3875).

Promise: a script's environment is built from nothing; its three streams are served together, so
that no amount of output or content deadlocks; whatever outlives its request is ended with its group.
Must never know: the front, how processes are started. Next: `processes/launch.py`, `protocols/cgi.py`.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote_to_bytes

from gateway.ends import Close, End, Kill, Launch, Spawn
from gateway.errors import GatewayError, Side
from gateway.variables import Variables
from protocols.cgi import ScriptResponseReader
from protocols.message import RemoteProtocolError

if TYPE_CHECKING:
    from gateway.config import Route
    from gateway.exchange import Exchange
    from gateway.site import Site
    from gateway.spool import Spool

KILL_GRACE_S: Final = 2.0
"""Between SIGTERM and SIGKILL."""
GRANDCHILD_S: Final = 2.0
"""How long a response stays open when the script has ended and something else holds its stdout (78)."""
EXIT_S: Final = 0.5
"""How long the end of stdout waits for the exit status that tells whether the script was killed."""
AFTER_S: Final = 2.0
"""How long a script may go on, to tidy up, when its response is over (29) and it has not ended."""
PATH: Final = b"/usr/local/bin:/usr/bin:/bin"

Explain: TypeAlias = Callable[[OSError, Launch], tuple[int, str, str, str]]
"""Status, cause, detail and remedy of a program that could not be started."""


class CgiInterface:
    """One route's scripts."""

    needs_length = True
    spools = False

    def __init__(self, site: Site, route: Route, explain: Explain, program: Launch | None = None) -> None:
        """`program`: what answers every request, where no file does; the meta-variables are added to its environment."""
        self.site = site
        self.route = route
        self.explain = explain
        self.program = program
        self.variables = Variables(route, site.software, lambda name, value: name + b"=" + value + b"\0")
        self.running = 0
        """Scripts that were ordered and have not ended, whether somebody waits for their response or not."""
        self.waiting: deque[Exchange] = deque()
        self.scripts: set[Script] = set()
        """Those that run."""
        self.dying: dict[Script, float] = {}
        """Scripts that are to be gone, and when they get the next signal: SIGTERM, or SIGKILL after it."""

    def start(self, exchange: Exchange) -> None:
        """Run the script, or stand in line for it."""
        if self.waiting or not self._may_run():
            if len(self.waiting) >= self.route.queue:
                raise GatewayError(
                    503, "queue-full", f"{self.route.processes} scripts run and {len(self.waiting)} requests wait",
                    "raise processes or queue of the route, or find out why the scripts are slow",
                    side=Side.GATEWAY, retry_after_s=5,
                )  # fmt: skip
            exchange.queued_in = self.waiting
            self.waiting.append(exchange)
            return
        self._run(exchange)

    def _may_run(self) -> bool:
        """Whether one more may; it is counted among those of all engines then."""
        limit = self.route.processes
        return self.running < limit and self.site.neighbours.may_run(self.route.number, limit)

    def _run(self, exchange: Exchange) -> None:
        self.running += 1
        script = Script(self, exchange)
        self.scripts.add(script)
        script.spawn()

    def left(self, script: Script) -> None:
        """A script has ended: the next one may run."""
        self.running -= 1
        self.site.neighbours.has_run(self.route.number)
        self.scripts.discard(script)
        self._run_waiting()

    def _run_waiting(self) -> None:
        while self.waiting and self._may_run():
            exchange = self.waiting.popleft()
            exchange.queued_in = None
            self._run(exchange)

    def tick(self, now: float) -> None:
        """Called at every sweep: whose time is over gets SIGTERM, and who ignored that SIGKILL."""
        for script, due in list(self.dying.items()):
            if now >= due:
                del self.dying[script]
                script.overdue()
        if self.waiting:  # a script of another engine may have ended
            self._run_waiting()

    def let_go(self) -> None:
        """Nothing is kept between two requests."""

    def close(self) -> None:
        """End whatever still runs: the server ends, and nothing of ours goes on without it."""
        asked = [*self.waiting, *(script.exchange for script in self.scripts if script.exchange is not None)]
        for exchange in asked:
            exchange.failed(
                GatewayError(
                    503, "stopping", "the gateway was told to end, and its grace was over before the response",
                    "raise grace of [server] if scripts may take so long", side=Side.GATEWAY, retry_after_s=5,
                )
            )  # fmt: skip
        for script in list(self.scripts):
            if not script.unwanted:
                script.end()


class Script:
    """One process and its three streams: the Call of its exchange, and the Child of its order."""

    __slots__ = (
        "code", "ended_stdout", "exchange", "interface", "kept", "launch", "pid", "reader", "stderr", "stdin", "stdout",
        "unwanted",
    )  # fmt: skip

    def __init__(self, interface: CgiInterface, exchange: Exchange) -> None:
        self.interface = interface
        self.exchange: Exchange | None = exchange
        self.pid = 0
        self.code: int | None = None
        self.ended_stdout = False
        self.unwanted = False
        """It is to be ended as soon as it has a pid."""
        self.reader = ScriptResponseReader()
        self.kept: Spool | None = None
        """Content that the script has still to get, where its client has left it alone with that."""
        self.stdin: Stdin | None = None
        self.stdout = Stdout(self)
        self.stderr = Stderr(self, exchange)

    def spawn(self) -> None:
        """Order the process; content flows into its stdin as soon as there is one."""
        exchange, interface = self.exchange, self.interface
        assert exchange is not None and exchange.found is not None
        place, request = exchange.found.place, exchange.request
        path = place.script_filename
        nph = os.path.basename(path).startswith(b"nph-")
        if nph:  # it speaks for the connection, too, and does not say that it stays open (28)
            exchange.client.close_after()
        self.reader = ScriptResponseReader(nph=nph, request_method=request.method)
        program = interface.program
        environment = {b"PATH": PATH} if program is None else dict(program.environment)
        for pair in interface.variables.encoded(exchange)[:-1].split(b"\0"):
            name, _, value = pair.partition(b"=")
            environment[name] = value
        arguments = [path]
        query = exchange.found.target.query
        if interface.route.indexed_query and query and b"=" not in query:
            arguments += [unquote_to_bytes(word) for word in query.split(b"+")]
            if any(b"\0" in word for word in arguments):
                arguments = [path]
        if request.length != 0:
            self.stdin = Stdin(self)
        if program is not None:
            self.launch = Launch(program.path, program.argv, environment, program.directory, umask=program.umask)
        else:
            self.launch = Launch(path, arguments, environment, os.path.dirname(path) or b"/")
        interface.site.turn.orders.append(
            Spawn(self.launch, self, stdin=self.stdin, stdout=self.stdout, stderr=self.stderr)
        )
        exchange.connected(self)
        if self.stdin is not None:
            exchange.pump()

    # ------------------------------------------------------------------ for the exchange (Call)

    @property
    def upstream(self) -> str:
        return f"pid:{self.pid}" if self.pid else ""

    @property
    def full(self) -> bool:
        stdin = self.stdin
        return stdin is not None and stdin.full

    def room(self) -> None:
        if self.stdin is not None:
            self.stdin.wants_room = True
            self.stdin.touch()

    def content(self, octets: bytes) -> None:
        if self.stdin is not None and not self.stdin.gone:
            self.stdin.send(octets)

    def content_end(self) -> None:
        if self.stdin is not None and not self.stdin.gone:
            self.stdin.close(Close.FLUSH)

    def read(self, wanted: bool) -> None:
        stdout = self.stdout
        if stdout.wants_data is not wanted:
            stdout.wants_data = wanted
            stdout.touch()
            if wanted and self.code is not None and not self.ended_stdout:
                stdout.deadline = self.interface.site.turn.now + GRANDCHILD_S

    def abort(self, *, client_left: bool = False) -> None:
        """Nobody wants the answer: end the script and all that it started."""
        exchange, self.exchange = self.exchange, None
        self.read(True)
        if client_left and self.reader.whole:  # it has got all: the script may tidy up
            self.content_end()
            self.interface.dying.setdefault(self, self.interface.site.turn.now + AFTER_S)
            return
        if not client_left or self.interface.route.on_disconnect != "continue":
            self.end()
            return
        stdin = self.stdin
        if exchange is not None and exchange.spool is not None and stdin is not None and not stdin.gone:
            self.kept, exchange.spool = exchange.spool, None
            self.pass_kept()
        else:
            self.content_end()

    def pass_kept(self) -> None:
        """The client has left, and the script goes on: it gets all that was kept of the content (30)."""
        kept, stdin = self.kept, self.stdin
        if kept is None or stdin is None:
            return
        while not stdin.full and (piece := kept.read()):
            stdin.send(piece)
        if kept.rest:
            self.room()
        else:
            self.drop_kept()
            self.content_end()

    def drop_kept(self) -> None:
        kept, self.kept = self.kept, None
        if kept is not None:
            kept.close()

    # ------------------------------------------------------------------ the process (Child)

    def started(self, pid: int, now: float) -> None:
        self.pid = pid
        if self.exchange is not None:
            self.exchange.upstream = self.upstream
        if self.unwanted:
            self.end()

    def failed(self, error: OSError, now: float) -> None:
        interface, exchange = self.interface, self.exchange
        self.exchange = None
        self.drop_kept()
        interface.left(self)
        if exchange is None:
            return
        status, cause, detail, remedy = interface.explain(error, self.launch)
        exchange.call = None
        exchange.failed(GatewayError(status, cause, detail, remedy, retry_after_s=5 if status == 503 else 0))

    def exited(self, code: int, now: float) -> None:
        self.code = code
        if not self.unwanted:  # else what it leaves behind in its group still has a time to keep
            self.interface.dying.pop(self, None)
        if self.ended_stdout:
            self.finish()
        elif self.exchange is not None:
            self.stdout.deadline = now + GRANDCHILD_S
        else:
            self.release_streams()
        self.interface.left(self)

    def signal(self, number: int) -> None:
        if self.pid:
            self.interface.site.turn.orders.append(Kill(self.pid, number))

    def end(self) -> None:
        """SIGTERM to the whole group, SIGKILL a little later."""
        self.unwanted = True
        if self.stdin is not None and not self.stdin.gone:
            self.stdin.close(Close.ABORT)
        if self.pid and self.code is None:
            self.signal(signal.SIGTERM)
            self.interface.dying[self] = self.interface.site.turn.now + KILL_GRACE_S
        elif self.pid:
            self.signal(signal.SIGKILL)  # the script is gone, but its group is not
            self.release_streams()

    def overdue(self) -> None:
        """Its time is over: AFTER_S from the end of its response, or KILL_GRACE_S from SIGTERM."""
        if self.unwanted:
            self.signal(signal.SIGKILL)
            return
        self.stderr.log.write(b"the script goes on after the end of its output, and is ended\n")
        self.end()

    def release_streams(self) -> None:
        """Nobody reads its output any longer; what it tells the log is read to its end, unless that may never come."""
        for end in (self.stdin, self.stdout, self.stderr if self.unwanted else None):
            if end is not None and end.wire is not None:
                end.close(Close.ABORT)

    # ------------------------------------------------------------------ its output

    def printed(self, octets: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        try:
            events = self.reader.receive(octets)
        except RemoteProtocolError as error:
            self.fail(error.detail)
            return
        exchange.take(events)
        exchange.wait_for_more()

    def finish(self) -> None:
        """stdout has ended, and the exit status is known (or did not come in time)."""
        exchange = self.exchange
        if exchange is None:
            self.release_streams()
            return
        code = self.code
        if code is not None and code < 0:
            name = signal.Signals(-code).name if -code in signal.Signals._value2member_map_ else str(-code)
            self.fail(f"the script was killed by {name}")
            return
        try:
            events = self.reader.receive_eof()
        except RemoteProtocolError as error:
            self.fail(error.detail)
            return
        if code:
            self.interface.site.log_stderr(exchange, b"the script exited with status %d\n" % code)
        if self.reader.overrun:
            self.interface.site.report_overrun(exchange)
        self.exchange = None
        exchange.call = None
        exchange.take(events)
        self.stdout.close(Close.ABORT)
        if self.stdin is not None and not self.stdin.gone:
            self.stdin.close(Close.ABORT)

    def fail(self, detail: str) -> None:
        exchange, self.exchange = self.exchange, None
        self.end()
        if exchange is None:
            return
        exchange.call = None
        path = exchange.found.place.script_filename if exchange.found is not None else b""
        exchange.failed(
            GatewayError(
                502, "bad-response", f"{os.fsdecode(path)}: {detail}",
                "see what the script wrote to stderr; a response is header fields, an empty line, content",
            )
        )  # fmt: skip


class Stdin(End):
    """The script's standard input: a script that does not read it is no error (SEMANTICS 18)."""

    __slots__ = ("gone", "script")

    def __init__(self, script: Script) -> None:
        super().__init__(script.interface.site.turn)
        self.script = script
        self.gone = False

    @property
    def full(self) -> bool:
        return not self.gone and (self.held > 0 or self.wire is None or bool(self.out))

    def unsent(self, length: int, now: float) -> None:
        self.held = length
        if not length:
            if self.script.exchange is not None:
                self.script.exchange.pump()
            else:
                self.script.pass_kept()

    def lost(self, error: OSError | None, now: float) -> None:
        self.gone = True
        self.held = 0
        self.script.drop_kept()
        if self.script.exchange is not None and self.closing is Close.NO:
            self.script.exchange.pump()  # the rest of the content is taken from the client and dropped


class Stdout(End):
    """The script's standard output: the response."""

    __slots__ = ("script",)

    def __init__(self, script: Script) -> None:
        super().__init__(script.interface.site.turn)
        self.script = script

    def received(self, octets: bytes, now: float) -> None:
        if self.script.code is not None:
            self.deadline = now + GRANDCHILD_S
        self.script.printed(octets)

    def received_eof(self, now: float) -> None:
        self.script.ended_stdout = True
        if self.script.code is not None:
            self.script.finish()
            self.close(Close.ABORT)
        else:
            self.deadline = now + EXIT_S

    def expired(self, now: float) -> None:
        """The exit status is late, or the script is gone and something else holds its stdout."""
        if not self.wants_data and not self.script.ended_stdout:  # the rest waits in the pipe, for a slow client
            self.deadline = now + GRANDCHILD_S
            return
        self.deadline = float("inf")
        self.script.ended_stdout = True
        self.script.finish()
        if self.script.code is not None:
            self.script.end()
        else:
            self.script.interface.dying.setdefault(self.script, now + AFTER_S)
        self.close(Close.ABORT)


class Stderr(End):
    """The script's standard error: lines for the error log."""

    __slots__ = ("log",)

    def __init__(self, script: Script, exchange: Exchange) -> None:
        super().__init__(script.interface.site.turn)
        self.log = script.interface.site.stderr_log(exchange)

    def received(self, octets: bytes, now: float) -> None:
        self.log.write(octets)

    def received_eof(self, now: float) -> None:
        self.log.close()
        self.close(Close.ABORT)

    def lost(self, error: OSError | None, now: float) -> None:
        self.log.close()
