"""`gateway status` and its socket, with gateways in every shape."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from gateway import observe
from gateway.admin_client import ask
from gateway.cli import status as command
from gateway.observe.status import Status
from tests.behaviour.conftest import CHOSEN, MODELS, Workers
from tests.behaviour.conftest import workers as workers  # a fixture
from tests.conftest import ROOT, Gateway, eventually, read_until

HELLO = b"GET /h/hello HTTP/1.1\r\nHost: x\r\n\r\n"


class Asked:
    """A gateway, and what its admin socket tells."""

    def __init__(self, gateway: Gateway, path: Path) -> None:
        self.gateway = gateway
        self.path = str(path)

    def status(self) -> Status:
        code, octets = ask(self.path, "GET", "/status")
        assert code == 200, octets
        return msgspec.json.decode(octets, type=Status)

    def route(self, name: str) -> Any:
        return next(one for one in self.status().routes if one.name == name)

    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        code, octets = ask(self.path, "GET", "/metrics")
        assert code == 200, octets
        found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for family in text_string_to_metric_families(octets.decode()):
            assert family.documentation
            for sample in family.samples:
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in found
                found[key] = sample.value
        return found

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gateway", "status", str(self.gateway.directory / "gateway.toml"), *arguments],
            capture_output=True, text=True, timeout=40,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160", **environment},
        )  # fmt: skip


@pytest.fixture
def asked(gateway: Any, directories: Any) -> Callable[..., Asked]:
    def make(toml: str, server: str = "", **options: Any) -> Asked:
        path = directories("admin") / "admin.sock"
        return Asked(gateway(toml, server=f'admin = "unix:{path}"\n{server}', **options), path)

    return make


@pytest.mark.parametrize("model", CHOSEN)
def test_what_was_served_is_told_in_every_shape(model: str, asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http", "scgi", "cgi")), MODELS[model])
    assert stat.S_IMODE(os.stat(one.path).st_mode) == 0o600
    session = requests.Session()
    for _ in range(5):
        assert session.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
        assert requests.get(one.gateway.url + "/s/hello", timeout=20).text == "hello"
    assert requests.get(one.gateway.url + "/c/hello", timeout=20).text == "hello"
    assert requests.get(one.gateway.url + "/none", timeout=20).status_code == 404
    session.close()
    eventually(lambda: [one.route(name).requests for name in ("/h", "/s", "/c", "-")] == [5, 5, 1, 1], "all are counted")
    told = one.status()
    assert (told.gateway.pid, told.gateway.state) == (one.gateway.pid, "serving")
    assert told.gateway.listen == [one.gateway.url.removeprefix("http://")]
    assert told.problems == []
    http = one.route("/h")
    assert (http.responses, http.errors, http.octets, http.in_flight) == ({"2xx": 5}, {}, 25, 0)
    assert http.buckets[-1][1] + http.longer == 5
    assert one.route("-").errors == {"no-route": 1}
    samples = one.samples()
    labels = (("code", "2xx"), ("interface", "http"), ("route", "/h"))
    assert samples["gateway_requests_total", labels] == 5
    assert samples["gateway_request_duration_seconds_count", labels[1:]] == 5
    assert samples["gateway_build_info", (("version", told.gateway.version),)] == 1


@pytest.mark.parametrize("model", CHOSEN)
def test_what_takes_long_is_named(model: str, asked: Any, workers: Workers, tmp_path: Path) -> None:
    one = asked(workers.routes(only=("http",)), MODELS[model])
    with one.gateway.socket() as client:
        client.sendall(f"GET /h/steps?n=1&dir={tmp_path}&secret=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        read_until(client, b"step0\n\r\n")
        eventually(lambda: one.status().requests, "the request is told of")
        busy = one.status().requests[0]
        assert (busy.method, busy.path, busy.route) == ("GET", "/h/steps", "/h")
        assert busy.upstream == f"unix:{workers.directory}/http.sock"
        assert busy.age_s >= 0.25
        shown = one.command()
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "GET /h/steps" in shown.stdout
        assert "secret" not in shown.stdout
        assert one.route("/h").in_flight == 1
        (tmp_path / "go1").touch()
        read_until(client, b"0\r\n\r\n")
    eventually(lambda: not one.status().requests and one.route("/h").in_flight == 0, "it is over")


@pytest.mark.parametrize("model", ["prefork", "threadpool", "event"])
def test_a_killed_child_takes_no_count_with_it(model: str, asked: Any, workers: Workers) -> None:
    if model not in CHOSEN:
        pytest.skip("not chosen")
    one = asked(workers.routes(only=("http",)), MODELS[model])
    for _ in range(20):
        assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
    eventually(lambda: one.route("/h").requests == 20, "all are counted")
    before = {engine.pid for engine in one.status().engines}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: before.isdisjoint(engine.pid for engine in one.status().engines), "others have come")
    assert one.route("/h").requests == 20
    assert requests.get(one.gateway.url + "/h/hello", timeout=20).text == "hello"
    eventually(lambda: one.route("/h").requests == 21, "they count on")


@pytest.mark.parametrize("model", CHOSEN)
def test_counts_are_right_after_a_load(model: str, asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http",)), MODELS[model])
    failures: list[object] = []

    def load() -> None:
        for number in range(10):
            with requests.Session() as session:
                for _ in range(1 + number % 3):
                    if session.get(one.gateway.url + "/h/hello", timeout=30).text != "hello":
                        failures.append(number)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        one.status()  # asking disturbs nobody
        one.samples()
    for thread in threads:
        thread.join()
    assert not failures
    eventually(lambda: one.route("/h").requests == 4 * 19, f"all are counted: {one.route('/h')}")


def test_who_is_turned_away_is_counted(asked: Any, workers: Workers, tmp_path: Path) -> None:
    one = asked(workers.routes(only=("http",)), 'concurrency = "fork"\nchildren = { max = 1, queue = 0 }')
    with one.gateway.socket() as client:
        client.sendall(f"GET /h/steps?n=1&dir={tmp_path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        read_until(client, b"step0\n\r\n")
        assert requests.get(one.gateway.url + "/h/hello", timeout=20).status_code == 503
        eventually(lambda: one.route("-").errors == {"connection-limit": 1}, "it is counted")
        (tmp_path / "go1").touch()
        read_until(client, b"0\r\n\r\n")


def test_workers_of_apps_and_what_is_down(asked: Any, directories: Any) -> None:
    directory = directories("apps")
    (directory / "good.py").write_text("def application(e, s): s('200 OK', []); return [b'good']\n")
    bad = '["/bin/sh", "-c", "echo not today >&2; exit 1"]'
    apps = "".join(
        f'[[routes]]\npath = "/{name}"\ninterface = "scgi"\napp = "{name}"\n[apps.{name}]\n{what}\n'
        for name, what in (
            ("good", f'wsgi = "good:application"\ndirectory = "{directory}"'),
            ("bad", f'command = {bad}\ninterface = "scgi"'),
        )
    )
    one = asked(apps)
    assert requests.get(one.gateway.url + "/good", timeout=20).text == "good"
    eventually(lambda: one.status().problems, "the bad one is down")
    told = {app.name: app for app in one.status().apps}
    worker = told["good/scgi"].workers[0]
    assert Path(f"/proc/{worker.pid}").exists()
    assert worker.memory > 1 << 20
    assert told["good/scgi"].state == "running"
    assert told["bad"].state == "down" and "dies at once" in told["bad"].why
    shown = one.command()
    assert shown.returncode == 1
    assert "! app bad is down: " in shown.stdout
    samples = one.samples()
    assert [samples["gateway_app_up", (("app", name),)] for name in ("good/scgi", "bad")] == [1, 0]
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: {app.name: app.restarts for app in one.status().apps}["good/scgi"] == 1, "it is started again")
    one.gateway.allow_defects = True


def test_json_is_the_answer_as_it_comes(asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http",)))
    shown = one.command("--json")
    assert (shown.returncode, shown.stderr) == (0, "")
    told = json.loads(shown.stdout)
    assert told["gateway"]["config"] == str(one.gateway.directory / "gateway.toml")


def test_watching_without_a_terminal_is_looking_once(asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http",)))
    shown = one.command("--watch")
    assert shown.returncode == 0
    assert shown.stdout.count("gateway-suite") == 1


def test_watching_ends_with_ctrl_c(asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http",)))
    mine, theirs = pty.openpty()
    config = str(one.gateway.directory / "gateway.toml")
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", "status", "--watch", config], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "160", "LINES": "50"}, text=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while seen.count(b"gateway-suite") < 2:  # it is drawn anew
        seen += os.read(mine, 65536)
    assert b"/s" in seen
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    os.close(mine)


def test_it_is_found_where_the_config_says_nothing(
    gateway: Any, workers: Workers, directories: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = directories("runtime")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    first = Asked(gateway(workers.routes(only=("http",))), runtime)
    assert first.command().returncode == 0
    config = first.gateway.directory / "gateway.toml"
    second = subprocess.Popen(
        [sys.executable, "-m", "gateway", "serve", str(config)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    first.gateway.wait_for_log(f"process {first.gateway.pid} listens there")
    assert first.gateway.stop() == 0

    def pid() -> int:
        found = re.search(r"process (\d+)", first.command().stdout)
        return int(found[1]) if found else 0

    eventually(lambda: pid() == second.pid, "the second one takes its place", 20)
    second.terminate()
    assert second.wait(20) == 0
    assert second.stderr is not None
    second.stderr.close()
    gone = first.command()
    assert gone.returncode == 2
    assert gone.stderr.startswith("gateway: no gateway runs with this config: nobody answers at ")
    assert list(runtime.iterdir()) == []


def test_no_admin_socket(gateway: Any, workers: Workers) -> None:
    one = Asked(gateway(workers.routes(only=("http",)), server="admin = false"), Path("/none"))
    told = one.command()
    assert told.returncode == 2
    assert "server.admin = false" in told.stderr


def test_a_place_where_no_socket_can_be_is_no_reason_not_to_serve(gateway: Any, workers: Workers) -> None:
    one = gateway(workers.routes(only=("http",)), server='admin = "unix:/no/such/place/admin.sock"')
    one.wait_for_log("there is no admin socket")
    assert requests.get(one.url + "/h/hello", timeout=20).text == "hello"


def test_who_may_not_ask_is_told_who_may(asked: Any, workers: Workers) -> None:
    one = asked(workers.routes(only=("http",)))
    from gateway.admin_client import NotAnswered
    from tests.permissions import nobody, public_directory

    with public_directory() as directory:
        moved = directory / "admin.sock"
        os.rename(one.path, moved)
        os.chmod(moved, 0o600 if os.getuid() == 0 else 0)
        with nobody(), pytest.raises(NotAnswered) as caught:
            ask(str(moved), "GET", "/status")
        assert "may ask at" in caught.value.what
        assert "or as root" in caught.value.remedy
        os.rename(moved, one.path)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.26, "0.3 s"), (9.9, "9.9 s"), (42, "42 s"), (61, "1 min 1 s"), (3600 * 5 + 120, "5 h 2 min"), (90000, "1 d 1 h")],
)
def test_spans(seconds: float, words: str) -> None:
    assert command.span(seconds) == words


def test_every_name_of_the_status_is_explained() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "status.md").read_text()
    for struct in vars(observe.status).values():
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct.__name__ not in ("Struct", "Note"):
            for name in struct.__struct_fields__:
                assert f"`{name}`" in text, f"{struct.__name__}.{name}"


def test_every_metric_is_explained(asked: Any, workers: Workers) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "status.md").read_text()
    for family in text_string_to_metric_families(ask(asked(workers.routes()).path, "GET", "/metrics")[1].decode()):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert f"`{name}" in text
