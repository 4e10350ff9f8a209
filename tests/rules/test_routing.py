"""From a request to its route and place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.config import parse_config
from gateway.errors import GatewayError
from gateway.routing import Found, Programs, Router


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


def test_without_split_a_suffix_route_is_cut_at_its_suffix(site: Path) -> None:
    place = router(PHP.replace('split = ".php"\n', ""), site).resolve(b"GET", b"h", b"/page.php/info").place
    assert (place.script_name, place.path_info) == (b"/page.php", b"/info")
    assert place.script_filename == os.fsencode(site / "root/page.php")


PHP_PREFIX = PHP[PHP.rindex("[[routes]]") :].replace("*.php", "/blog/")


def test_only_files_with_the_suffix_are_handed_to_a_worker(site: Path) -> None:
    (site / "root/evil.jpg").write_text("<?php")
    one = router(PHP_PREFIX, site)
    assert one.resolve(b"GET", b"h", b"/blog/page.php").place.script_name == b"/blog/page.php"
    error = refused(one, b"/blog/evil.jpg")
    assert (error.status, "static" in error.remedy) == (404, True)
    for target in (b"/blog/evil.jpg/", b"/blog/evil.jpg/x.php", b"/blog/.hidden/page.php"):
        assert refused(one, target).status == 404


def test_an_index_of_another_kind_is_not_handed_over(site: Path) -> None:
    (site / "root/dir/index.html").touch()
    both = PHP.replace('["index.php"]', '["index.html", "index.php"]')
    assert router(both, site).resolve(b"GET", b"h", b"/dir/").route.interface == "static"
    prefix = router(PHP_PREFIX.replace('["index.php"]', '["index.html"]'), site)
    assert refused(prefix, b"/blog/dir/").status == 404


def test_a_directory_without_its_slash_is_redirected(site: Path) -> None:
    found = router(PHP_PREFIX, site).resolve(b"GET", b"h", b"/blog/dir?a=b")
    assert found.redirect == b"/blog/dir/?a=b"


@pytest.mark.parametrize("target", [b"/", b"/page.php", b"/any/thing", b"/dir/"])
def test_a_front_controller_gets_every_path(site: Path, target: bytes) -> None:
    text = '[[routes]]\npath = "/"\ninterface = "fastcgi"\naddress = "a:1"\nroot = "root"\n'
    place = router(text, site).resolve(b"GET", b"h", target).place
    assert (place.script_name, place.path_info, place.script_filename) == (b"", target, b"")
    assert place.document_root == os.fsencode(site / "root")


@pytest.mark.parametrize("route", ['path = "*.cgi"', 'path = "/"\nsplit = ".cgi"'])
def test_a_program_without_the_suffix_is_never_run(site: Path, route: str) -> None:
    (site / "root/a.cgi").touch()
    (site / "root/a.cgi").chmod(0o755)
    one = router(f'[[routes]]\n{route}\ninterface = "cgi"\nroot = "root"\n', site)
    assert one.resolve(b"GET", b"h", b"/a.cgi/info").place.path_info == b"/info"
    assert refused(one, b"/run.sh/x.cgi").status == 404
    assert refused(one, b"/run.sh").status == 404


def test_a_directory_that_may_not_be_entered_is_told(site: Path) -> None:
    one = router(CGI, site)
    if os.geteuid() == 0:
        site.chmod(0o700)
        os.seteuid(65534)
    else:
        (site / "root").chmod(0)
    try:
        error = refused(one, b"/c/run.sh")
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        (site / "root").chmod(0o755)
    assert (error.status, error.cause) == (403, "permission")
    assert "chmod a+x" in error.remedy


ONLY_PHP = PHP[PHP.rindex("[[routes]]") :]


def test_an_index_that_comes_and_goes_is_seen(site: Path) -> None:
    one = router(ONLY_PHP + http("/"), site)
    index = site / "root/dir/index.php"
    for _ in range(2):
        assert path_of(one.resolve(b"GET", b"h", b"/dir/")) == "*.php"
        index.unlink()
        assert path_of(one.resolve(b"GET", b"h", b"/dir/")) == "/"
        index.touch()


def test_an_index_that_goes_leaves_no_route(site: Path) -> None:
    one = router(ONLY_PHP, site)
    assert one.resolve(b"GET", b"h", b"/dir/")
    (site / "root/dir/index.php").unlink()
    assert refused(one, b"/dir/").status == 404


def test_a_route_for_other_methods_does_not_refuse_an_encoded_slash(site: Path) -> None:
    script = '[[routes]]\npath = "/"\ninterface = "cgi"\nscript = "root/run.sh"\nmethods = ["POST"]\n'
    one = router(script + http("/"), site)
    for _ in range(2):
        assert one.resolve(b"GET", b"h", b"/a%2Fb").route.interface == "http"
        assert refused(one, b"/a%2Fb", b"POST").status == 404


def test_an_asterisk_is_for_options_whoever_asked_before() -> None:
    one = router(http("/"))
    assert refused(one, b"*", b"OPTIONS").status == 501
    assert refused(one, b"*", b"GET").status == 400


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
        for _ in range(3):
            one.resolve(b"GET", b"h", b"/%d" % number)
    assert 0 < len(one._targets.known) <= 4096
    assert 0 < len(one._ways.known) <= 4096


def cgi(path: str, root: str, extra: str = "") -> str:
    return f'[[routes]]\npath = "{path}"\ninterface = "cgi"\nroot = "{root}"\n{extra}\n'


def static(path: str, root: str) -> str:
    return f'[[routes]]\npath = "{path}"\ninterface = "static"\nroot = "{root}"\n'


def held(text: str, directory: Path, name: str, mode: int = 0o644) -> bool:
    """Whether a file of this mode is kept from static routes."""
    programs = Programs(parse_config(text, str(directory / "gateway.toml")).routes)
    return programs.hold(os.fsencode(directory / name), mode)


def test_all_files_of_a_directory_of_scripts_are_held(site: Path) -> None:
    """A library or a script whose mode is wrong, too, and whatever the route's methods or hosts are."""
    text = static("/", "root") + cgi("/cgi-bin/", "root/sub", 'methods = ["POST"]\nhosts = ["a"]')
    assert held(text, site, "root/sub/lib.py")
    assert held(text, site, "root/sub/deep/x")
    assert not held(text, site, "root/page.php", 0o755)


@pytest.mark.parametrize("route", [cgi("*.cgi", "root"), cgi("/", "root", 'split = ".cgi"')])
def test_with_a_suffix_only_files_that_have_it_are_held(site: Path, route: str) -> None:
    text = static("/", "root") + route
    assert held(text, site, "root/a.cgi")
    assert held(text, site, "root/a.cgi.bak")
    assert held(text, site, "root/a.cgi~")
    assert not held(text, site, "root/page.html")
    assert not held(text, site, "root/run.sh", 0o755)


@pytest.mark.parametrize("shown", ["root", "root/sub"])
def test_where_the_files_of_a_static_route_lie_among_scripts_their_mode_tells(site: Path, shown: str) -> None:
    text = static("/shown/", shown) + cgi("/", "root")
    assert not held(text, site, "root/sub/picture.png")
    assert held(text, site, "root/sub/in.sh", 0o755)
    assert held(text, site, "root/lib.py") is (shown != "root")


def test_a_route_for_one_path_holds_one_file(site: Path) -> None:
    text = static("/", "root") + cgi("=/run.sh", "root", 'methods = ["POST"]')
    assert held(text, site, "root/run.sh")
    assert not held(text, site, "root/page.html")


def test_a_single_script_is_held_with_its_backups(site: Path) -> None:
    text = static("/", "root") + '[[routes]]\npath = "/x"\ninterface = "cgi"\nscript = "root/run.sh"\n'
    assert held(text, site, "root/run.sh")
    assert held(text, site, "root/run.sh.bak")
    assert not held(text, site, "root/plain.sh")


def test_a_directory_of_scripts_that_is_not_there(site: Path) -> None:
    one = router(CGI, site)
    (site / "root").rename(site / "away")
    assert refused(one, b"/c/").status == 404
    assert refused(one, b"/c").status == 404
    assert refused(one, b"/c/run.sh").status == 404
