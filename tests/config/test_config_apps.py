"""[server]'s models, [apps.NAME], and the routes that name an app: what they mean, and what is said of mistakes."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path

import pytest

from gateway import models
from gateway.config import App, Config, ConfigError, Server, directory_config, parse_config
from gateway.models import MODELS, Children, Hosting, server_hosting, worker_hosting
from gateway.processes.staff import Staff

ROUTE = '[[routes]]\npath = "/"\ninterface = "http"\naddress = "127.0.0.1:9000"\n'
WSGI = ROUTE + '[apps.x]\nwsgi = "hello:application"\n'
ASGI = ROUTE + '[apps.x]\nasgi = "hello:app"\n'
COMMAND = ROUTE + '[apps.x]\ncommand = ["sh"]\ninterface = "fastcgi"\n'


def parse(text: str, directory: Path | str = "/") -> Config:
    return parse_config(text, os.path.join(directory, "gateway.toml"))


def server(text: str) -> Server:
    return parse(f"[server]\n{text}\n{ROUTE}").server


def app(text: str, directory: Path | str = "/") -> App:
    return parse(text, directory).apps["x"]


def mistake(text: str, directory: Path | str = "/") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, directory)
    return str(caught.value)


# ---------------------------------------------------------------------- [server]


@pytest.mark.parametrize("model", MODELS)
def test_each_model_with_its_defaults(model: str) -> None:
    found = server(f'concurrency = "{model}"')
    assert found.hosting == server_hosting(model)
    assert (found.concurrency, found.processes, found.threads, found.children) == (
        model, found.hosting.processes, found.hosting.threads, found.hosting.children,
    )  # fmt: skip


def test_without_a_word_it_is_a_loop_for_each_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "cores", lambda: 3)
    loops = Hosting("event", 3, 1, Children(3))
    assert parse(ROUTE).server.hosting == loops
    assert server("processes = 0").hosting == loops
    assert directory_config(str(tmp_path), ()).server.hosting == loops


def test_what_was_written_is_kept() -> None:
    assert server("processes = 0").processes_asked == 0
    assert server("processes = 3").processes_asked == server("processes = 3").processes == 3


def test_what_is_given_is_taken() -> None:
    found = server(
        'concurrency = "threadpool"\nprocesses = 3\nthreads = 4\n'
        "children = { max = 6, min_spare = 5, max_spare = 20, requests = 0 }"
    )
    assert found.hosting == Hosting("threadpool", 3, 4, Children(6, 5, 20, 0))
    assert server('concurrency = "fork"\nchildren = { max = 5, queue = 0 }').children == Children(5)
    assert server("processes = 2\nchildren = { requests = 100 }").children == Children(2, requests=100)


@pytest.mark.parametrize("model", ["single", "fork", "thread"])
def test_one_process_may_be_said_where_there_is_one(model: str) -> None:
    assert server(f'concurrency = "{model}"\nprocesses = 1').processes == 1


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('concurrency = "preforked"', 2, "did you mean 'prefork'"),
        ('concurrency = "threads"', 2, "single | fork | thread | prefork | threadpool | event"),
        ("concurrency = 1", 2, "single | fork"),
        ("processes = -1", 2, "a whole number from 0 to"),
        ("processes = true", 2, "a whole number from 0 to"),
        ("threads = 4", 2, "means nothing for concurrency 'event'\n  allowed: for threadpool"),
        ('concurrency = "prefork"\nthreads = 4', 3, "for threadpool"),
        ('concurrency = "threadpool"\nthreads = 0', 3, "a whole number from 1 to"),
        ('concurrency = "single"\nprocesses = 2', 3, "for prefork, threadpool, event"),
        ('concurrency = "single"\nprocesses = 0', 3, "for prefork, threadpool, event"),
        ('concurrency = "single"\nprocesses = true', 3, "for prefork, threadpool, event"),
        ('concurrency = "thread"\nprocesses = 2', 3, "for prefork, threadpool, event"),
        ('concurrency = "fork"\nprocesses = 2', 3, "for prefork, threadpool, event"),
        ('concurrency = "single"\n[server.children]\nmax = 2', 4, "for prefork, threadpool, fork, thread"),
        ("[server.children]\nmax = 2", 3, "server.children.max = 2: means nothing for concurrency 'event'"),
        ('concurrency = "prefork"\n[server.children]\nqueue = 2', 4, "for fork, thread"),
        ('concurrency = "fork"\n[server.children]\nmin_spare = 2', 4, "for prefork, threadpool"),
        ('concurrency = "thread"\n[server.children]\nrequests = 2', 4, "for prefork, threadpool, event"),
        ('concurrency = "prefork"\n[server.children]\nmaximum = 2', 4, "no such key"),
        ('concurrency = "prefork"\n[server.children]\nminspare = 2', 4, "did you mean 'min_spare'"),
        ('concurrency = "prefork"\n[server.children]\nmax = 0', 4, "a whole number from 1 to 65536"),
        ('concurrency = "prefork"\n[server.children]\nmin_spare = 0', 4, "a whole number from 1 to"),
        ('concurrency = "prefork"\n[server.children]\nrequests = -1', 4, "a whole number from 0 up"),
        ('concurrency = "prefork"\nprocesses = 9\n[server.children]\nmax = 8', 3,
         "server.processes = 9: are more than there may be at most (8)\n  allowed: max = 9, or fewer processes"),
        ('concurrency = "prefork"\n[server.children]\nmin_spare = 9\nmax_spare = 8', 5, "less than min_spare (9)"),
        ('concurrency = "prefork"\n[server.children]\nmin_spare = 9\nmax = 8', 4, "more than all processes"),
        ('concurrency = "threadpool"\nthreads = 16\nprocesses = 1\n[server.children]\nmax_spare = 8', 6, "at least 17"),
        ('concurrency = "threadpool"\nthreads = 1000\n[server.children]\nmax = 1000', 5, "1000000 threads in all"),
        ("children = 4", 2, "has to be a table"),
    ],
)  # fmt: skip
def test_mistakes_in_server(text: str, line: int, told: str) -> None:
    message = mistake(f"[server]\n{text}\n{ROUTE}")
    assert message.startswith(f"/gateway.toml:{line}: ")
    assert told in message


# ---------------------------------------------------------------------- [apps.NAME]


def test_a_command_is_as_it_was() -> None:
    found = app(COMMAND + "workers = 3\n")
    assert (found.kind, found.specifier, found.interface, found.staff) == ("command", "", "fastcgi", Staff(3, 3))
    assert os.path.isabs(found.command[0])
    assert app(COMMAND + "workers = { min = 2 }\n").staff == Staff(2, 2)
    assert app(COMMAND + "workers = { max = 4 }\n").staff == Staff(1, 4)
    assert app(COMMAND + "workers = { min = 0 }\n").staff == Staff(0, 1)
    found = app(
        COMMAND + 'workers = { min = 0, max = 3, idle = "5s", requests = 9, memory = "1MiB", lifetime = "1h", '
        'start = "10s", busy = "60s", at_once = 4 }\n'
    )
    assert (found.staff, found.at_once) == (Staff(0, 3, 5.0, 9, 1 << 20, 3600.0, 10.0, 60.0), 4)


def test_what_bounds_the_processes_of_an_app() -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    found = app(
        COMMAND + f'user = "{user}"\ngroup = "{grp.getgrgid(os.getgid()).gr_name}"\numask = "027"\nnice = 5\n'
        'cgroup = "web"\nrlimits = { files = 64, memory = "64MiB", processes = 4, cpu = "1h", core = 0 }\n'
    )
    assert (found.user, found.umask, found.nice) == (user, 0o27, 5)
    assert found.cgroup == "/web"
    limits = {"files": 64, "memory": 64 << 20, "processes": 4, "cpu": 3600, "core": 0}
    assert dict(found.rlimits) == limits


def test_what_is_hosted_can_be_replaced_as_a_whole() -> None:
    found = app(WSGI + 'workers = { max = 4, memory = "1GiB", lifetime = "1d", start = "5s" }\n')
    assert found.staff == Staff(1, 1, memory=1 << 30, lifetime_s=86400.0, start_s=5.0)
    assert found.hosting.children.max == 4
    assert app(WSGI).staff == Staff(1, 1, start_s=60.0)


def test_an_application_with_its_defaults(tmp_path: Path) -> None:
    found = app(WSGI, tmp_path)
    assert (found.kind, found.specifier, found.wsgi, found.asgi) == ("wsgi", "hello:application", "hello:application", None)
    assert (found.command, found.interface) == ((), "")
    assert found.hosting == Hosting("threadpool", 1, 8, worker_hosting("threadpool").children)
    assert (found.directory, found.python) == (os.fsencode(tmp_path), sys.executable)
    found = app(ASGI)
    assert (found.kind, found.specifier, found.wsgi) == ("asgi", "hello:app", None)
    assert found.hosting == Hosting("event", 1, 1, Children(1))


@pytest.mark.parametrize("text", [WSGI, ASGI])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_may_host_either(text: str, model: str) -> None:
    assert app(f'{text}concurrency = "{model}"\n').hosting == worker_hosting(model, blocks=text is WSGI)


@pytest.mark.parametrize(
    ("text", "hosting"),
    [
        ("workers = 3", Hosting("threadpool", 3, 8, Children(3, 2, 10, 10_000))),
        ("workers = 2\nthreads = 3", Hosting("threadpool", 2, 3, Children(2, 2, 8, 10_000))),
        ("workers = { }", Hosting("threadpool", 1, 8, Children(8, 2, 10, 10_000))),
        ("workers = { max = 4, requests = 5 }", Hosting("threadpool", 1, 8, Children(4, 2, 10, 5))),
        ("workers = { min = 9 }", Hosting("threadpool", 9, 8, Children(9, 2, 10, 10_000))),
        ('concurrency = "prefork"\nworkers = 4', Hosting("prefork", 4, 1, Children(4, 2, 8, 10_000))),
        ('concurrency = "prefork"\nworkers = { min_spare = 3, max_spare = 3 }',
         Hosting("prefork", 1, 1, Children(64, 3, 3, 10_000))),
        ('concurrency = "event"\nworkers = 2\nthreads = 3', Hosting("event", 2, 3, Children(2))),
        ('concurrency = "event"\nworkers = { max = 2, requests = 9 }', Hosting("event", 2, 8, Children(2, requests=9))),
        ('concurrency = "event"\nworkers = { min = 2, max = 2 }', Hosting("event", 2, 8, Children(2))),
        ('concurrency = "fork"\nworkers = 7', Hosting("fork", 1, 1, Children(7, queue=128))),
        ('concurrency = "fork"\nworkers = { queue = 0 }', Hosting("fork", 1, 1, Children(64))),
        ('concurrency = "thread"\nworkers = { max = 7 }', Hosting("thread", 1, 1, Children(7, queue=128))),
        ('concurrency = "thread"\nworkers = 1', Hosting("thread", 1, 1, Children(64, queue=128))),
        ('concurrency = "single"\nworkers = 1', Hosting("single")),
    ],
)  # fmt: skip
def test_how_many_workers(text: str, hosting: Hosting) -> None:
    assert app(f"{WSGI}{text}\n").hosting == hosting


@pytest.mark.parametrize(
    "specifier", ["hello:application", "a.b.c:d.e", "hello", "a.b", "hello:make()", "a.b:c.d()", "π:größe", "_a:_b"]
)
def test_where_an_application_is(specifier: str) -> None:
    assert app(f'{ROUTE}[apps.x]\nwsgi = "{specifier}"\n').specifier == specifier


@pytest.mark.parametrize(
    ("specifier", "told"),
    [
        ("", "a module and what is in it"), (":application", "a module and what is in it"),
        ("hello:", "a module and what is in it"), ("hello:a:b", "a module and what is in it"),
        ("hello.", "a module and what is in it"), ("a b:c", "a module and what is in it"),
        ("hello:class", "a module and what is in it"), ("1st:app", "a module and what is in it"),
        ("hello()", "a module and what is in it"), ("hello:()", "a module and what is in it"),
        ("hello.py:application", "a module and no file"), ("src/hello:application", "a module and no file"),
        ("hello.py", "a module and no file"), ("hello:make(1)", "a factory without arguments"),
    ],
)  # fmt: skip
def test_where_no_application_is(specifier: str, told: str) -> None:
    message = mistake(f'{ROUTE}[apps.x]\nwsgi = "{specifier}"\n')
    assert message.startswith(f"/gateway.toml:6: apps.x.wsgi = {specifier!r}: is not allowed\n")
    assert told in message


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (ROUTE + "[apps.x]\n", 5, "what to run is missing\n  allowed: exactly one of command = "),
        (ROUTE + '[apps.x]\nwsgy = "a:b"\n', 6, "did you mean 'wsgi'"),
        (ROUTE + "[apps.x]\nwsgi = 1\n", 6, '"hello:application"'),
        (WSGI + 'asgi = "a:b"\n', 7, "`wsgi` and `asgi` exclude each other"),
        (WSGI + 'command = ["sh"]\n', 6, "`command` and `wsgi` exclude each other"),
        (WSGI + 'interface = "fastcgi"\n', 7, "speaks what the route asks for\n  allowed: leave it out"),
        (COMMAND + "threads = 4\n", 8, "is its own business\n  allowed: workers = 4"),
        (COMMAND + 'concurrency = "prefork"\n', 8, 'wsgi or asgi = "module:callable"'),
        (COMMAND + 'python = "python3"\n', 8, 'command = ["python3", "program.py"]'),
        (COMMAND + "workers = { min = 5, max = 4 }\n", 8, "more than there may be at most (4)"),
        (COMMAND + "workers = { max = 501 }\n", 8, "from 1 to 500"),
        (COMMAND + "workers = { threads = 4 }\n", 8, "no such key"),
        (COMMAND + "workers = { busy = 'long' }\n", 8, "a duration"),
        (COMMAND + "umask = 27\n", 8, 'three octal digits in quotes: "027"'),
        (COMMAND + "nice = 20\n", 8, "from -20 to 19"),
        (COMMAND + "rlimits = { file = 4 }\n", 8, "did you mean 'files'"),
        (COMMAND + 'group = "nobody-has-it"\n', 8, "no such group"),
        (COMMAND + "workers = 0\n", 8, "a whole number from 1"),
        (COMMAND + "inteface = 3\n", 8, "did you mean 'interface'"),
        (WSGI + 'concurrency = "gevent"\n', 7, "did you mean 'event'"),
        (WSGI + "workers = 0\n", 7, "a whole number from 1"),
        (WSGI + 'workers = "4"\n', 7, "or a table: { min = 1, max = 8 }"),
        (WSGI + "workers = { mix = 4 }\n", 7, "did you mean 'min'"),
        (WSGI + "workers = { min = 4, max = 3 }\n", 7, "apps.x.workers.min = 4: are more than there may be at most (3)"),
        (WSGI + "workers = { max = 4, max_spare = 8 }\n", 7, "at least 9"),
        (WSGI + "workers = { queue = 4 }\n", 7, "for fork, thread"),
        (WSGI + 'concurrency = "prefork"\nthreads = 4\n', 8, "for threadpool, event"),
        (ASGI + "threads = 4\n", 7, "runs in the event loop itself"),
        (ASGI + "workers = { min = 1, max = 4 }\n", 7, "as many event loops all the time\n  allowed: workers = 4"),
        (ASGI + "workers = { min_spare = 4 }\n", 7, "for prefork, threadpool"),
        (WSGI + 'concurrency = "single"\nworkers = 4\n', 8, "for prefork, threadpool, event"),
        (WSGI + 'concurrency = "single"\nworkers = { max = 4 }\n', 8, "means nothing for concurrency 'single'"),
        (WSGI + 'concurrency = "thread"\nworkers = 4\n', 8, "workers = { max = 4 } for so many threads"),
        (WSGI + 'concurrency = "thread"\nworkers = { min = 4 }\n', 8, "for prefork, threadpool, event"),
        (WSGI + 'directory = "none"\n', 7, "there is no directory /none"),
        (WSGI + 'python = "none/bin/python"\n', 7, "there is no file /none/bin/python"),
        (WSGI + 'python = "no-such-python"\n', 7, "there is no such program"),
        (WSGI + 'user = "no-such-user"\n', 7, "no such user"),
        (WSGI + 'environment = { A = 1 }\n', 7, "a table of texts"),
    ],
)  # fmt: skip
def test_mistakes_in_apps(text: str, line: int, told: str) -> None:
    message = mistake(text)
    assert message.startswith(f"/gateway.toml:{line}: ")
    assert told in message


def test_the_interpreter_of_a_virtual_environment(tmp_path: Path) -> None:
    """Its own name says which environment it is: it is mostly a link to another one."""
    (tmp_path / "site" / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "site" / "venv" / "bin" / "python").symlink_to(sys.executable)
    text = WSGI + 'directory = "site"\npython = "{}"\n'
    found = app(text.format("venv/bin/python"), tmp_path)
    assert found.python == f"{tmp_path}/site/venv/bin/python"
    assert found.directory == os.fsencode(tmp_path / "site")
    assert 'the interpreter in it: "./venv/bin/python"' in mistake(text.format("./venv"), tmp_path)


# ---------------------------------------------------------------------- routes


def route(interface: str, more: str = "", app: str = "x") -> str:
    return f'[[routes]]\npath = "/{interface}/"\ninterface = "{interface}"\napp = "{app}"\n{more}\n'


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_one_word_changes(kind: str) -> None:
    """All four name the same application, side by side."""
    interfaces = ("cgi", "fastcgi", "scgi", "http")
    config = parse("".join(map(route, interfaces)) + f'[apps.x]\n{kind} = "hello:application"\n')
    assert [(one.interface, one.app) for one in config.routes] == [(name, "x") for name in interfaces]
    assert all(not (one.addresses or one.script or one.root) for one in config.routes)


def test_keys_of_a_route_to_an_application_are_those_of_its_interface() -> None:
    config = parse(
        route("http", 'strip_prefix = true\nhost = "upstream"') + route("cgi", "processes = 3")
        + route("fastcgi", 'root = "/"') + '[apps.x]\nwsgi = "a:b"\n'
    )  # fmt: skip
    assert (config.routes[0].strip_prefix, config.routes[0].host) == (True, "upstream")
    assert (config.routes[1].processes, config.routes[2].root) == (3, b"/")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        (route("cgi", 'root = "/"') + '[apps.x]\nwsgi = "a:b"\n', 1, "exactly one of root, script, app"),
        (route("cgi", 'script = "/bin/sh"') + '[apps.x]\nwsgi = "a:b"\n', 1, "has 2 targets"),
        (route("http", 'address = "a:1"') + '[apps.x]\nwsgi = "a:b"\n', 1, "exactly one of address, app"),
        (route("cgi", 'split = ".py"') + '[apps.x]\nwsgi = "a:b"\n', 5, "means nothing beside `app`"),
        (route("cgi", 'index = "a"') + '[apps.x]\nwsgi = "a:b"\n', 5, "means nothing beside `app`"),
        (route("cgi", "indexed_query = true") + '[apps.x]\nwsgi = "a:b"\n', 5, "for routes with root or script"),
        (route("static") + '[apps.x]\nwsgi = "a:b"\n', 4, "means nothing for interface 'static'"),
        (route("http", app="y") + '[apps.x]\nwsgi = "a:b"\n', 4, "there is no such app"),
        (route("cgi") + '[apps.x]\ncommand = ["sh"]\ninterface = "scgi"\n', 4, "allowed: interface = 'scgi'"),
        (route("cgi") + '[apps.x]\ncommand = ["sh"]\ninterface = "scgi"\n', 4, 'script = "path"'),
        (route("http") + '[apps.x]\ncommand = ["sh"]\ninterface = "scgi"\n', 4, 'address = "host:port"'),
        (route("scgi") + '[apps.x]\ncommand = ["sh"]\ninterface = "fastcgi"\n', 4, "the app speaks fastcgi"),
    ],
)  # fmt: skip
def test_mistakes_in_routes(text: str, line: int, told: str) -> None:
    message = mistake(text)
    assert message.startswith(f"/gateway.toml:{line}: ")
    assert told in message
