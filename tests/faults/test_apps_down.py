"""An app whose workers all die at the start: who asks is told so at once, and when to come again (SEMANTICS 66)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests


@pytest.mark.parametrize("interface", ["fastcgi", "scgi"])
@pytest.mark.parametrize("waits", [False, True], ids=["later", "in the backlog"])
def test_workers_that_die_at_once(gateway: Any, tmp_path: Path, interface: str, waits: bool) -> None:
    (tmp_path / "worker.sh").write_text("sleep 0.3\necho no such table >&2\nexit 3\n")
    one = gateway(
        f'[[routes]]\npath = "/"\ninterface = "{interface}"\napp = "wiki"\n'
        f'[apps.wiki]\ninterface = "{interface}"\nworkers = 2\ncommand = ["sh", "worker.sh"]\n',
        directory=tmp_path,
    )
    if not waits:
        one.wait_for_log("worker")
        one.wait_for_log("exited with code 3")
    response = requests.get(one.url, timeout=30)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    one.wait_for_log("503 app-down: no worker of app 'wiki' runs: its worker dies at once")
    one.wait_for_log("last line of its stderr: no such table")
