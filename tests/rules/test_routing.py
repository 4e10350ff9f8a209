"""From a request to its route and place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config import parse_config
from gateway.errors import GatewayError
from gateway.routing import Found, Router


def router(text: str, directory: Path | str = "/") -> Router:
    return Router(parse_config(text, os.path.join(directory, "gateway.toml")).routes)


def http(path: str, extra: str = "") -> str:
    return f'[[routes]]\npath = "{path}"\ninterface = "http"\naddress = "a:1"\n{extra}\n'


def path_of(found: Found) -> str:
    return found.route.path


def refused(one: Router, target: bytes, method: bytes = b"GET", host: bytes = b"h") -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        one.resolve(method, host, target)
    return caught.value


@pytest.mark.parametrize(
    ("target", "path"),
    [(b"/", "/"), (b"/x", "/"), (b"/hg", "/hg"), (b"/hg/", "/hg"), (b"/hg/a", "/hg"), (b"/hgx", "/"),
     (b"/hg/deep/a", "/hg/deep/"), (b"/hg/deep", "/hg/deep/"), (b"/hg/one", "=/hg/one"), (b"/hg/one/x", "/hg"),
     (b"/hg/a.cgi", "*.cgi"), (b"/hg/a.cgi/info", "*.cgi"), (b"/%68g/x", "/hg"), (b"//hg", "/hg"), (b"/y/../hg/", "/hg")],
)  # fmt: skip
def test_the_most_specific_path_wins(target: bytes, path: str) -> None:
    one = router(http("/") + http("/hg") + http("/hg/deep/") + http("=/hg/one") + http("*.cgi"))
    assert path_of(one.resolve(b"GET", b"h", target)) == path


def test_hosts() -> None:
    one = router(http("/", 'hosts = ["a.example"]') + http("/x", 'hosts = ["b.example"]'))
    assert path_of(one.resolve(b"GET", b"A.example:8000", b"/x")) == "/"
    assert path_of(one.resolve(b"GET", b"b.example", b"/x")) == "/x"
    assert refused(one, b"/x", host=b"c.example").status == 421
    assert refused(one, b"/y", host=b"b.example").status == 421


def test_methods() -> None:
    one = router(http("/", 'methods = ["GET", "HEAD"]') + http("/", 'methods = ["POST"]'))
    assert one.resolve(b"POST", b"h", b"/").route.number == 1
    error = refused(one, b"/", b"PUT")
    assert (error.status, error.fields) == (405, ((b"Allow", b"GET, HEAD, POST"),))


def test_no_route() -> None:
    assert refused(router(http("/x")), b"/y").status == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"/%00", 400),
        (b"/..", 400),
        (b"/a/../../b", 400),
        (b"/%2e%2e/", 400),
        (b"/a b", 400),
        (b"/\xff", 400),
        (b"/#", 400),
    ],
)
def test_bad_targets(target: bytes, status: int) -> None:
    assert refused(router(http("/")), target).status == status


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for name in ("run.sh", "sub/in.sh", "plain.sh", ".dot.sh", "old.sh.bak", "page.php", "dir/index.php", "odd.PHP",
                 "x.php.txt"):  # fmt: skip
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(0o644 if name == "plain.sh" else 0o755)
    os.symlink("/bin/sh", tmp_path / "root" / "away.sh")
    os.symlink("run.sh", tmp_path / "root" / "near.sh")
    return tmp_path


CGI = '[[routes]]\npath = "/c"\ninterface = "cgi"\nroot = "root"\n'


@pytest.mark.parametrize(
    ("target", "script", "info"),
    [(b"/c/run.sh", b"/c/run.sh", b""), (b"/c/run.sh/a/b", b"/c/run.sh", b"/a/b"), (b"/c/sub/in.sh/", b"/c/sub/in.sh", b"/"),
     (b"/c/run.sh/%C3%A9", b"/c/run.sh", "/é".encode()), (b"/c/near.sh", b"/c/near.sh", b"")],
)  # fmt: skip
def test_scripts(site: Path, target: bytes, script: bytes, info: bytes) -> None:
    place = router(CGI, site).resolve(b"GET", b"h", target).place
    assert (place.script_name, place.path_info) == (script, info)
    assert place.script_filename == os.fsencode(site / "root") + script[2:]


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"/c/none", 404), (b"/c/plain.sh", 403), (b"/c/.dot.sh", 404), (b"/c/old.sh.bak", 404), (b"/c/", 403),
     (b"/c/sub/", 403), (b"/c/away.sh", 403), (b"/c/run.sh%2fx", 404), (b"/c/sub/none/x", 404)],
)  # fmt: skip
def test_no_scripts(site: Path, target: bytes, status: int) -> None:
    assert refused(router(CGI, site), target).status == status


def test_symlinks_where_allowed(site: Path) -> None:
    assert router(CGI + 'symlinks = "any"', site).resolve(b"GET", b"h", b"/c/away.sh")
    assert refused(router(CGI + 'symlinks = "none"', site), b"/c/near.sh").status == 403


PHP = """
[[routes]]
path = "/"
interface = "static"
root = "root"
[[routes]]
path = "*.php"
interface = "fastcgi"
address = "a:1"
root = "root"
split = ".php"
index = ["index.php"]
"""


def test_php(site: Path) -> None:
    one = router(PHP, site)
    found = one.resolve(b"GET", b"h", b"/page.php/info?x")
    assert (found.route.interface, found.place.script_name, found.place.path_info) == (
        "fastcgi",
        b"/page.php",
        b"/info",
    )
    assert one.resolve(b"GET", b"h", b"/dir/").place.script_name == b"/dir/index.php"
    assert one.resolve(b"GET", b"h", b"/dir").route.interface == "static"  # which redirects to /dir/
    assert one.resolve(b"GET", b"h", b"/odd.PHP").route.interface == "static"
    assert one.resolve(b"GET", b"h", b"/x.php.txt").route.interface == "static"
    assert refused(one, b"/none.php").status == 404
    assert refused(one, b"/run.sh/x.php").status == 404


def test_a_file_that_appears_is_seen(site: Path) -> None:
    one = router(PHP, site)
    assert refused(one, b"/new.php").status == 404
    (site / "root" / "new.php").touch()
    assert one.resolve(b"GET", b"h", b"/new.php")
    (site / "root" / "new.php").unlink()
    assert refused(one, b"/new.php").status == 404


def test_what_is_remembered_does_not_mix_hosts_and_methods() -> None:
    one = router(http("/", 'hosts = ["a"]') + http("/", 'methods = ["POST"]'))
    for _ in range(2):
        assert one.resolve(b"GET", b"a", b"/").route.number == 0
        assert one.resolve(b"POST", b"b", b"/").route.number == 1
        assert refused(one, b"/", b"GET", b"b").status == 405


def test_memory_is_bounded() -> None:
    one = router(http("/"))
    for number in range(10_000):
        one.resolve(b"GET", b"h", b"/%d" % number)
    assert len(one._cache) <= 4096
