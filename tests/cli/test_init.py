"""`gateway init`: a config to start from, right as it stands and right when more of it is switched on."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from gateway import config_app_keys as app_keys
from gateway import config_keys as keys
from gateway.cli import main
from gateway.cli.init import reference, starter
from gateway.config import load_config, parse_config

APPS = (app_keys.APP, app_keys.WORKERS, app_keys.STAFF, app_keys.RLIMITS)
TABLES = (keys.SERVER, keys.CHILDREN, keys.LIMITS, keys.TIMEOUTS, keys.LOG, keys.ROUTE, keys.ROUTE_TIMEOUTS,
          keys.ROUTE_LIMITS, keys.ROUTE_HEALTH, *APPS)  # fmt: skip


def test_what_it_writes_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.toml", "public"]
    assert main(["check"]) == 0
    assert [route.interface for route in load_config("gateway.toml").routes] == ["static"]


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    assert main(["init", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert not (tmp_path / "public").exists()
    assert main(["init", "--force", str(file)]) == 0
    assert file.read_text() == starter()


def test_a_file_where_the_directory_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "public").touch()
    assert main(["init", str(tmp_path / "gateway.toml")]) == 2
    assert "public cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "gateway.toml").exists()
OWN = ("timeouts", "limits", "health", "workers", "rlimits")
"""Tables of their own."""


def test_every_key_is_explained() -> None:
    text = starter()
    for table in TABLES:
        for key in table:
            if key.example and (table not in (keys.ROUTE, app_keys.APP) or key.name not in OWN):
                assert re.search(rf"^(# )?{key.name} = .*# {re.escape(key.meaning)}", text, re.MULTILINE), key.name


def test_all_of_it_switched_on_is_toml() -> None:
    tables = tomllib.loads(re.sub("^# ", "", starter(), flags=re.MULTILINE))
    assert set(tables) == {"server", "log", "routes", "apps"}
    assert set(tables["server"]) == {key.name for key in keys.SERVER if not key.later}
    assert set(tables["server"]["children"]) == {key.name for key in keys.CHILDREN}
    assert set(tables["apps"]["hello"]["workers"]) == {key.name for key in app_keys.WORKERS}
    assert set(tables["apps"]["php"]["workers"]) == {key.name for key in app_keys.STAFF}
    assert set(tables["apps"]["php"]["rlimits"]) == {key.name for key in app_keys.RLIMITS}
    assert set().union(*tables["apps"].values()) == {key.name for key in app_keys.APP}
    assert set(tables["routes"][-1]) == {key.name for key in keys.ROUTE if not key.later}


def test_the_reference_tells_what_holds_if_a_key_is_not_set() -> None:
    lines = reference().splitlines()
    for line in ('| `request_line` | `"8KiB"` |  | longest request line (414) | all |',
                 '| `user` | who starts it | `"www-data"` | drop to this user after binding, when started as root | all |',
                 '| `index` | `"index.html"` for static, else none | `["index.php"]` |'
                 " names tried for a directory | fastcgi, scgi, cgi, static |",
                 '| `threads` | `16` | `16` | in each process | threadpool |'):  # fmt: skip
        assert line in lines
    for table in TABLES:
        for key in table:
            if key.parse is not None and not key.unset:
                assert key.parse(tomllib.loads(f"x = {key.example}")["x"]) == key.default, key.name


def test_the_default_of_static_is_what_the_reference_says(tmp_path: Path) -> None:
    from gateway.interfaces.static import StaticInterface
    from gateway.routing import Programs, Router

    (tmp_path / "index.html").touch()
    text = '[[routes]]\npath = "/"\ninterface = "static"\nroot = "."\n'
    router = Router(parse_config(text, str(tmp_path / "g.toml")).routes)
    found = router.resolve(b"GET", b"h", b"/")
    path, descriptor, _ = StaticInterface(found.route, Programs([found.route])).find(b"GET", found)
    os.close(descriptor)
    assert path == b"index.html"


def test_the_application_that_it_shows_can_be_hosted(tmp_path: Path) -> None:
    """Its route and its table, switched on but for the user, the interpreter, and what other models know."""
    (tmp_path / "public").mkdir()
    blocks = starter().split("\n\n")
    on = [
        re.sub("^# (?!user|python|queue)", "", block, flags=re.MULTILINE)
        if block.startswith(("# [apps.hello]", "# [[routes]]                        # a Python application")) else block
        for block in blocks
    ]  # fmt: skip
    config = parse_config("\n\n".join(on), str(tmp_path / "gateway.toml"))
    assert [(route.interface, route.app) for route in config.routes] == [("static", None), ("fastcgi", "hello")]
    assert config.apps["hello"].specifier == "hello:application"


@pytest.mark.parametrize("heading", ["[server.limits]", "[server.timeouts]", "[log]"])
def test_a_table_that_is_switched_on_is_right(tmp_path: Path, heading: str) -> None:
    (tmp_path / "public").mkdir()
    blocks = starter().split("\n\n")
    on = [re.sub("^# ", "", block, flags=re.MULTILINE) if block.startswith(f"# {heading}") else block for block in blocks]
    assert on != blocks
    file = str(tmp_path / "gateway.toml")
    assert parse_config("\n\n".join(on), file) == parse_config(starter(), file)  # the examples are the defaults
