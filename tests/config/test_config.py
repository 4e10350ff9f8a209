"""What a config file means, and what is said of a mistake in one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config_keys as keys
from gateway import config_values as values
from gateway.cli.init import reference, starter
from gateway.config import Config, ConfigError, Kind, directory_config, parse_config, parse_listen
from gateway.ends import Address
from gateway.upstreams.terms import Check, Terms

ROUTE = '[[routes]]\npath = "/"\ninterface = "http"\naddress = "127.0.0.1:9000"\n'


def parse(text: str, directory: Path | str = "/") -> Config:
    return parse_config(text, os.path.join(directory, "gateway.toml"))


def mistake(text: str, directory: Path | str = "/") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, directory)
    return str(caught.value)


def test_defaults() -> None:
    config = parse(ROUTE)
    assert config.server.listen == (Address("127.0.0.1", 8000),)
    assert (config.server.limits.content, config.server.timeouts.header_s) == (1 << 30, 10.0)
    route = config.routes[0]
    assert (route.response_s, route.read_s, route.total_s) == (60.0, 60.0, 0.0)
    assert (route.keepalive, route.request_buffering, route.content_limit) == (32, True, 1 << 30)


def test_how_workers_are_chosen() -> None:
    text = ROUTE.replace(
        '"127.0.0.1:9000"', '[{ to = "a.test:80", weight = 3 }, { to = "unix:/b", backup = true }, "srv:_http._tcp.c.test"]'
    )
    route = parse(
        text + 'balance = "hash"\nhash = "cookie:sid"\nlimit = 4\nqueue = 9\nslow_start = "10s"\n'
        'timeouts = { queue = "3s" }\nhealth = { path = "/healthz", status = "200", failures = 2 }\n'
    ).routes[0]
    assert route.addresses == (Address("a.test", 80), Address(path="/b"), Address("_http._tcp.c.test", service=True))
    assert str(route.addresses[2]) == "srv:_http._tcp.c.test"
    assert route.queue_s == 3.0
    assert route.watched
    assert route.terms == Terms(
        balance="hash", hash="cookie:sid", weights=(3, 1, 1), backups=(False, True, False), limit=4, queue=9,
        slow_start_s=10, failures=2, check=Check(path=b"/healthz", highest=200),
    )  # fmt: skip


def test_nothing_is_watched_that_does_not_ask_for_it() -> None:
    plain = parse(ROUTE).routes[0]
    assert not plain.watched
    assert (plain.terms.queue, plain.queue, plain.queue_s) == (1024, 128, None)
    assert parse(ROUTE + 'health = { every = "5s" }\n').routes[0].watched
    assert parse(ROUTE.replace("127.0.0.1", "localhost")).routes[0].watched


def test_name_servers() -> None:
    server = parse('[server]\nresolver = ["10.0.0.2", "[::1]:5353", "::1"]\n' + ROUTE).server
    assert server.resolver == (Address("10.0.0.2", 53), Address("::1", 5353), Address("::1", 53))


def test_read_is_as_response_if_not_set() -> None:
    assert parse(ROUTE + 'timeouts = { response = "5s" }\n').routes[0].read_s == 5.0
    assert parse(ROUTE + 'timeouts = { response = "5s", read = "7s" }\n').routes[0].read_s == 7.0


@pytest.mark.parametrize(
    ("value", "octets"), [(1, 1), ("8KiB", 8192), ("1 MB", 10**6), ("1.5KiB", 1536), ("2gib", 2 << 30), ("5B", 5)]
)
def test_sizes(value: object, octets: int) -> None:
    assert values.size(value) == octets


@pytest.mark.parametrize(
    ("value", "seconds"), [(1, 1.0), ("500ms", 0.5), ("5m", 300.0), ("2h", 7200.0), ("0", 0.0), (0.5, 0.5)]
)
def test_durations(value: object, seconds: float) -> None:
    assert values.duration(value) == seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [("127.0.0.1:1", Address("127.0.0.1", 1)), ("[::1]:2", Address("::1", 2)), ("unix:/x", Address(path="/x")),
     (":3", Address("", 3)), ("fd:4", 4), ("name.example:5", Address("name.example", 5)), ("h:0", Address("h", 0))],
)  # fmt: skip
def test_where_to_listen(value: str, expected: object) -> None:
    assert values.listen(value) == expected


@pytest.mark.parametrize(
    "value",
    ["x", "::1:80", "1.2.3.4:99999", "unix:", "unix:/" + "x" * 107, 5, "", ":9000", "h:0", "h:\u0663", "unix:/a\0b",
     "a..b:80", ".a:80", "x" * 64 + ":80", "a." * 127 + "a:80", "1.2.3.4:" + "9" * 5000],
)  # fmt: skip
def test_no_addresses(value: object) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9000|107 octets"):
        values.address(value)


@pytest.mark.parametrize("name", ["localhost", "a_b.example", "x" * 63 + ".example", "example.org."])
def test_names_that_the_resolver_takes(name: str) -> None:
    assert values.address(f"{name}:80") == Address(name, 80)


@pytest.mark.parametrize(
    ("path", "kind", "value"),
    [("/a/", Kind.PREFIX, b"/a/"), ("=/a", Kind.EXACT, b"/a"), ("*.php", Kind.SUFFIX, b".php")],
)
def test_paths(path: str, kind: Kind, value: bytes) -> None:
    match = parse(ROUTE.replace('path = "/"', f'path = "{path}"')).routes[0].match
    assert (match.kind, match.value) == (kind, value)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", None, "no route"),
        ("[server\n", 1, "no TOML"),
        ("[sever]\n" + ROUTE, 1, "did you mean 'server'"),
        ('[server]\nlisten = "x"\n' + ROUTE, 2, "server.listen = 'x': is not allowed"),
        ("[server]\nlimit = 1\n" + ROUTE, 2, "did you mean 'limits'"),
        ('[server]\nlimits = { content = "much" }\n' + ROUTE, 2, "server.limits.content = 'much'"),
        ('[server]\nuser = "no-such-user"\n' + ROUTE, 2, "no such user"),
        ('[server]\nadmin = true\n' + ROUTE, 2, "or false for none"),
        ('[server]\nadmin = "127.0.0.1:9000"\n' + ROUTE, 2, '"unix:/path/to.sock"'),
        (ROUTE + "keep_alive = 3\n", 5, "did you mean 'keepalive'"),
        (ROUTE + 'script = "x"\n', 5, "means nothing for interface 'http'"),
        (ROUTE + "websocket = 1\n", 5, "true or false"),
        (ROUTE + ROUTE + 'timeouts = { conect = "1s" }\n', 9, "routes[2].timeouts.conect = '1s': no such key"),
        (ROUTE + 'health = { path = "x" }\n', 5, 'a path: "/healthz"'),
        (ROUTE + 'health = { rise = 2 }\n', 5, "means nothing where workers are not asked"),
        (ROUTE + 'balance = "random"\n', 5, "least-outstanding | round-robin | hash"),
        (ROUTE + 'hash = "client"\n', 5, "means nothing without balance"),
        (ROUTE + 'balance = "hash"\nhash = "field:"\n', 6, "cookie:NAME"),
        (ROUTE + 'health = { every = "0", path = "/" }\n', 5, "`path` is asked for again and again"),
        (ROUTE + 'health = { every = "5s", status = "399-200" }\n', 5, '"200-399"'),
        (ROUTE.replace('"127.0.0.1:9000"', '{ to = "a:1", weigth = 2 }'), 4, "not 'weigth'"),
        (ROUTE.replace('"127.0.0.1:9000"', '{ to = "a:1", weight = 0 }'), 4, "a weight from 1 to 1000"),
        (ROUTE.replace('"127.0.0.1:9000"', '{ to = "a:1", backup = true }'), 4, "all are backups"),
        (ROUTE.replace('"127.0.0.1:9000"', '"srv:a b"'), 4, "the name of an SRV record"),
        ('[server]\nresolver = "dns.test"\n' + ROUTE, 2, "in figures"),
        ('[server]\nresolver = "dns.test:53"\n' + ROUTE, 2, "in figures"),
        ('[[routes]]\npath = "/"\ninterface = "fcgi"\n', 3, "did you mean 'fastcgi'"),
        ('[[routes]]\npath = "/"\ninterface = "FastCGI"\n', 3, "did you mean 'fastcgi'"),
        (ROUTE + '[apps.x]\ncommand = ["sh"]\ninterface = "FCGI"\n', 7, "did you mean 'fastcgi'"),
        ('[[routes]]\npath = "/"\n', 1, "`interface` is missing"),
        ('[[routes]]\ninterface = "http"\naddress = "a:1"\n', 1, "`path` is missing"),
        ('[[routes]]\npath = "x"\ninterface = "http"\naddress = "a:1"\n', 2, 'a prefix "/app/"'),
        ('[[routes]]\npath = "/"\ninterface = "http"\n', 1, "has no target"),
        ('[[routes]]\npath = "/"\ninterface = "fastcgi"\naddress = "a:1"\napp = "x"\n', 1, "has 2 targets"),
        ('[[routes]]\npath = "/"\ninterface = "fastcgi"\napp = "x"\n', 4, "there is no such app"),
        ('[[routes]]\npath = "/"\ninterface = "cgi"\nroot = "none"\n', 4, "there is no directory /none"),
        ('[[routes]]\npath = "/"\ninterface = "cgi"\nscript = "none"\n', 4, "there is no file /none"),
        (ROUTE + '[apps.x]\ninterface = "fastcgi"\n', 5, "what to run is missing"),
        (ROUTE + '[apps.x]\ncommand = ["no-such-program"]\ninterface = "fastcgi"\n', 6, "there is no such program"),
        (ROUTE + '[apps.x]\ncommand = "perl x.pl"\ninterface = "fastcgi"\n', 6, 'command = ["perl", "x.pl"]'),
        (ROUTE + "[apps.x]\ncommand = \"sh -c 'a b'\"\ninterface = \"fastcgi\"\n", 6, '["sh", "-c", "a b"]'),
        (ROUTE + '[apps]\ncommand = ["sh"]\ninterface = "fastcgi"\n', 6, "[apps.NAME]"),
        ('[routes]\npath = "/"\n', 1, "[[routes]], in double brackets"),
        ('routes = "x"\n', 1, "[[routes]], in double brackets"),
        ("[[route]]\n", 1, "did you mean 'routes'"),
        ('[[server]]\nuser = "x"\n', 1, "[server]"),
        ("[[apps]]\n" + ROUTE, 1, "[apps.NAME]"),
        ("[[apps.x]]\n" + ROUTE, 1, "[apps.x]"),
        ('[server]\nlisten = [":80", "[::1]:80", ":80"]\n' + ROUTE, 2, "stands there twice"),
        ('[server]\nlisten = ["fd:3", "unix:/a", "fd:3"]\n' + ROUTE, 2, "fd:3 stands there twice"),
        ('[server]\nlisten = ["127.0.0.1:80000"]\n' + ROUTE, 2, "a port is a number up to 65535"),
        ("[server.limits]\nrequest_line = 0\n" + ROUTE, 2, "256 octets at least"),
        ('[server.limits]\nheader_fields = "16B"\n' + ROUTE, 2, "256 octets at least"),
        ("[server.limits]\nheader_count = 0\n" + ROUTE, 2, "a whole number from 8 up"),
        ('[server]\ngrace = "soon"\n' + ROUTE, 2, '"0" to wait for nothing'),
        ('[log]\nformat = "{staus}"\n' + ROUTE, 2, "did you mean {status}"),
        ('[log]\naccess = "none/x.log"\n' + ROUTE, 2, "a file in a directory that exists"),
        ('[log]\nerror = "/"\n' + ROUTE, 2, "cannot be written"),
        ('[server.limits]\ncontent = "' + "9" * 400 + 'GiB"\n' + ROUTE, 2, "a size"),
        ("[server.timeouts]\nread = 1" + "0" * 400 + "\n" + ROUTE, 2, "a duration"),
        ('[server]\ngrace = "\u0663s"\n' + ROUTE, 2, "a duration"),
        ('[server]\nlisten = "fd:\u00b2"\n' + ROUTE, 2, '"fd:3" for a socket handed over'),
        ('[server]\nuser = "a\\u0000b"\n' + ROUTE, 2, "a text in quotes"),
        (ROUTE.replace("127.0.0.1:9000", "unix:" + "x" * 107), 4, "at most 107 octets"),
        (ROUTE + 'hosts = ["*.example.org"]\n', 5, "whole names without port"),
        (ROUTE + 'hosts = ["example.org:80"]\n', 5, "whole names without port"),
        (ROUTE + 'methods = ["get"]\n', 5, "the case of a method counts"),
        (ROUTE + 'methods = ["GET POST"]\n', 5, "methods:"),
        (ROUTE + 'host = "a\\r\\nX: y"\n', 5, '"client", "upstream", or a host'),
        (ROUTE.replace('"/"', '"/a%20b"'), 2, "never matches"),
        (ROUTE.replace('"/"', '"=/a//b"'), 2, "never matches"),
        (ROUTE.replace('"/"', '"/a/../b"'), 2, "never matches"),
        (ROUTE.replace('"/"', '"/a?b"'), 2, "never matches"),
        (ROUTE.replace('"/"', '"*.x"') + "strip_prefix = true\n", 5, "no prefix to strip"),
        (ROUTE + "multiplex = false\n", 5, "means nothing for interface 'http'"),
        ('[[routes]]\npath = "/"\ninterfaces = "cgi"\n', 3, "did you mean 'interface'"),
        ('[[routes]]\npath = "/"\ninterface = "static"\nroot = "/"\nindex = "../x"\n', 5, "names of files"),
        ('[[routes]]\npath = "/"\ninterface = "scgi"\naddress = "a:1"\nsplit = "php"\n', 5, "a suffix with its dot"),
    ],
)
def test_mistakes(text: str, line: int | None, told: str) -> None:
    message = mistake(text)
    assert message.startswith(f"/gateway.toml:{line}: " if line else "/gateway.toml: ")
    assert told in message


def test_what_is_allowed_is_allowed() -> None:
    """A list names no key that the next message would refuse."""
    for text, absent in (
        ("[server]\nx = 1\n" + ROUTE, ("threads",)),  # of another model than the default
        ('[server]\nconcurrency = "fork"\n[server.children]\nx = 1\n' + ROUTE, ("min_spare", "max_spare", "requests")),
        (ROUTE + "x = 1\n", ("multiplex", "root", "script")),
        (ROUTE + '[apps.x]\ncommand = ["sh"]\nx = 1\n', ("wsgi", "asgi", "concurrency", "threads", "python")),
        (ROUTE + '[apps.x]\nwsgi = "a"\nx = 1\n', ("command", "asgi", "interface")),
    ):
        allowed = mistake(text).partition("allowed: ")[2].split(", ")
        assert len(allowed) > 1
        assert not set(allowed) & set(absent)


def test_where_get_is_taken_head_is(tmp_path: Path) -> None:
    """RFC 9110 9.3.2: the same, without content."""
    assert parse(ROUTE + 'methods = ["GET"]\n').routes[0].methods == {b"GET", b"HEAD"}
    assert parse(ROUTE + 'methods = ["POST"]\n').routes[0].methods == {b"POST"}


def test_ports_that_the_system_chooses_may_be_several() -> None:
    assert len(parse('[server]\nlisten = ["127.0.0.1:0", "127.0.0.1:0"]\n' + ROUTE).server.listen) == 2


def test_addresses_of_the_command_line() -> None:
    assert parse_listen(":80", "fd:3") == (Address("", 80), 3)
    with pytest.raises(ConfigError, match=r"stands there twice"):
        parse_listen(":80", ":80")
    with pytest.raises(ConfigError) as caught:
        parse_listen(":99999")
    assert str(caught.value).startswith("gateway: --listen = ':99999': ")
    assert "a port is a number up to 65535" in str(caught.value)


def test_a_script_without_the_execute_bit(tmp_path: Path) -> None:
    (tmp_path / "a.sh").touch()
    assert "chmod +x" in mistake('[[routes]]\npath = "/"\ninterface = "cgi"\nscript = "a.sh"\n', tmp_path)


def test_an_app_that_speaks_something_else() -> None:
    text = '[[routes]]\npath = "/"\ninterface = "scgi"\napp = "x"\n[apps.x]\ncommand = ["sh"]\ninterface = "fastcgi"\n'
    assert "the app speaks fastcgi" in mistake(text)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    config = parse('[[routes]]\npath = "/"\ninterface = "static"\nroot = "www"\n', tmp_path)
    assert config.routes[0].root == os.fsencode(tmp_path / "www")


def test_sockets_and_logs_are_relative_to_the_file(tmp_path: Path) -> None:
    config = parse('[server]\nlisten = ["unix:l.sock", "fd:3"]\n[log]\naccess = "a.log"\n'
                   + ROUTE.replace("127.0.0.1:9000", "unix:w.sock"), tmp_path)  # fmt: skip
    assert config.server.listen == (Address(path=str(tmp_path / "l.sock")), 3)
    assert config.routes[0].addresses == (Address(path=str(tmp_path / "w.sock")),)
    assert config.log.access == str(tmp_path / "a.log")


def test_the_admin_socket_is_relative_to_the_file_too(tmp_path: Path) -> None:
    assert parse(ROUTE).server.admin is True
    assert parse("[server]\nadmin = false\n" + ROUTE).server.admin is False
    assert parse('[server]\nadmin = "unix:a.sock"\n' + ROUTE, tmp_path).server.admin == Address(path=f"{tmp_path}/a.sock")


def test_hosts_are_compared_in_lower_case() -> None:
    assert parse(ROUTE + 'hosts = ["Example.ORG", "[::1]"]\n').routes[0].hosts == (b"example.org", b"[::1]")


@pytest.mark.parametrize("host", ["client", "upstream", "example.org", "example.org:8080", "[::1]:80"])
def test_what_an_upstream_may_see_as_host(host: str) -> None:
    assert parse(ROUTE + f'host = "{host}"\n').routes[0].host == host


def test_a_directory(tmp_path: Path) -> None:
    """Its directories of scripts may come later, and must not be sent as files then."""
    interfaces = [(route.path, route.interface) for route in directory_config(str(tmp_path), ()).routes]
    assert interfaces == [("/", "static"), ("/cgi-bin/", "cgi"), ("/htbin/", "cgi")]
    assert len(directory_config(str(tmp_path), (), cgi=False).routes) == 1


_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_NAMES = sorted({key.name for table in (keys.SERVER, keys.LOG, keys.ROUTE, keys.APP) for key in table})


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(("server", "log", "routes", "apps", "x")),
        st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=4)
        | st.lists(st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=4), max_size=2)
        | _VALUES,
        max_size=4,
    )
)
def test_any_tables_give_a_config_or_a_clear_mistake(tables: dict[str, Any]) -> None:
    from gateway.config import _Reader

    with contextlib.suppress(ConfigError):
        _Reader("", "/gateway.toml").config(tables)


def test_the_starter_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    config = parse(starter(), tmp_path)
    assert [route.interface for route in config.routes] == ["static"]


def test_the_reference_in_the_docs_is_the_table() -> None:
    path = Path(__file__).resolve().parent.parent.parent / "docs" / "config.md"
    assert path.read_text() == reference(), (
        "python -c 'from gateway.cli.init import reference; print(reference(), end=\"\")'"
    )
