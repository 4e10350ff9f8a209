"""PHP: php-fpm that runs already, php-cgi that we run, over a little site."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import eventually, needs

SITE = {
    "index.php": '<?php setcookie("seen", "1"); echo "<a href=\\"page.php/info?x=1\\">page</a> <img src=\\"logo.svg\\">";',
    "page.php": '<?php header("Content-Type: application/json"); echo json_encode($_SERVER);',
    "form.php": '<?php echo $_POST["name"], " ", isset($_FILES["file"]) ? $_FILES["file"]["size"] : "none";',
    "length.php": '<?php echo $_SERVER["CONTENT_LENGTH"], " ", strlen(file_get_contents("php://input"));',
    "go.php": '<?php header("Location: /elsewhere");',
    "log.php": '<?php error_log("a word for the log"); echo "logged";',
    "flush.php": '<?php while (@ob_end_flush()); foreach ([1,2] as $n) { echo "part$n\\n"; flush(); '
    'while ($n == 1 && !file_exists($_GET["go"])) { usleep(5000); clearstatcache(); } }',
    "pid.php": "<?php echo getmypid();",
    "logo.svg": "<svg/>",
    "sub/index.php": '<?php echo "sub ", $_SERVER["SCRIPT_NAME"];',
}
ROUTES = """
[[routes]]
path = "/"
interface = "static"
root = "{site}"
index = ["index.php", "index.html"]
[[routes]]
path = "*.php"
interface = "fastcgi"
root = "{site}"
split = ".php"
index = ["index.php"]
"""


@pytest.fixture(scope="module")
def site(directories: Any) -> Path:
    directory: Path = directories("php")
    for name, text in SITE.items():
        path = directory / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory / "site"


class Fpm:
    """php-fpm with its own config, on a unix socket."""

    def __init__(self, directory: Path, children: int) -> None:
        directory.mkdir()
        self.socket = directory / "fpm.sock"
        self.config = directory / "fpm.conf"
        self.config.write_text(
            f"[global]\npid={directory}/pid\nerror_log={directory}/log\ndaemonize=no\n"
            f"[www]\nlisten={self.socket}\npm=static\npm.max_children={children}\nping.path=/ping\n"
            + ("user=root\ngroup=root\n" if os.geteuid() == 0 else "")
        )
        self.start()

    def start(self) -> None:
        program = needs(Path(max(glob("/usr/sbin/php-fpm*") or ["php-fpm"])).name)
        as_root = ["-R"] if os.geteuid() == 0 else []  # it has to read folders of ours that nobody else may
        self.process = subprocess.Popen([program, *as_root, "-y", self.config], stderr=subprocess.DEVNULL)
        eventually(self.socket.exists, "the start of php-fpm")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def fpm(directories: Any) -> Iterator[Fpm]:
    one = Fpm(directories("fpm") / "two", 2)
    yield one
    one.stop()


@pytest.fixture(scope="module", params=["php-fpm", "php-cgi"])
def php(request: pytest.FixtureRequest, gateway: Any, site: Path) -> Any:
    """The same site over php-fpm (address) and over php-cgi (app)."""
    routes = ROUTES.format(site=site)
    if request.param == "php-fpm":
        return gateway(routes + f'address = "unix:{request.getfixturevalue("fpm").socket}"\n')
    needs("php-cgi")
    return gateway(
        routes + 'app = "php"\n[apps.php]\ncommand = ["php-cgi"]\ninterface = "fastcgi"\nworkers = 2\n'
        'environment = { PHP_FCGI_MAX_REQUESTS = "7" }\n'
    )


def get(php: Any, path: str, **arguments: Any) -> requests.Response:
    return requests.get(php.url + path, timeout=20, **arguments)


def test_the_site(php: Any) -> None:
    response = get(php, "/")
    assert "page.php/info" in response.text
    assert response.cookies["seen"] == "1"
    assert get(php, "/logo.svg").headers["Content-Type"] == "image/svg+xml"
    assert get(php, "/sub/").text == "sub /sub/index.php"
    assert get(php, "/sub", allow_redirects=False).headers["Location"] == "/sub/"


def test_the_variables(php: Any, site: Path) -> None:
    seen = get(php, "/page.php/info?x=1").json()
    expected = {"SCRIPT_NAME": "/page.php", "PATH_INFO": "/info", "SCRIPT_FILENAME": f"{site}/page.php",
                "DOCUMENT_ROOT": str(site), "QUERY_STRING": "x=1", "PHP_SELF": "/page.php/info"}  # fmt: skip
    assert {name: seen.get(name) for name in expected} == expected


def test_a_form_with_a_file(php: Any) -> None:
    response = requests.post(php.url + "/form.php", data={"name": "Ada"}, files={"file": b"x" * 100_000}, timeout=20)
    assert response.text == "Ada 100000"


def test_large_content_and_chunked_content(php: Any) -> None:
    assert requests.post(php.url + "/length.php", data=b"x" * 3_000_000, timeout=20).text == "3000000 3000000"
    pieces = (b"x" * 1000 for _ in range(200))
    assert requests.post(php.url + "/length.php", data=pieces, timeout=20).text == "200000 200000"


def test_a_redirect_without_status(php: Any) -> None:
    response = get(php, "/go.php", allow_redirects=False)
    assert (response.status_code, response.headers["Location"]) == (302, "/elsewhere")


def test_what_php_logs(php: Any) -> None:
    assert get(php, "/log.php").text == "logged"
    php.wait_for_log("a word for the log")


def test_what_is_flushed_comes_at_once(php: Any, tmp_path: Path) -> None:
    with get(php, f"/flush.php?go={tmp_path}/go", stream=True) as response:
        lines = response.iter_lines(chunk_size=1)
        assert next(lines) == b"part1"
        (tmp_path / "go").touch()
        assert next(lines) == b"part2"


@pytest.mark.parametrize("path", ["/none.php", "/none.php/x", "/logo.svg/x.php", "/sub/none.php", "/.php"])
def test_a_php_that_does_not_exist_is_never_handed_over(php: Any, path: str) -> None:
    response = get(php, path)
    assert response.status_code == 404
    assert "Primary script" not in response.text
    assert "input file" not in response.text


def test_many_requests_while_workers_recycle(php: Any) -> None:
    statuses: list[int] = []

    def ask() -> None:
        session = requests.Session()
        statuses.extend(session.get(php.url + "/pid.php", timeout=20).status_code for _ in range(15))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 60


def test_params_above_64_kib(gateway: Any, fpm: Fpm, site: Path) -> None:
    """Over a route's environment, in pairs of 15,000 octets, as php-fpm takes no single larger one."""
    pairs = ", ".join(f'BIG{n} = "{"x" * 15000}"' for n in range(6))
    one = gateway(ROUTES.format(site=site) + f'address = "unix:{fpm.socket}"\nenvironment = {{ {pairs} }}\n')
    seen = get(one, "/page.php").json()
    assert [len(seen[f"BIG{n}"]) for n in range(6)] == [15000] * 6


def test_two_clients_and_one_worker(gateway: Any, directories: Any, site: Path) -> None:
    """A kept connection pins php-fpm's only child; nobody may starve (iipsrv#203)."""
    fpm = Fpm(directories("fpm") / "one", 1)
    try:
        one = gateway(ROUTES.format(site=site) + f'address = "unix:{fpm.socket}"\n')
        first, second = requests.Session(), requests.Session()
        for _ in range(5):
            for session in (first, second):
                assert session.get(one.url + "/pid.php", timeout=20).status_code == 200
        done: list[int] = []

        def ask() -> None:
            done.extend(requests.get(one.url + "/pid.php", timeout=20).status_code for _ in range(10))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [200] * 20
    finally:
        fpm.stop()


def test_a_restarted_fpm_costs_nobody_a_request(gateway: Any, directories: Any, site: Path) -> None:
    fpm = Fpm(directories("fpm") / "again", 2)
    try:
        one = gateway(ROUTES.format(site=site) + f'address = "unix:{fpm.socket}"\n')
        assert get(one, "/pid.php").status_code == 200
        fpm.stop()
        fpm.start()
        assert get(one, "/pid.php").status_code == 200
    finally:
        fpm.stop()


def test_a_killed_worker_is_replaced(gateway: Any, site: Path) -> None:
    needs("php-cgi")
    one = gateway(ROUTES.format(site=site) + 'app = "php"\n[apps.php]\ncommand = ["php-cgi"]\ninterface = "fastcgi"\n')
    pid = int(get(one, "/pid.php").text)
    os.kill(pid, signal.SIGKILL)
    one.wait_for_log("was ended by SIGKILL")
    answers: list[requests.Response] = []

    def answered() -> bool:
        answers.append(get(one, "/pid.php"))
        return answers[-1].status_code == 200

    eventually(answered)
    assert int(answers[-1].text) != pid
