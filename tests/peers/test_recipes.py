"""docs/recipes.md: what it says works, with the programs that it names; paths are put in place of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import pytest
import requests

import sample_apps
from tests.conftest import eventually, needs
from tests.faults.machines import PORT, Network
from tests.name_server import NameServer, Zone
from tests.peers.web_servers import HOST, Apache, Lighttpd, Mount, Nginx, WebServer, Worker
from tests.permissions import NOBODY, public_directory

RECIPES = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
PHP = """<?php header("Content-Type: application/json");
echo json_encode(array_map(fn($name) => $_SERVER[$name], ["SCRIPT_NAME", "PATH_INFO", "REQUEST_URI", "DOCUMENT_ROOT"]));
"""
MAP = """MAP EXTENT -1 -1 1 1 SIZE 9 9 IMAGETYPE PNG
LAYER NAME "p" TYPE POINT STATUS DEFAULT FEATURE POINTS 0 0 END END CLASS STYLE COLOR 255 0 0 END END END END
"""


def recipe(heading: str, language: str = "toml", **replaced: object) -> str:
    """The text in a language under a heading, with other texts in place of some; each of these has to be there."""
    section = RECIPES.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    text = "\n".join(re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL))
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, str(new))
    return text


def stop_at_once(one: Any) -> None:
    """The first of two SIGTERM: workers that do not heed it, or late, are not waited for at the second."""
    one.process.send_signal(signal.SIGTERM)

    def refuses() -> bool:
        with socket.socket() as client:
            return client.connect_ex(one.address) != 0

    eventually(refuses, "the end of listening")


@pytest.fixture
def srv(directories: Any) -> Path:
    directory: Path = directories("srv")
    return directory


def get(one: Any, path: str) -> requests.Response:
    return requests.get(one.url + path, timeout=20)


def test_php_front_controller(gateway: Any, srv: Path) -> None:
    program = needs(Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name)
    public = srv / "site" / "public"
    (public / "assets").mkdir(parents=True)
    (public / "index.php").write_text(PHP)
    (public / "upload.php").write_text("<?php echo 'run';")
    (public / "assets" / "a.css").write_text("a{}")
    (public / "robots.txt").write_text("all")
    as_root = os.geteuid() == 0
    (srv / "fpm.conf").write_text(
        f"[global]\nerror_log={srv}/fpm.log\ndaemonize=no\n[www]\nlisten={srv}/fpm.sock\npm=static\npm.max_children=1\n"
        + "user=root\ngroup=root\n" * as_root
    )
    with subprocess.Popen([program, *["-R"] * as_root, "-y", srv / "fpm.conf"], stderr=subprocess.DEVNULL) as fpm:
        try:
            eventually((srv / "fpm.sock").exists, "the start of php-fpm")
            replaced = {"/run/php/php8.2-fpm.sock": srv / "fpm.sock", "/srv/site": srv / "site"}
            one = gateway(recipe("PHP front controller", **replaced))
            for path in ("/", "/blog/2026?a=1", "/upload.php", "/index.php"):
                told = ["/index.php", path.partition("?")[0], path, str(public)]
                assert get(one, path).json() == told
            assert get(one, "/assets/a.css").text == "a{}"
            assert get(one, "/assets/none.css").status_code == 404
            assert get(one, "/robots.txt").text == "all"
        finally:
            fpm.terminate()


def test_php_on_three_machines(gateway: Any, srv: Path) -> None:
    """One is gone, then both: the backup has them all."""
    program = needs(Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name)
    (srv / "site").mkdir()
    (srv / "site" / "who.php").write_text("<?php echo $_SERVER['MACHINE'] ?? getenv('MACHINE');")
    as_root = os.geteuid() == 0
    machines: list[subprocess.Popen[bytes]] = []
    replaced: dict[str, object] = {"/srv/site": srv / "site", "every = \"5s\"": 'every = "250ms", timeout = "5s"'}
    try:
        for number in (7, 8, 9):
            with socket.create_server(("127.0.0.1", 0)) as unused:
                port = unused.getsockname()[1]
            (srv / f"{number}.conf").write_text(
                f"[global]\nerror_log={srv}/{number}.log\ndaemonize=no\n[www]\nlisten=127.0.0.1:{port}\npm=static\n"
                f"pm.max_children=2\nping.path=/ping\nenv[MACHINE]={number}\n" + "user=root\ngroup=root\n" * as_root
            )
            command = [program, *["-R"] * as_root, "-y", str(srv / f"{number}.conf")]
            machines.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            replaced[f"10.0.0.{number}:9000"] = f"127.0.0.1:{port}"
            eventually(lambda port=port: _listens(port), "the start of php-fpm")
        one = gateway(recipe("PHP on three machines", **replaced))
        assert {get(one, "/who.php").text for _ in range(8)} == {"7", "8"}
        machines[0].terminate()
        one.wait_for_log(f"{replaced['10.0.0.7:9000']} of route *.php is down")
        assert {get(one, "/who.php").text for _ in range(8)} == {"8"}
        machines[1].terminate()
        machines[1].wait()
        assert {get(one, "/who.php").text for _ in range(8)} == {"9"}
    finally:
        for machine in machines:
            machine.terminate()
            machine.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_workers_behind_kubernetes_or_consul(gateway: Any) -> None:
    zone = Zone()
    names = NameServer(zone)
    with Network(namespaces=False) as network:
        try:
            pod, service = network.machine(), network.machine()
            zone.records["shop.default.svc.cluster.local.", "A"] = [pod.host]
            zone.records["api.service.consul.", "SRV"] = [f"1 1 {PORT} node.consul."]
            zone.records["node.consul.", "A"] = [service.host]
            text = recipe("Workers behind Kubernetes or Consul", **{"127.0.0.1:8600": names.address, ":8080": f":{PORT}"})
            server = f'resolver = "{names.address}"'
            one = gateway(text.replace(f"[server]\n{server}\n", ""), server=server)
            assert get(one, "/shop/a").text == f"{pod.name} /shop/a"
            assert get(one, "/api/b").text == f"{service.name} /api/b"
        finally:
            names.close()


def test_git(gateway: Any, srv: Path) -> None:
    """A push is refused until the repository allows it."""
    git = needs("git")
    environment = {
        **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([git, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)

    bare = srv / "git" / "project.git"
    bare.mkdir(parents=True)
    run("init", "-q", "--bare", "-b", "main", cwd=bare)
    backend = run("--exec-path", cwd=srv).stdout.strip() + "/git-http-backend"
    one = gateway(recipe("git over CGI", **{"/usr/lib/git-core/git-http-backend": backend, "/srv/git": srv / "git"}))
    assert run("clone", "-q", f"{one.url}/git/project.git", "first", cwd=srv).returncode == 0
    first = srv / "first"
    run("checkout", "-q", "-b", "main", cwd=first)
    run("commit", "-q", "--allow-empty", "-m", "one", cwd=first)
    assert "403" in run("push", "-q", "origin", "main", cwd=first).stderr
    run("config", "http.receivepack", "true", cwd=bare)
    assert run("push", "-q", "origin", "main", cwd=first).returncode == 0


def test_rtorrent(gateway: Any, srv: Path) -> None:
    program = needs("rtorrent")
    settings = f"system.daemon.set=true,network.scgi.open_local={srv}/rpc.sock,dht.mode.set=disable,network.port_open.set=no"
    with subprocess.Popen(
        [program, "-n", "-o", settings], env={"HOME": str(srv), "PATH": os.environ["PATH"], "TERM": "dumb"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            eventually((srv / "rpc.sock").exists, "the start of rtorrent")
            one = gateway(recipe("rtorrent over SCGI", **{"/run/rtorrent/rpc.sock": srv / "rpc.sock"}))
            with xmlrpc.client.ServerProxy(one.url + "/RPC2") as remote:
                assert re.match(r"[0-9.]+$", str(remote.system.client_version()))
        finally:
            process.kill()


def test_flup(gateway: Any, srv: Path) -> None:
    (srv / "wiki.py").write_text(
        "from flup.server.fcgi import WSGIServer\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [environ['PATH_INFO'].encode()]\n"
        "WSGIServer(application).run()\n"
    )
    one = gateway(recipe("flup (Python)", **{"/srv/wiki/venv/bin/python": sys.executable, "/srv/wiki": srv}))
    assert get(one, "/wiki/a/b").text == "/a/b"
    stop_at_once(one)


def test_perl(gateway: Any) -> None:
    if subprocess.run([needs("perl"), "-MFCGI", "-e", "1"], capture_output=True).returncode:
        needs("the Perl module FCGI")
    one = gateway(recipe("Perl with the module FCGI", **{"/srv/perl": sample_apps.__path__[0]}))
    assert get(one, "/perl/x").text.startswith("Hello from Perl: request 1 of process ")


def test_mapserver(gateway: Any, srv: Path) -> None:
    program = needs("mapserv")
    (srv / "world.map").write_text(MAP)
    (srv / "mapserver.conf").write_text(f'CONFIG ENV MS_MAP_PATTERN "." END MAPS WORLD "{srv}/world.map" END END\n')
    heading = "MapServer, and what else is CGI and FastCGI in one program"
    one = gateway(recipe(heading, **{"/usr/lib/cgi-bin/mapserv": program, "/srv/maps": srv}))
    for path in ("/maps", "/maps-cgi"):
        response = get(one, f"{path}?map=WORLD&mode=map")
        assert response.headers["Content-Type"] == "image/png"
        assert response.content.startswith(b"\x89PNG")
    stop_at_once(one)


class NginxRecipe(Nginx):
    def config(self, mounts: Sequence[Mount], more: str) -> str:
        http = super().config((), "").partition("server {")[0]
        return http + more.replace("listen 8080", f"listen {HOST}:{self.port}") + "}"


@pytest.mark.parametrize(
    ("language", "server"), [("nginx", NginxRecipe), ("lighttpd", Lighttpd), ("apache", Apache)]
)
def test_behind_web_servers(language: str, server: type[WebServer], tmp_path: Path) -> None:
    heading = "A Python application behind nginx, lighttpd or Apache httpd"
    with public_directory() as directory:  # the web servers' users have to reach it
        sock = f"{directory}/shop.sock"
        recipe(heading, "sh", **{"unix:/run/shop.sock shop.wsgi:application": ""})
        text = recipe(heading, language, **{"/run/shop.sock": sock})
        text = text.replace("include fastcgi_params", "include /etc/nginx/fastcgi_params")
        worker = Worker(tmp_path / "log", f"unix:{sock}", ["--bind", f"unix:{sock}", "plain:application"]).wait()
        one = server(directory / "server", (), text)
        try:
            told = requests.get(f"{one.url}/shop/environ/x%20y?q", timeout=20).json()
            assert (told["SCRIPT_NAME"], told["PATH_INFO"], told["QUERY_STRING"]) == ("/shop", "/environ/x y", "q")
            assert requests.post(f"{one.url}/shop/echo", data=b"content", timeout=20).content == b"content"
        finally:
            one.stop()
            worker.stop()


@pytest.mark.parametrize("model", ["single", "prefork", "event"])
def test_metrics_through_the_gateway_itself(gateway: Any, model: str) -> None:
    with public_directory() as directory:
        server = f'concurrency = "{model}"\nadmin = "unix:{directory}/admin.sock"\n'
        if os.getuid() == 0:
            server += 'user = "nobody"\n'
            os.chown(directory, NOBODY, -1)
        text = recipe("Metrics for Prometheus", **{"/run/gateway/admin.sock": f"{directory}/admin.sock"})
        one = gateway(text, server=server)
        assert "gateway_connections 1.0" in get(one, "/metrics").text
        assert requests.post(one.url + "/metrics", timeout=20).status_code == 405
        assert get(one, "/status").status_code == 404
        assert one.stop() == 0
        assert list(directory.iterdir()) == []


def test_every_recipe_is_tested() -> None:
    headings = re.findall(r"^## (.*)$", RECIPES.read_text(), re.MULTILINE)
    tests = Path(__file__).read_text()
    assert [heading for heading in headings if f'"{heading}"' not in tests] == []
