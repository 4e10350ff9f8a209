"""`gateway init`: a config to start from, right as it stands and right when more of it is switched on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway import config_keys as keys
from gateway.cli import main
from gateway.cli.init import starter
from gateway.config import load_config, parse_config


def test_what_it_writes_passes_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gateway.toml", "public"]
    assert main(["check"]) == 0
    assert [route.interface for route in load_config("gateway.toml").routes] == ["static"]


def test_nothing_is_overwritten_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("mine")
    assert main(["init", str(file)]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert not (tmp_path / "public").exists()
    assert main(["init", "--force", str(file)]) == 0
    assert file.read_text() == starter()


def test_a_file_where_the_directory_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "public").touch()
    assert main(["init", str(tmp_path / "gateway.toml")]) == 2
    assert "public cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "gateway.toml").exists()


def test_every_key_is_explained() -> None:
    text = starter()
    for table in (keys.SERVER, keys.LIMITS, keys.TIMEOUTS, keys.LOG, keys.ROUTE, keys.ROUTE_TIMEOUTS, keys.APP):
        for key in table:
            if key.example:
                assert re.search(rf"^(# )?{key.name} = .*# {re.escape(key.meaning)}", text, re.MULTILINE), key.name


@pytest.mark.parametrize("heading", ["[server.limits]", "[server.timeouts]", "[log]"])
def test_a_table_that_is_switched_on_is_right(tmp_path: Path, heading: str) -> None:
    (tmp_path / "public").mkdir()
    blocks = starter().split("\n\n")
    on = [re.sub("^# ", "", block, flags=re.MULTILINE) if block.startswith(f"# {heading}") else block for block in blocks]
    assert on != blocks
    file = str(tmp_path / "gateway.toml")
    assert parse_config("\n\n".join(on), file) == parse_config(starter(), file)  # the examples are the defaults
