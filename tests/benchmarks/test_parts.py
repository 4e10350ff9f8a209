"""The parts of `make bench`: their configs are accepted, their tables come out right, their command line is strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import app_servers, apps, idle, models, servers
from benchmarks.measure import Result
from benchmarks.origin import INTERFACES
from benchmarks.report import Cell, Memory, Part
from gateway.config import load_config
from gateway.models import MODELS, worker_hosting

ORIGIN = servers.Origin({name: {"port": 9, "path": "/o.sock"} for name in INTERFACES}, over_unix=False)


@pytest.mark.parametrize("name", models.MODELS)
def test_config_of_each_model_is_accepted_and_holds_all_connections(name: str, tmp_path: Path) -> None:
    static = tmp_path / "static"
    static.mkdir()
    model = models.MODELS[name]
    *_, file = servers.gateway(tmp_path, 8000, origin=ORIGIN, server=model.server, static=static)
    server = load_config(file).server
    assert server.concurrency == name.split("-")[0]
    if name not in ("single", "event", "event-2"):
        threads = server.threads if name == "threadpool" else 1
        assert server.children.max * threads == models.MOST
        assert server.children.requests == 0


def test_every_model_is_measured() -> None:
    assert {name.split("-")[0] for name in models.MODELS} == set(MODELS)


def test_ratios_are_to_the_event_model() -> None:
    cells = [Cell("fork", "http/1", [Result(1, 50.0, 30.0)]), Cell("event", "http/1", [Result(1, 100.0, 10.0)])]
    memory = [Memory("fork", 0, 1024, 1, 1), Memory("fork", 1, 2048, 2, 2), Memory("fork", 256, 2048 + 2550, 257, 257, 3)]
    rates, times, requests, processor, taken = models.grids(Part("models", "", {}, {}, cells, memory))
    assert rates.rows == [["http/1", "50", "100"]]
    assert times.rows == [["http/1", "30.0", "10.0"]]
    assert requests.rows == [["http/1", "0.50 (0.50–0.50)"]]
    assert processor.rows == [["http/1", "3.00 (3.00–3.00)"]]
    assert taken.rows == [["fork", "1.0  1 p 1 t", "2.0  2 p 2 t", "4.5  257 p 257 t 3 e", "10.0"]]


def test_memory_of_an_idle_connection_is_the_difference_it_makes() -> None:
    cells = [Cell(name, case, [Result(1, 10.0, 1.0)]) for name in ("gateway", "nginx") for case in idle.CASES]
    memory = [
        Memory("gateway", 0, 1000, 1, 1), Memory("gateway", 100, 1400, 1, 1),
        Memory("nginx", 0, 500, 2, 2), Memory("nginx", 100, 600, 2, 2),
        Memory("gateway", 0, 1000, 1, 1), Memory("gateway", 100, 1600, 1, 1),
        Memory("nginx", 0, 500, 2, 2), Memory("nginx", 100, 700, 2, 2),
    ]  # fmt: skip
    part = Part("idle", "", {"gateway": "1", "nginx": "1"}, {}, cells, memory)
    busy, taken, ratio = idle.grids(part)
    assert [row[3] for row in busy.rows] == ["1.00 (1.00–1.00)"] * 2
    assert [row[3] for row in taken.rows] == ["5.00 (4.00–6.00)", "1.50 (1.00–2.00)"]
    assert ratio.rows == [["gateway / nginx", "3.50 (3.00–4.00)", "2.31 (2.29–2.33)"]]


def test_application_servers_are_compared_with_one_of_their_kind() -> None:
    assert {app_servers.SERVERS[base].kind for base in app_servers.BASES.values()} == set(app_servers.BASES)
    for kind, base in app_servers.BASES.items():
        assert app_servers.SERVERS[base].kind == kind
    cells = [Cell(name, "hello", [Result(1, 1000.0, 500.0)]) for name in ("uvicorn", "gunicorn-sync", "gateway-http-asgi")]
    wsgi, asgi = apps.grids(Part("apps", "", {}, {}, cells))
    assert [row[0] for row in wsgi.rows] == ["gunicorn-sync"]
    assert asgi.rows[1] == ["gateway-http-asgi", "1,000  500.0 us", "50%", "1.00 (1.00–1.00)", "1.00 (1.00–1.00)"]


@pytest.mark.parametrize("shape", app_servers.SHAPES)
def test_our_worker_has_one_process_like_the_others(shape: str) -> None:
    options, _ = app_servers.SHAPES[shape]
    given = dict(zip(options[::2], options[1::2], strict=True))
    threads = int(given["--threads"]) if "--threads" in given else None
    hosting = worker_hosting(given["--concurrency"], 1, threads, {"requests": int(given["--requests"])})
    assert hosting.processes == hosting.children.max == 1 and hosting.children.requests == 0


def test_nginx_reaches_each_application_server_in_its_protocol() -> None:
    for name, server in app_servers.SERVERS.items():
        block = app_servers.nginx_server(name, server, "/s.sock", 8000)
        what = "proxy_pass http://" if server.protocol == "http" else f"{server.protocol}_pass "
        assert f"{what}{name};" in block and ("keepalive" in block) is server.keeps
        assert block.count("{") == block.count("}")


@pytest.mark.parametrize("name", app_servers.SERVERS)
def test_each_application_server_gets_its_socket_and_its_application(name: str) -> None:
    server = app_servers.SERVERS[name]
    command = server.command("/run/x.sock")
    assert any("/run/x.sock" in word for word in command)
    assert (app_servers.ASGI_APP if server.kind == "asgi" else app_servers.WSGI_APP) in command


# ---------------------------------------------------------------------- the command line


def test_all_parts_run_unless_some_are_named() -> None:
    assert command.arguments([]).parts == ["peers", "models", "idle", "apps", "faults"]
    assert command.arguments(["idle", "models", "--only", "http"]).parts == ["idle", "models"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["model"], "there is no part model"),
        (["models", "--only", "htpt"], "--only htpt: there are http/1"),
        (["peers", "--servers", "nginx,ngnix"], "--servers ngnix: there are gateway, nginx, lighttpd"),
        (["--rounds", "0"], "1 or more"),
    ],
)
def test_misspelt_word_is_told_and_nothing_is_run(
    given: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.arguments(given)
    assert told in capsys.readouterr().err
