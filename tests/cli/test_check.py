"""`gateway check`: the routes as they will be served, and what is legal but unwise."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.check import warnings
from gateway.config import parse_config


def unwise(directory: Path, text: str) -> list[str]:
    """The warnings, without the one about who runs the tests."""
    file = directory / "gateway.toml"
    file.write_text(text)
    return [f"{level}: {told}" for level, told in warnings(parse_config(text, str(file))) if "as root" not in told]


def http(path: str, extra: str = "", address: str = "unix:none.sock") -> str:
    return f'[[routes]]\npath = "{path}"\ninterface = "http"\naddress = "{address}"\n{extra}\n'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("public/cgi-bin", "scripts"):
        (tmp_path / name).mkdir(parents=True)
        script = tmp_path / name / "run.sh"
        script.touch()
        script.chmod(0o755)
    return tmp_path


def test_the_table_holds_every_route_as_written(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets in a path are no markup, and a pipe cuts nothing off."""
    text = http("/[/b]/[bold]/") + http("/a/", 'hosts = ["a.example"]\nmethods = ["GET"]') + (
        '[[routes]]\npath = "/c"\ninterface = "cgi"\nroot = "scripts"\n'
    )  # fmt: skip
    (site / "gateway.toml").write_text(text)
    assert main(["check", str(site / "gateway.toml")]) == 0
    told = capsys.readouterr().out
    for part in ("/[/b]/[bold]/", "a.example", "only GET", "/c", "cgi"):
        assert part in told
    assert "\x1b" not in told
    assert told.index("/a/") < told.index("/[/b]/")  # in the order in which they are tried


@pytest.mark.parametrize(
    ("first", "second", "shadowed"),
    [
        ("", "", True),
        ('methods = ["GET"]', "", False),
        ('methods = ["GET", "PUT"]', 'methods = ["GET"]', True),
        ("", 'hosts = ["a"]', False),
        ('hosts = ["a"]', "", False),
        ('hosts = ["a", "b"]', 'hosts = ["b"]', True),
    ],
)
def test_a_route_that_is_never_reached(site: Path, first: str, second: str, shadowed: bool) -> None:
    told = unwise(site, http("/hg", first) + http("/hg/", second))
    assert any("routes[2] /hg/ is never reached: routes[1]" in line for line in told) is shadowed


def test_scripts_that_everybody_may_change(site: Path) -> None:
    text = '[[routes]]\npath = "/c"\ninterface = "cgi"\nroot = "scripts"\n'
    assert unwise(site, text) == []
    (site / "scripts/run.sh").chmod(0o757)
    assert [f"chmod o-w {site}/scripts/run.sh" in line for line in unwise(site, text)] == [True]
    (site / "scripts").chmod(0o777)
    assert len(unwise(site, text)) == 2
    script = '[[routes]]\npath = "/c"\ninterface = "cgi"\nscript = "scripts/run.sh"\n'
    assert len(unwise(site, script)) == 2


STATIC = '[[routes]]\npath = "/"\ninterface = "static"\nroot = "public"\n'


@pytest.mark.parametrize(
    ("target", "exposed"),
    [
        ('interface = "cgi"\nroot = "public/cgi-bin"', None),
        ('interface = "cgi"\nscript = "public/cgi-bin/run.sh"', None),
        ('interface = "cgi"\nroot = "public"', "/"),
        ('interface = "fastcgi"\naddress = "unix:none.sock"\nroot = "public/cgi-bin"', "/cgi-bin"),
    ],
)
def test_sources_that_another_path_sends(site: Path, target: str, exposed: str | None) -> None:
    told = unwise(site, STATIC + f'[[routes]]\npath = "/run/"\n{target}\n')
    sent = [line for line in told if "source is also sent as it is" in line]
    assert [f"at {exposed}: " in line for line in sent] == [True] * (exposed is not None)


def test_the_config_file_in_a_static_root(site: Path) -> None:
    assert "at /gateway.toml" in unwise(site, STATIC.replace("public", "."))[0]
    assert unwise(site, STATIC) == []


def test_nobody_listens(site: Path) -> None:
    assert unwise(site, http("/")) == [f"note: routes[1] /: nobody listens at unix:{site}/none.sock now"]
    with socket.create_server(("127.0.0.1", 0)) as there:
        assert unwise(site, http("/", address=f"127.0.0.1:{there.getsockname()[1]}")) == []


@pytest.mark.parametrize(("user", "told"), [("", os.geteuid() == 0), ('user = "nobody"', False)])
def test_root_is_told_unless_another_user_is_named(site: Path, user: str, told: bool) -> None:
    config = parse_config(f"[server]\n{user}\n{STATIC}", str(site / "gateway.toml"))
    assert any("running as root" in text for _, text in warnings(config)) is told
