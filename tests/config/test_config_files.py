"""What is said of a path that may not be used: the permission and the directory, never that it is not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.config import ConfigError, parse_config
from gateway.config_files import directory_fault, log_directory_fault, log_fault, may, program_fault, user_name
from tests.permissions import close_to_nobody, nobody, public_directory


@pytest.fixture
def public() -> Iterator[Path]:
    with public_directory() as directory:
        yield directory


def make(path: Path, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "key", ['interface = "cgi"\nroot = "closed/scripts"', 'interface = "cgi"\nscript = "closed/scripts/run.sh"',
            'interface = "static"\nroot = "closed"', 'interface = "static"\nroot = "link"'],
)  # fmt: skip
def test_a_directory_that_may_not_be_entered_is_named(public: Path, key: str) -> None:
    closed = public / "closed"
    closed.mkdir()
    make(closed / "scripts" / "run.sh")
    (public / "link").symlink_to("closed/scripts")
    close_to_nobody(closed)
    try:
        with nobody(), pytest.raises(ConfigError) as caught:
            parse_config(f'[[routes]]\npath = "/"\n{key}\n', str(public / "gateway.toml"))
    finally:
        closed.chmod(0o755)
    assert f"may not enter {closed}: mode " in str(caught.value)
    assert f"chmod o+x {closed}, or give user " in str(caught.value)
    assert "there is no" not in str(caught.value)


def test_a_script_that_another_user_may_run(public: Path) -> None:
    script = make(public / "run.sh")
    close_to_nobody(script)
    with nobody():
        fault = program_fault(str(script))
    assert fault is not None
    assert f"may not run {script}: mode " in fault.problem
    assert fault.remedy.startswith(f"chmod a+rx {script}")


def test_a_script_that_nobody_may_run_or_that_is_none(public: Path) -> None:
    script = make(public / "run.sh", 0o644)
    assert program_fault(str(script)) == ("cannot be run", f"an executable file: chmod +x {script}")
    assert program_fault(str(public)) == ("is no file that can be run", "")
    assert program_fault(str(public / "none")) == (f"there is no file {public}/none", "")


def test_a_directory_that_is_none(public: Path) -> None:
    assert directory_fault(str(public)) is None
    assert directory_fault(str(make(public / "file"))) == ("is no directory", "")


def test_why_a_log_cannot_be_written(public: Path) -> None:
    log = make(public / "access.log", 0o644 if os.getuid() == 0 else 0o444)
    (public / "open").mkdir()
    (public / "open").chmod(0o777)
    with nobody():
        fault = log_fault(str(log))
        assert fault is not None and f"may not write {log}: mode " in fault.problem
        if os.getuid() == 0:
            fault = log_fault(str(public / "new.log"))
            assert fault is not None and f"may not make a file in {public}: mode 755" in fault.problem
            assert log_fault(str(public / "open" / "new.log")) is None
    assert log_fault(f"{public}/none/a.log") == (
        f"cannot be written: there is no directory {public}/none",
        "a file in a directory that exists, relative to the config file",
    )
    assert log_fault(str(public / "open")) is not None


@pytest.mark.skipif(os.getuid() != 0, reason="files of several users are needed")
def test_what_another_user_may_do_is_read_from_the_mode(public: Path) -> None:
    file = make(public / "f", 0o640)
    assert not may(str(file), os.R_OK, "nobody")
    os.chown(file, -1, 65534)
    assert may(str(file), os.R_OK, "nobody")
    assert not may(str(file), os.W_OK, "nobody")
    os.chown(file, 65534, -1)
    assert may(str(file), os.W_OK, "nobody")
    assert may(str(file), os.W_OK, "root")
    assert log_directory_fault(str(public / "a.log")) is None
    fault = log_directory_fault(str(public / "a.log"), "nobody")
    assert fault is not None
    assert fault.problem == f"user nobody may not make a file in {public}: mode 755, of user root"


def test_a_user_without_a_name_is_told_by_number() -> None:
    assert user_name(3_999_999_999) == "with id 3999999999"
