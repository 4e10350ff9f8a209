"""What two configs differ in, told with the keys of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import Config, parse_config
from gateway.config_changes import Changes, compare

FIRST = """
[server]
listen = ["127.0.0.1:8000"]
concurrency = "event"
processes = 2
[[routes]]
path = "/blog/"
interface = "http"
address = "127.0.0.1:9000"
environment_is_not_known_to_http = 1
[[routes]]
path = "/api/"
interface = "fastcgi"
address = "127.0.0.1:9001"
environment = { SECRET = "one-secret", SAME = "x" }
[[routes]]
path = "/wiki/"
interface = "scgi"
app = "wiki"
[apps.wiki]
command = ["sh", "-c", "x"]
interface = "scgi"
""".replace("environment_is_not_known_to_http = 1\n", "")


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    def config(*changes: tuple[str, str]) -> Config:
        text = FIRST
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        return parse_config(text, str(tmp_path / "gateway.toml"))

    return config


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([], []),
        ([("[server]", "# a comment\n[server]")], []),
        ([('"127.0.0.1:8000"', '"127.0.0.1:8000", "systemd"')], ["server.listen: systemd added"]),
        ([('"127.0.0.1:8000"', '"unix:/run/x"')], ["server.listen: unix:/run/x added, 127.0.0.1:8000 removed"]),
        ([("processes = 2", "processes = 3")], ["server.processes 2 -> 3", "server.children.max 2 -> 3"]),
        (
            [("processes = 2", "processes = 2\nlimits = { connections = 20000, content = '1MiB' }")],
            ["server.limits.content 1GiB -> 1MiB", "server.limits.connections 10000 -> 20000",
             "routes: /blog/ changed (limits.content 1GiB -> 1MiB), /api/ changed (limits.content 1GiB -> 1MiB), "
             "/wiki/ changed (limits.content 1GiB -> 1MiB)"],
        ),
        ([("processes = 2", "processes = 2\ntimeouts = { idle = 0 }")], ["server.timeouts.idle 60s -> 0"]),
        ([("[[routes]]", "[log]\naccess = false\n[[routes]]")], ["log.access - -> none"]),
        (
            [("/blog/", "/new/"), ("SAME", "timeouts_are_elsewhere")],
            ["routes: /new/ added, /blog/ removed, /api/ changed (environment SAME timeouts_are_elsewhere)"],
        ),
        ([('"one-secret"', '"two-secret"')], ["routes: /api/ changed (environment SECRET)"]),
        (
            [("127.0.0.1:9001", "127.0.0.1:9002"), ("environment =", "timeouts = { response = 30 }\nenvironment =")],
            ["routes: /api/ changed (address 127.0.0.1:9001 -> 127.0.0.1:9002, timeouts.response 60s -> 30s, "
             "timeouts.read 60s -> 30s)"],
        ),
        ([("/blog/", "/x"), ("/api/", "/blog/"), ("/x", "/api/")], None),
        ([("[apps.wiki]", "[apps.wiki]\nworkers = 4")], ["apps.wiki changed (workers 1 -> 4): restarted"]),
        (
            [("[apps.wiki]", "[apps.more]\nwsgi = 'a:b'\n[apps.wiki]\nenvironment = { PASSWORD = 'x' }")],
            ["apps.more added", "apps.wiki changed (environment PASSWORD): restarted"],
        ),
    ],
)  # fmt: skip
def test_what_is_told(read, changes: list[tuple[str, str]], told: list[str] | None) -> None:  # type: ignore[no-untyped-def]
    found = compare(read(), read(*changes))
    assert not found.refused
    if told is not None:
        assert found.told == told
        assert bool(found) is bool(told)
    assert "one-secret" not in str(found) and "two-secret" not in str(found)


def test_the_order_of_routes(read) -> None:  # type: ignore[no-untyped-def]
    old = read()
    new = read(("/blog/", "/x/"), ("/api/", "/blog/"), ("/x/", "/api/"))
    assert compare(old, new).told[0].endswith("their order changed")


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ([("processes = 2", "processes = 1")], "server.processes 2 -> 1: a running gateway can't change it: `gateway"),
        ([('concurrency = "event"\nprocesses = 2', 'concurrency = "thread"')], "server.concurrency event -> thread: "),
        ([("[server]", '[server]\nuser = "root"')], "server.user none -> root: a running gateway can't change it: restart"),
        ([("[server]", "[server]\nadmin = false")], "server.admin true -> false: "),
    ],
)
def test_what_is_refused(read, changes: list[tuple[str, str]], refused: str) -> None:  # type: ignore[no-untyped-def]
    found = compare(read(), read(*changes))
    assert len(found.refused) == 1
    assert found.refused[0].startswith(refused)


def test_models_that_fork_may_take_turns(read) -> None:  # type: ignore[no-untyped-def]
    found = compare(read(), read(('concurrency = "event"', 'concurrency = "prefork"')))
    assert not found.refused
    assert "server.concurrency event -> prefork" in found.told


def test_nothing() -> None:
    assert not Changes()
