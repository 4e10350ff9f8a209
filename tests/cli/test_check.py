"""`gateway check`: the routes as they will be served, and what is legal but unwise."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.cli import check, main
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


# ---------------------------------------------------------------------- models, and what the gateway hosts


def hosted(*interfaces: str, app: str = 'wsgi = "hello:application"', server: str = "") -> str:
    routes = [f'[[routes]]\npath = "/{one}/"\ninterface = "{one}"\napp = "x"\n' for one in interfaces or ("scgi",)]
    return f"[server]\n{server}\n{''.join(routes)}[apps.x]\n{app}\n"


@pytest.fixture
def hello(site: Path) -> Path:
    """A module that says it if it is imported."""
    (site / "hello.py").write_text("raise SystemExit('imported')\n")
    return site


def test_who_serves_is_shown(hello: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = hosted("scgi", "cgi", app='asgi = "hello:b"', server='concurrency = "threadpool"\nprocesses = 8')
    (hello / "gateway.toml").write_text(text)
    assert main(["check", str(hello / "gateway.toml")]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert told.startswith("server: threadpool, 8 processes x 16 threads ")
    for part in ("app x: hello:b, event, 1", "app x: hello:b, a process"):
        assert part in told


def test_an_application_is_not_imported(hello: Path) -> None:
    assert unwise(hello, hosted("cgi", "fastcgi", "scgi", "http")) == []


@pytest.mark.parametrize(
    ("app", "there"),
    [
        ('wsgi = "hullo:application"', False),
        ('wsgi = "hello.more:application"', False),
        ('wsgi = "package.part:application"', True),
        ('wsgi = "package.none:application"', False),
        ('wsgi = "plain.part:application"', True),
        ('wsgi = "plain.deep.part:application"', True),
        ('wsgi = "wsgiref.simple_server:demo_app"', True),
        ('wsgi = "lonely"\nenvironment = { PYTHONPATH = "{site}/lib" }', True),
        ('wsgi = "lonely"\ndirectory = "lib"', True),
        ('wsgi = "lonely"', False),
        ('wsgi = "__main__"', True),  # whatever that is
        ('wsgi = "lonely"\npython = "./python"', True),  # what is installed for that one is not known
    ],
)
def test_a_module_that_is_not_there(hello: Path, app: str, there: bool) -> None:
    for name in ("package/__init__.py", "package/part.py", "plain/part.py", "plain/deep/part.py", "lib/lonely.py"):
        (hello / name).parent.mkdir(exist_ok=True)
        (hello / name).touch()
    (hello / "python").symlink_to("/bin/sh")
    told = unwise(hello, hosted(app=app.replace("{site}", str(hello))))
    assert ["there is no module" in line for line in told] == [True] * (not there)


def test_a_source_that_is_also_sent(hello: Path) -> None:
    told = unwise(hello, STATIC.replace("public", ".") + hosted().replace("[server]\n\n", ""))
    assert any("apps.x: its source is also sent as it is, at /hello.py" in line for line in told)


def test_a_module_that_everybody_may_change(hello: Path) -> None:
    (hello / "hello.py").chmod(0o666)
    assert [f"chmod o-w {hello}/hello.py" in line for line in unwise(hello, hosted())] == [True]


@pytest.mark.parametrize(
    ("interfaces", "app", "told"),
    [
        (("cgi",), 'wsgi = "hello"', None),
        (("cgi",), 'wsgi = "hello"\nworkers = 4', "count for nothing under cgi"),
        (("cgi",), 'asgi = "hello"\nconcurrency = "prefork"', "count for nothing under cgi"),
        (("cgi", "scgi"), 'wsgi = "hello"\nworkers = 4', None),
        (("scgi",), 'asgi = "hello"', None),
        (("scgi",), 'asgi = "hello"\nconcurrency = "single"', "`event` serves them together"),
        (("scgi",), 'asgi = "hello"\nconcurrency = "fork"', "begins the lifespan of the application anew"),
        (("scgi",), 'wsgi = "hello"\nconcurrency = "single"', None),
        (("scgi",), 'wsgi = "hello"\nthreads = 64', None),
        (("scgi",), 'wsgi = "hello"\nthreads = 65', "note: apps.x.threads = 65: the threads of a process run one at a time"),
        (("scgi",), 'asgi = "hello"\nworkers = 8', None),
        (("scgi",), 'asgi = "hello"\nworkers = 9', "warning: apps.x: 9 event loops for 2 processor cores"),
        (("scgi",), 'wsgi = "hello"\nconcurrency = "prefork"\nworkers = 40', None),
    ],
)
def test_models_that_are_unwise(
    hello: Path, monkeypatch: pytest.MonkeyPatch, interfaces: tuple[str, ...], app: str, told: str | None
) -> None:
    monkeypatch.setattr(check, "cores", lambda: 2)
    lines = unwise(hello, hosted(*interfaces, app=app))
    assert [told in line for line in lines if told] == [True] * (told is not None)
    assert bool(lines) is bool(told)


def test_models_of_the_server_that_are_unwise(hello: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "cores", lambda: 1)
    assert "server: 5 event loops for 1 processor cores" in unwise(hello, hosted(server="processes = 5"))[0]
    assert "server.threads = 99" in unwise(hello, hosted(server='concurrency = "threadpool"\nthreads = 99'))[0]


def test_what_the_user_to_come_may_not_host() -> None:
    if os.getuid() != 0:
        pytest.skip("a user who may do more than the user to come is needed")
    with public_directory() as site:
        (site / "closed").mkdir()
        (site / "closed" / "hello.py").touch()
        close_to_nobody(site / "closed")
        python = site / "closed" / "python"
        python.write_bytes(b"")
        python.chmod(0o755)
        text = hosted(app='wsgi = "hello"\ndirectory = "closed"\npython = "./python"', server='user = "nobody"')
        refused = f"warning: apps.x: user nobody may not enter {site}/closed"
        assert len([line for line in unwise(site, text) if line.startswith(refused)]) == 2
