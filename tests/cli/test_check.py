"""`gateway check`: the routes as they will be served, and what is legal but unwise."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.check import warnings
from gateway.config import parse_config
from tests.permissions import close_to_nobody, nobody, public_directory


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
    (site / "scripts/more").mkdir()
    (site / "scripts/more").chmod(0o777)  # what is put there is run, too
    assert len(unwise(site, text)) == 3
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


APP = '[apps.one]\ncommand = ["sh", "-c", "a b"]\ninterface = "fastcgi"\n'
USES_IT = '[[routes]]\npath = "/one"\ninterface = "fastcgi"\napp = "one"\n'


def test_an_app_that_no_route_uses(site: Path) -> None:
    assert unwise(site, STATIC + APP) == ["warning: apps.one: no route uses it, so it is not started"]
    assert unwise(site, STATIC + USES_IT + APP) == []


def test_the_arguments_of_an_app_are_shown(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "gateway.toml").write_text(USES_IT + APP)
    assert main(["check", str(site / "gateway.toml")]) == 0
    assert "sh -c 'a b'" in capsys.readouterr().out


def test_scripts_that_may_be_run_but_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with public_directory() as site:
        scripts, closed = site / "scripts", site / "closed"
        scripts.mkdir()
        closed.mkdir()
        (closed / "a").touch()
        (site / "gateway.toml").write_text('[[routes]]\npath = "/c"\ninterface = "cgi"\nroot = "scripts"\n')
        scripts.chmod(0o311)
        try:
            with nobody():
                assert main(["check", str(site / "gateway.toml")]) == 0
            assert f"note: routes[1] /c: {scripts} may not be read" in capsys.readouterr().out
            scripts.chmod(0o755)
            (scripts / "link").symlink_to("../closed/a")
            closed.chmod(0)
            with nobody():
                assert main(["check", str(site / "gateway.toml")]) == 0
        finally:
            scripts.chmod(0o755)
            closed.chmod(0o755)
        assert "may not be read" not in capsys.readouterr().out


def test_what_the_user_to_come_may_not_do() -> None:
    with public_directory() as site:
        for name in ("logs", "closed"):
            (site / name).mkdir()
        (site / "closed" / "run.sh").touch()
        (site / "closed" / "run.sh").chmod(0o755)
        close_to_nobody(site / "closed")
        text = '[server]\nuser = "nobody"\n[log]\naccess = "logs/a"\nerror = "-"\n'
        text += '[[routes]]\npath = "/"\ninterface = "cgi"\nscript = "closed/run.sh"\n'
        if os.getuid() != 0:
            pytest.skip("a user who may do more than the user to come is needed")
        told = unwise(site, text)
        assert any(line.startswith(f"warning: log.access: user nobody may not make a file in {site}/logs") for line in told)
        assert any(line.startswith(f"warning: routes[1] /: user nobody may not enter {site}/closed") for line in told)
        assert len(told) == 2
        os.chown(site / "logs", 65534, -1)
        (site / "closed").chmod(0o755)
        assert unwise(site, text) == []


def test_an_app_that_cannot_be_run_as_its_user(site: Path) -> None:
    def told(server_user: str, app_user: str) -> list[str]:
        text = f"[server]\n{server_user}\n{USES_IT}{APP}user = \"{app_user}\"\n"
        config = parse_config(text, str(site / "gateway.toml"))
        with nobody():
            return [line for _, line in warnings(config) if line.startswith("apps.one")]

    assert told('user = "daemon"', "daemon") == []
    assert told('user = "daemon"', "nobody") == [
        "apps.one.user = 'nobody': the gateway is 'daemon' by then and will not start: remove one of the two users"
    ]
    assert told("", "daemon") == ["apps.one.user = 'daemon': only a gateway that root starts can run it so"]


def test_nobody_listens(site: Path) -> None:
    assert unwise(site, http("/")) == [f"note: routes[1] /: nobody listens at unix:{site}/none.sock now"]
    with socket.create_server(("127.0.0.1", 0)) as there:
        assert unwise(site, http("/", address=f"127.0.0.1:{there.getsockname()[1]}")) == []


@pytest.mark.parametrize(("user", "told"), [("", os.geteuid() == 0), ('user = "nobody"', False)])
def test_root_is_told_unless_another_user_is_named(site: Path, user: str, told: bool) -> None:
    config = parse_config(f"[server]\n{user}\n{STATIC}", str(site / "gateway.toml"))
    assert any("running as root" in text for _, text in warnings(config)) is told
