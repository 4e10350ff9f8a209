"""What the processes of an application may do and use: it holds, and what can't be granted is said at the start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.conftest import ROOT

TELL = """import os, resource
def application(environ, start_response):
    limits = [resource.getrlimit(one)[0] for one in (
        resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_AS)]
    mask = os.umask(0)
    os.umask(mask)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr((limits, mask, os.nice(0), os.getpid(), os.getgroups() and os.getegid())).encode()]
"""
LIMITS = """umask = "027"
nice = 3
cgroup = "web"
rlimits = { files = 64, memory = "2GiB", cpu = "1h", core = 0 }
"""


@pytest.mark.parametrize("interface", ["cgi", "fastcgi"])
def test_limits_hold(gateway: Any, tmp_path: Path, interface: str) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "cgroup.procs").write_text("")
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "{interface}"\napp = "x"\n[apps.x]\nwsgi = "tell:application"\n{LIMITS}',
        directory=tmp_path,
    )
    limits, mask, nice, pid, _ = eval(requests.get(one.url, timeout=30).text)
    assert (limits, mask, nice) == ([64, 0, 3600, 2 << 30], 0o27, os.nice(0) + 3)
    if interface == "fastcgi":
        group = int((tmp_path / "web" / "cgroup.procs").read_text())
        assert group in (pid, *one.children())


def test_a_cgroup_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(
        '[server]\nlisten = ["127.0.0.1:0"]\n[[routes]]\npath = "/"\ninterface = "fastcgi"\napp = "x"\n'
        '[apps.x]\ncommand = ["cat"]\ninterface = "fastcgi"\ncgroup = "nowhere"\n'
    )
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", str(tmp_path / "gateway.toml")], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=30, check=False,
    )  # fmt: skip
    assert ended.returncode != 0
    assert f"its cgroup {tmp_path}/nowhere is not there" in ended.stderr
    assert "Traceback" not in ended.stderr
