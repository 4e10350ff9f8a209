"""git http-backend over CGI, with real git: clone, push beyond one chunk, fetch."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from tests.conftest import needs


def test_clone_push_and_fetch(gateway: Any, tmp_path: Path) -> None:
    git = needs("git")
    environment = {
        **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    }  # fmt: skip

    def run(*arguments: str, cwd: Path) -> str:
        done = subprocess.run([git, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    backend = run("--exec-path", cwd=tmp_path).strip() + "/git-http-backend"
    bare = tmp_path / "srv" / "project.git"
    bare.mkdir(parents=True)
    run("init", "-q", "--bare", "-b", "main", cwd=bare)
    run("config", "http.receivepack", "true", cwd=bare)
    one = gateway(
        f'[[routes]]\npath = "/git/"\ninterface = "cgi"\nscript = "{backend}"\n'
        f'environment = {{ GIT_PROJECT_ROOT = "{tmp_path}/srv", GIT_HTTP_EXPORT_ALL = "1", HOME = "{tmp_path}" }}\n'
    )
    url = f"{one.url}/git/project.git"
    run("clone", "-q", url, "first", cwd=tmp_path)
    first = tmp_path / "first"
    run("config", "http.postBuffer", "65536", cwd=first)  # so that a push is sent chunked
    run("checkout", "-q", "-b", "main", cwd=first)
    (first / "large").write_bytes(os.urandom(3 << 20))
    run("add", ".", cwd=first)
    run("commit", "-q", "-m", "large", cwd=first)
    run("push", "-q", "origin", "main", cwd=first)
    run("clone", "-q", url, "second", cwd=tmp_path)
    second = tmp_path / "second"
    assert (second / "large").read_bytes() == (first / "large").read_bytes()
    (first / "small").write_text("x")
    run("add", ".", cwd=first)
    run("commit", "-q", "-m", "small", cwd=first)
    run("push", "-q", "origin", "main", cwd=first)
    run("pull", "-q", cwd=second)
    assert (second / "small").read_text() == "x"
