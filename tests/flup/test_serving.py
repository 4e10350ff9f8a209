"""Programs for flup's successor in processes of their own: signals, ends, who may connect, and what they print."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client import CallError, Result, call
from tests.conftest import ROOT, eventually

HEAD = """import os, signal, sys, threading, time
SOCKET = {socket!r}
seen = []
def application(environ, start_response):
    seen.append(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [("%d %s" % (os.getpid(), threading.current_thread() is threading.main_thread())).encode()]
"""


class Program:
    """One that listens at `path`."""

    def __init__(self, directory: Path, text: str) -> None:
        self.path = str(directory / "socket")
        self.interface = "scgi" if "scgi" in text else "fastcgi"
        script = directory / "program.py"
        script.write_text(HEAD.format(socket=self.path) + text)
        self.process = subprocess.Popen(
            [sys.executable, script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}, start_new_session=True,
        )  # fmt: skip

    def call(self, path: str = "/", **given: Any) -> Result:
        return call(f"{self.interface}+unix://{self.path}", path=path, timeout_s=20, **given)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.call().status > 0
        except CallError:
            return False

    def refuses(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path) != 0

    def up(self) -> Program:
        """Wait until it serves."""
        eventually(self.answers, "the start of the program")
        return self

    def end(self, number: int | None = signal.SIGTERM) -> tuple[str, str]:
        """What it has printed, after a signal."""
        if number is not None:
            self.process.send_signal(number)
        told = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, told
        return told


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    started: list[Program] = []

    def start(text: str) -> Program:
        started.append(Program(tmp_path, text))
        return started[-1]

    yield start
    for program in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)  # children, too, which have its output open
        program.process.communicate()


MODULES = ["fcgi", "fcgi_fork", "fcgi_single", "scgi", "scgi_fork"]
SERVE = "from gateway.flup.{module} import WSGIServer\nprint(WSGIServer(application, bindAddress=SOCKET{more}).run())\n"


def serving(module: str, more: str = "") -> str:
    return SERVE.format(module=module, more=more)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGTERM, "False\n"), (signal.SIGINT, "False\n"), (signal.SIGHUP, "True\n")],
    ids=["term", "int", "hup"],
)  # fmt: skip
def test_run_tells_whether_to_start_again(start: Any, module: str, number: int, told: str) -> None:
    program = start(serving(module)).up()
    assert program.end(number)[0] == told
    assert program.refuses()
    assert os.path.exists(program.path)  # as with flup: it is the program's to remove


def test_it_serves_again_after_sighup_and_handlers_are_back(start: Any) -> None:
    program = start(
        "from gateway.flup.fcgi import WSGIServer\nbefore = [signal.getsignal(n) for n in (1, 2, 15)]\n"
        "while WSGIServer(application, bindAddress=SOCKET).run():\n    print('again', flush=True)\n"
        "print(before == [signal.getsignal(n) for n in (1, 2, 15)])\n"
    ).up()
    for _ in range(3):
        program.process.send_signal(signal.SIGHUP)
        assert program.process.stdout.readline() == "again\n"
        program.up()
    assert program.end()[0] == "True\n"


def test_threads_share_the_memory_of_the_program(start: Any) -> None:
    more = "print(sorted(set(seen)), threading.active_count())\n"
    program = start(serving("fcgi") + more).up()
    for path in ("/a", "/b"):
        assert program.call(path).content == b"%d False" % program.process.pid
    assert program.end()[0] == "False\n['/', '/a', '/b'] 1\n"


def test_the_single_one_runs_the_application_in_the_main_thread(start: Any) -> None:
    program = start(serving("fcgi_single")).up()
    assert program.call().content == b"%d True" % program.process.pid


@pytest.mark.parametrize("module", ["fcgi_fork", "scgi_fork"])
def test_processes_are_others_and_are_replaced(start: Any, module: str) -> None:
    program = start(serving(module, ", maxSpare=2, maxChildren=2, maxRequests=2")).up()
    pids: set[bytes] = set()

    def replaced() -> bool:
        pids.add(program.call().content)
        return len(pids) > 3

    eventually(replaced, "the end of processes that have served enough")
    assert all(pid.endswith(b" True") for pid in pids)
    assert not any(pid.startswith(b"%d " % program.process.pid) for pid in pids)
    program.end()
    for pid in pids:
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{int(pid.split()[0])}"), "the end of its children")


SLOW = """
from gateway.flup.{module} import WSGIServer
def slow(environ, start_response):
    if environ["PATH_INFO"] != "/slow":
        return application(environ, start_response)
    open(SOCKET + ".begun", "w").close()
    while not os.path.exists(SOCKET + ".go"):
        time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["finished"]
print(WSGIServer(slow, bindAddress=SOCKET).run())
"""


@pytest.mark.parametrize("module", MODULES)
def test_what_is_in_flight_is_finished(start: Any, module: str) -> None:
    program = start(SLOW.format(module=module)).up()
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(program.call("/slow")))
    thread.start()
    eventually(lambda: os.path.exists(program.path + ".begun"), "the request")
    program.process.send_signal(signal.SIGTERM)
    if module in ("fcgi", "scgi"):  # the others see to nothing else while the application runs
        eventually(program.refuses, "the end of listening")
    Path(program.path + ".go").touch()
    thread.join()
    assert found[0].content == b"finished"
    assert program.end(None)[0] == "False\n"


@pytest.mark.parametrize("module", ["fcgi", "scgi"])
def test_one_call_at_a_time_where_the_program_says_so(start: Any, module: str) -> None:
    program = start(
        f"from gateway.flup.{module} import WSGIServer\n"
        "inside, most = [], [0]\n"
        "def counting(environ, start_response):\n"
        "    inside.append(1)\n    most[0] = max(most[0], len(inside))\n    time.sleep(0.001)\n"
        "    start_response('200 OK', [])\n    yield 'x'\n    inside.pop()\n"
        "WSGIServer(counting, bindAddress=SOCKET, multithreaded=False).run()\nprint(*most)\n"
    ).up()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert [result.content for result in pool.map(program.call, ["/"] * 64)] == [b"x"] * 64
    assert program.end()[0] == "1\n"


# ---------------------------------------------------------------------- what programs override


def test_exit_from_the_application(start: Any) -> None:
    program = start(
        "from gateway.flup.fcgi import WSGIServer\n"
        "def ending(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/reload':\n        server._exit(True)\n"
        "    return application(environ, start_response)\n"
        "server = WSGIServer(ending, bindAddress=SOCKET)\nprint(server.run())\n"
    ).up()
    assert program.call("/reload").status == 200
    assert program.end(None)[0] == "True\n"


@pytest.mark.parametrize("module", MODULES)
def test_the_periodic_method_may_end_it(start: Any, module: str) -> None:
    program = start(
        f"from gateway.flup.{module} import WSGIServer\n"
        "class Mine(WSGIServer):\n"
        "    def _mainloopPeriodic(self):\n"
        "        if os.path.exists(SOCKET + '.reload'):\n            self._exit(reload=True)\n"
        "print(Mine(application, bindAddress=SOCKET).run())\n"
    ).up()
    Path(program.path + ".reload").touch()
    assert program.end(None)[0] == "True\n"


def test_in_a_thread_beside_others_without_signals(start: Any) -> None:
    """As CherryPy has it: the methods of an instance are replaced, and an attribute set to end it."""
    program = start(
        "from gateway.flup.fcgi import WSGIServer\nserver = WSGIServer(application, bindAddress=SOCKET)\n"
        "server._installSignalHandlers = lambda: None\nserver._oldSIGs = []\n"
        "thread = threading.Thread(target=lambda: print(server.run()))\nthread.start()\n"
        "while not seen: time.sleep(0.01)\n"
        "server._keepGoing = False\nserver._threadPool.maxSpare = server._threadPool._idleCount\nthread.join()\n"
    ).up()
    assert program.end(None)[0] == "False\n"


def test_in_a_thread_with_signals_it_says_what_to_do(start: Any) -> None:
    program = start(
        "from gateway.flup.fcgi import WSGIServer\n"
        "def run():\n"
        "    try: WSGIServer(application, bindAddress=SOCKET).run()\n"
        "    except ValueError as error: print(error)\n"
        "thread = threading.Thread(target=run)\nthread.start()\nthread.join()\n"
    )
    assert "call run() there, or override _installSignalHandlers" in program.end(None)[0]


def test_signal_handlers_of_the_program_beside_ours(start: Any) -> None:
    program = start(
        "from gateway.flup.fcgi import WSGIServer\n"
        "class Mine(WSGIServer):\n"
        "    def _installSignalHandlers(self):\n"
        "        WSGIServer._installSignalHandlers(self)\n"
        "        signal.signal(signal.SIGUSR2, lambda number, frame: self._exit(True))\n"
        "    def _restoreSignalHandlers(self):\n        print('restored')\n"
        "print(Mine(application, bindAddress=SOCKET).run())\n"
    ).up()
    assert program.end(signal.SIGUSR2)[0] == "restored\nTrue\n"


def test_the_socket_is_made_and_cleaned_up_by_the_program(start: Any) -> None:
    program = start(
        "import socket\nfrom gateway.flup.fcgi_fork import WSGIServer\n"
        "class Mine(WSGIServer):\n"
        "    def _setupSocket(self):\n"
        "        sock = socket.socket(socket.AF_UNIX)\n        sock.bind(SOCKET)\n        sock.listen()\n"
        "        return sock\n"
        "    def _cleanupSocket(self, sock):\n"
        "        WSGIServer._cleanupSocket(self, sock)\n        os.unlink(SOCKET)\n        print('cleaned up')\n"
        "print(Mine(application).run())\n"
    ).up()
    assert program.end()[0] == "cleaned up\nFalse\n"
    assert not os.path.exists(program.path)


def test_a_server_that_a_program_puts_together(start: Any) -> None:
    program = start(
        "from gateway.flup.server.fcgi_base import BaseFCGIServer\n"
        "from gateway.flup.server.threadedserver import ThreadedServer\n"
        "class Mine(BaseFCGIServer, ThreadedServer):\n"
        "    def __init__(self, application, **kw):\n"
        "        BaseFCGIServer.__init__(self, application, bindAddress=SOCKET)\n"
        "        ThreadedServer.__init__(self, jobClass=self._connectionClass, jobArgs=(self, None), **kw)\n"
        "    def run(self):\n"
        "        sock = self._setupSocket()\n        ret = ThreadedServer.run(self, sock)\n"
        "        self._cleanupSocket(sock)\n        self.shutdown()\n        return ret\n"
        "print(Mine(application, maxThreads=3).run())\n"
    ).up()
    assert program.end(signal.SIGHUP)[0] == "True\n"


@pytest.mark.parametrize("module", MODULES)
def test_an_error_page_of_the_program(start: Any, module: str) -> None:
    program = start(
        f"from gateway.flup.{module} import WSGIServer\n"
        "class Mine(WSGIServer):\n"
        "    def error(self, req):\n"
        "        req.stdout.write(b'Status: 503 Later\\r\\nContent-Type: text/plain\\r\\n\\r\\nsorry')\n"
        "def failing(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/raises': raise ValueError('on purpose')\n"
        "    return application(environ, start_response)\n"
        "Mine(failing, bindAddress=SOCKET, debug=True).run()\n"
    ).up()
    result = program.call("/raises")
    assert (result.status, result.reason, result.content) == (503, b"Later", b"sorry")
    assert "ValueError: on purpose" in program.end()[1]


@pytest.mark.parametrize("module", MODULES)
def test_a_traceback_is_logged_and_never_sent(start: Any, module: str) -> None:
    program = start(
        f"from gateway.flup.{module} import WSGIServer\n"
        "def failing(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/raises': raise ValueError('on purpose')\n"
        "    return application(environ, start_response)\n"
        "WSGIServer(failing, bindAddress=SOCKET, debug=True).run()\n"
    ).up()
    result = program.call("/raises")
    assert result.status == 500
    assert b"purpose" not in result.content
    assert "ValueError: on purpose" in program.end()[1]


@pytest.mark.parametrize("module", ["fcgi_fork", "scgi_fork"])
def test_too_slow_requests_of_a_forking_server(start: Any, module: str) -> None:
    program = start(
        f"from gateway.flup.{module} import WSGIServer\n"
        "def slow(environ, start_response):\n"
        "    while environ['PATH_INFO'] == '/slow': time.sleep(0.01)\n"
        "    return application(environ, start_response)\n"
        "WSGIServer(slow, bindAddress=SOCKET, timeout=1, maxSpare=1, maxChildren=1).run()\n"
    ).up()
    before = program.call().content
    assert program.call("/slow").status == 500
    assert program.call().content == before  # the process goes on
    told = program.end()[1]
    assert "is interrupted here" in told
    assert "TimeoutException" in told


# ---------------------------------------------------------------------- who may connect


TCP = """
import socket
from gateway.flup.{module} import WSGIServer
{more}
class Mine(WSGIServer):
    def _setupSocket(self):
        sock = super()._setupSocket()
        print(sock.getsockname()[1], flush=True)
        return sock
{override}
Mine(application, bindAddress=("127.0.0.1", 0){given}).run()
"""


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("host", "allowed"), [("127.0.0.1", True), ("10.9.8.7", False), ("10.9.8.7,127.0.0.1", True)]
)
@pytest.mark.parametrize("how", ["given", "override"])
def test_addresses_of_web_servers(start: Any, module: str, how: str, host: str, allowed: bool) -> None:
    hosts = host.split(",")
    more = given = override = ""
    if how == "override":
        override = f"    def _isClientAllowed(self, addr):\n        return addr[0] in {hosts!r}\n"
    elif module.startswith("scgi"):
        given = f", allowedServers={hosts!r}"
    else:
        more = f"os.environ['FCGI_WEB_SERVER_ADDRS'] = {host!r}"
    program = start(TCP.format(module=module, more=more, given=given, override=override))
    port = program.process.stdout.readline().strip()
    for _ in range(3):
        if allowed:
            assert call(f"{program.interface}://127.0.0.1:{port}/").status == 200
        else:
            with pytest.raises(CallError, match=r"broke off|closed the connection|reset"):
                call(f"{program.interface}://127.0.0.1:{port}/")
    told = program.end()[1]
    assert ("web-server" in told) is not allowed


# ---------------------------------------------------------------------- what cannot be served, and CGI


def test_a_socket_of_the_program_that_does_not_listen(start: Any) -> None:
    program = start(
        "import socket\nfrom gateway.flup.fcgi import WSGIServer\n"
        "class Mine(WSGIServer):\n    def _setupSocket(self):\n        return socket.socket()\n"
        "try: Mine(application).run()\nexcept OSError as error: print(error)\n"
    )
    assert "(_setupSocket) has to call listen() on it" in program.end(None)[0]


def test_a_fastcgi_program_whose_address_is_taken(start: Any) -> None:
    first = start(serving("fcgi")).up()
    second = start(serving("fcgi"))
    told = second.process.communicate(timeout=30)
    assert second.process.returncode == 1
    assert "another server listens there; stop that server, or choose another path" in told[1]
    assert first.call().status == 200


def test_an_scgi_program_whose_address_is_taken_says_so_and_returns(start: Any) -> None:
    start(serving("fcgi")).up()
    told = start(serving("scgi")).end(None)
    assert told[0] == "False\n"
    assert "WSGIServer can't serve: " in told[1]
    assert "another server listens there" in told[1]


def test_what_an_scgi_program_logs(start: Any) -> None:
    program = start(serving("scgi")).up()
    program.call("/a")
    lines = [re.sub(r"^[-0-9: ]* : ", "", line) for line in program.end(signal.SIGHUP)[1].splitlines()]
    assert lines[0] == "WSGIServer starting up"
    assert "GET /a" in lines
    assert lines[-1] == "WSGIServer shutting down (reload requested)"


def run_once(text: str, stdin: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HEAD.format(socket="") + text], stdin=stdin, capture_output=True, text=True, timeout=30,
        env={"PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


CGI = {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/s", "SERVER_NAME": "h", "SERVER_PORT": "80",
       "SERVER_PROTOCOL": "HTTP/1.1"}  # fmt: skip
ONCE = "from gateway.flup.fcgi import WSGIServer\nWSGIServer(application{more}).run()\nprint('never')\n"


def test_cgi_where_descriptor_0_is_no_socket() -> None:
    done = run_once(ONCE.format(more=""), subprocess.DEVNULL, **CGI)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, content = done.stdout.partition("\n\n")
    assert head.startswith("Status: 200 OK\n")
    assert content.endswith(" True")
    assert "never" not in done.stdout  # as with flup, the program ends with the request


@pytest.mark.parametrize(("more", "environment"), [(", forceCGI=True", {}), ("", {"FCGI_FORCE_CGI": "yes"})])
def test_cgi_by_force(more: str, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = run_once(ONCE.format(more=more), listener, **CGI, **environment)
    assert (done.returncode, done.stdout[:14]) == (0, "Status: 200 OK")


def test_on_a_terminal_the_page_is_shown_and_what_was_meant_instead() -> None:
    done = run_once(ONCE.format(more=""), subprocess.DEVNULL)
    assert (done.returncode, done.stdout[:14]) == (0, "Status: 200 OK")
    assert "give bindAddress, or have a web server, spawn-fcgi or gateway start it" in done.stderr


def test_the_module_for_cgi_goes_on_after_the_request() -> None:
    text = "from gateway.flup.server.cgi import WSGIServer\nWSGIServer(application).run()\nprint(seen, file=sys.stderr)\n"
    done = run_once(text, subprocess.DEVNULL, **CGI, PATH_INFO="/p")
    assert (done.stdout[:14], done.stderr) == ("Status: 200 OK", "['/p']\n")


def test_scgi_on_descriptor_0(tmp_path: Path) -> None:
    """What flup does not know: a program that `gateway` starts needs no address."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        text = "from gateway.flup.scgi import WSGIServer\nWSGIServer(application, bindAddress=None).run()"
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD.format(socket="") + text], stdin=listener, stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        with contextlib.closing(listener):
            assert call(f"scgi+unix://{tmp_path}/s", path="/", timeout_s=20).status == 200
        process.terminate()
        assert process.wait(30) == 0


def test_scgi_on_descriptor_0_that_is_none() -> None:
    done = run_once("from gateway.flup.scgi import WSGIServer\nprint(WSGIServer(application, bindAddress=None).run())",
                    subprocess.DEVNULL)  # fmt: skip
    assert done.stdout == "False\n"
    assert "descriptor 0 is no listening socket; give bindAddress" in done.stderr
