"""Real processes: what a child gets, what it does not get, and why one could not be started."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.ends import Launch
from gateway.processes import launch as launch_module
from gateway.processes.explain import explain
from gateway.processes.launch import Launched, launch

PYTHON = os.fsencode(sys.executable)


@pytest.fixture(params=["posix_spawn", "subprocess"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to start a process give the same child."""
    if request.param == "subprocess":
        monkeypatch.setattr(launch_module, "_library", None)
    elif launch_module._library is None:
        pytest.skip("the C library lacks one of the functions")
    return str(request.param)


@pytest.fixture(autouse=True)
def no_descriptor_leaks() -> Iterator[None]:
    before = sorted(os.listdir("/proc/self/fd"))
    yield
    assert sorted(os.listdir("/proc/self/fd")) == before


def script(directory: Path, text: str | bytes, name: str = "script", mode: int = 0o755) -> Path:
    path = directory / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def spec(
    path: Path | bytes | str,
    *arguments: bytes,
    directory: Path | str = "/",
    environment: dict[bytes, bytes] | None = None,
    stdin: int | None = None,
    umask: int | None = None,
) -> Launch:
    file = os.fsencode(path)
    return Launch(file, [file, *arguments], environment or {}, os.fsencode(directory), stdin, umask)


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, True)
    with os.fdopen(fd, "rb") as stream:
        return stream.read()


def finish(child: Launched) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


def output(order: Launch) -> bytes:
    child = launch(order, stdout=True)
    assert child.stdout_fd is not None
    told = read_all(child.stdout_fd)
    assert finish(child) == 0
    return told


def shell(command: str, **more: object) -> Launch:
    return spec(b"/bin/sh", b"-c", command.encode(), **more)  # type: ignore[arg-type]


def refused(order: Launch) -> OSError:
    with pytest.raises(OSError) as caught:
        launch(order, stdin=True, stdout=True, stderr=True)
    return caught.value


@pytest.mark.usefixtures("way")
class TestChild:
    def test_runs_in_the_directory_named(self, tmp_path: Path) -> None:
        assert output(shell("pwd -P", directory=tmp_path)) == os.fsencode(tmp_path.resolve()) + b"\n"

    def test_gets_the_environment_named_and_nothing_else(self) -> None:
        names = {b"A": b"1", b"EMPTY": b"", b"ODD": b"x=y \xff\n"}
        assert output(spec("/usr/bin/env", b"-0", environment=names)) == b"A=1\0EMPTY=\0ODD=x=y \xff\n\0"

    def test_many_variables_and_arguments_arrive(self) -> None:
        names = {b"V%d" % n: b"%d" % n for n in range(100)}
        assert output(spec("/usr/bin/env", environment=names)).count(b"\n") == 100
        assert output(spec("/bin/echo", *[b"a"] * 64)) == b" ".join([b"a"] * 64) + b"\n"

    def test_argv0_is_the_path_as_invoked_not_the_link_resolved(self, tmp_path: Path) -> None:
        link = tmp_path / "applet"
        link.symlink_to("/bin/sh")
        assert output(spec(link, b"-c", b'echo "$0"')) == os.fsencode(link) + b"\n"

    def test_has_descriptors_0_to_2_only(self) -> None:
        leaked, other = os.pipe()
        os.set_inheritable(leaked, True)
        try:
            code = b"import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
            # 3 is the listing's own.
            assert output(spec(PYTHON, b"-S", b"-E", b"-c", code)) == b"[0, 1, 2, 3]\n"
        finally:
            os.close(leaked)
            os.close(other)

    def test_has_a_process_group_of_its_own_and_no_session(self) -> None:
        # a session would be scheduled as a group of its own, and may have to wait for long
        code = b"import os; print(os.getpgrp() == os.getpid(), os.getsid(0))"
        assert output(spec(PYTHON, b"-S", b"-E", b"-c", code)) == b"True %d\n" % os.getsid(0)

    def test_stdin_is_at_its_end_without_a_pipe(self) -> None:
        assert output(shell("cat; echo end")) == b"end\n"

    def test_stdin_may_be_an_open_file(self, tmp_path: Path) -> None:
        with open(script(tmp_path, "spooled"), "rb") as file:
            assert output(spec("/bin/cat", stdin=file.fileno())) == b"spooled"

    def test_three_pipes_are_three_streams(self) -> None:
        child = launch(shell("cat; echo no >&2"), stdin=True, stdout=True, stderr=True)
        assert child.stdin_fd is not None and child.stdout_fd is not None and child.stderr_fd is not None
        os.write(child.stdin_fd, b"content")
        os.close(child.stdin_fd)
        assert read_all(child.stdout_fd) == b"content"
        assert read_all(child.stderr_fd) == b"no\n"
        assert finish(child) == 0

    def test_our_ends_do_not_block_and_are_not_inherited(self) -> None:
        child = launch(spec("/bin/cat"), stdin=True, stdout=True, stderr=True)
        for fd in child[1:]:
            assert fd is not None
            assert not os.get_blocking(fd) and not os.get_inheritable(fd)
            os.close(fd)
        finish(child)

    def test_streams_can_be_opened_by_name(self) -> None:
        child = launch(shell("cat /dev/stdin >/dev/stdout"), stdin=True, stdout=True)
        assert child.stdin_fd is not None and child.stdout_fd is not None
        os.write(child.stdin_fd, b"x")
        os.close(child.stdin_fd)
        assert read_all(child.stdout_fd) == b"x"
        finish(child)

    def test_a_nul_is_refused_before_anything_starts(self) -> None:
        assert refused(spec("/bin/sh", b"a\0b")).errno == errno.EINVAL
        assert refused(spec("/bin/sh", environment={b"A": b"\0"})).errno == errno.EINVAL

    def test_sigpipe_is_at_its_default(self) -> None:
        assert signal_sets(b"SigIgn")[0] & 1 << (signal.SIGPIPE - 1) == 0


def signal_sets(*names: bytes) -> list[int]:
    status = output(spec("/bin/cat", b"/proc/self/status"))
    fields = dict(line.split(b":\t", 1) for line in status.splitlines() if b":\t" in line)
    return [int(fields[name], 16) for name in names]


@pytest.mark.skipif(launch_module._library is None, reason="the C library lacks one of the functions")
def test_no_signal_is_ignored_or_blocked_whatever_we_do_ourselves() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        assert signal_sets(b"SigIgn", b"SigBlk", b"SigCgt") == [0, 0, 0]
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})


def test_umask_is_the_one_given(tmp_path: Path) -> None:
    assert output(shell("umask", umask=0o027)) == b"0027\n"


def test_a_low_descriptor_of_ours_does_not_disturb_the_streams() -> None:
    """A gateway started with stdin closed has pipes on descriptor 0."""
    code = (
        "import os, sys; os.close(0)\n"
        "from gateway.ends import Launch\n"
        "from gateway.processes.launch import launch\n"
        "order = Launch(b'/bin/sh', [b'sh', b'-c', b'cat; echo end'], {}, b'/')\n"
        "child = launch(order, stdin=True, stdout=True)\n"
        "os.write(child.stdin_fd, b'in '); os.close(child.stdin_fd)\n"
        "os.set_blocking(child.stdout_fd, True)\n"
        "print(open(child.stdout_fd).read()); os.waitpid(child.pid, 0)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=root(), capture_output=True, check=True, timeout=30)
    assert told.stdout == b"in end\n\n"


def test_two_hundred_from_four_threads_leave_nothing() -> None:
    def one(number: int) -> bytes:
        return output(spec("/bin/echo", b"%d" % number))

    before = children()
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(one, range(200))) == [b"%d\n" % number for number in range(200)]
    assert children() <= before


def children() -> set[str]:
    """All children of ours, zombies too; other tests may have some."""
    return {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}


def root() -> Path:
    return Path(__file__).parents[2]


@pytest.mark.usefixtures("way")
class TestRefusal:
    """Each has its own cause and remedy (SEMANTICS 21, 80), and leaves no descriptor or zombie."""

    def cause(self, order: Launch) -> str:
        before = children()
        error = refused(order)
        why = explain(error, order)
        assert why.detail and 400 <= why.status < 600
        assert children() <= before
        return why.cause

    def test_no_file(self, tmp_path: Path) -> None:
        order = spec(tmp_path / "none")
        assert self.cause(order) == "no-file"
        assert explain(refused(order), order).status == 404

    def test_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to("nowhere")
        assert self.cause(spec(tmp_path / "link")) == "no-file"

    def test_a_file_on_the_way_is_no_directory(self, tmp_path: Path) -> None:
        assert self.cause(spec(script(tmp_path, "") / "x")) == "no-file"

    def test_no_directory_to_run_in(self, tmp_path: Path) -> None:
        assert self.cause(spec("/bin/true", directory=tmp_path / "gone")) == "no-directory"

    def test_directory_to_run_in_is_a_file(self, tmp_path: Path) -> None:
        assert self.cause(spec("/bin/true", directory=script(tmp_path, ""))) == "no-directory"

    def test_missing_interpreter_is_named(self, tmp_path: Path) -> None:
        order = spec(script(tmp_path, "#! /opt/none/perl -w\n"))
        assert self.cause(order) == "no-interpreter"
        assert "/opt/none/perl" in explain(refused(order), order).detail

    def test_crlf_after_the_shebang(self, tmp_path: Path) -> None:
        order = spec(script(tmp_path, "#!/bin/sh\r\necho\r\n"))
        assert self.cause(order) == "crlf-shebang"
        assert "sed" in explain(refused(order), order).remedy

    def test_mode_without_x(self, tmp_path: Path) -> None:
        order = spec(script(tmp_path, "#!/bin/sh\n", mode=0o644))
        assert self.cause(order) == "not-executable"
        assert explain(refused(order), order).remedy.startswith("chmod +x /")

    def test_a_directory_is_no_script(self, tmp_path: Path) -> None:
        assert self.cause(spec(tmp_path)) == "not-executable"

    def test_interpreter_without_x(self, tmp_path: Path) -> None:
        interpreter = script(tmp_path, "", "interpreter", mode=0o644)
        assert self.cause(spec(script(tmp_path, f"#!{interpreter}\n"))) == "no-permission"

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            (b"echo hello\n", "#!/bin/sh"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "byte order mark"),
            (b"", "empty"),
            (b"\x7fELF" + bytes(100), "another kind of machine"),
        ],
    )
    def test_no_program(self, tmp_path: Path, text: bytes, hint: str) -> None:
        order = spec(script(tmp_path, text))
        assert self.cause(order) == "not-a-program"
        why = explain(refused(order), order)
        assert hint in f"{why.detail}; {why.remedy}"

    def test_too_large_a_variable_is_named(self) -> None:
        order = spec("/bin/true", environment={b"A": b"1", b"HTTP_COOKIE": b"x" * 200_000})
        assert self.cause(order) == "too-large"
        why = explain(refused(order), order)
        assert why.status == 431 and "HTTP_COOKIE has 200,013 octets" in why.detail

    def test_too_much_in_all(self) -> None:
        order = spec("/bin/true", *[b"x" * 100_000] * 100)
        assert self.cause(order) == "too-large"

    def test_file_that_is_being_written(self, tmp_path: Path) -> None:
        path = tmp_path / "true"
        shutil.copy("/bin/true", path)
        with open(path, "ab"):
            assert self.cause(spec(path)) == "file-busy"


def test_no_descriptor_left_is_told_apart() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    order = spec("/bin/true")
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), hard))
    try:
        error = refused(order)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert explain(error, order).cause == "descriptor-limit"


def test_limits_of_the_system_are_unavailable_not_broken() -> None:
    for code in (errno.EAGAIN, errno.ENOMEM):
        assert explain(OSError(code, os.strerror(code)), spec("/bin/true")).status == 503


def test_a_cause_that_nobody_knows_is_told_as_it_is() -> None:
    why = explain(OSError(errno.EIO, "Input/output error"), spec("/bin/true"))
    assert (why.status, why.cause, why.detail) == (500, "not-started", "/bin/true: Input/output error")


AS_NOBODY = """
import os, sys
sys.path.insert(0, sys.argv[1])
from gateway.ends import Launch
from gateway.processes.explain import explain
from gateway.processes.launch import launch
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path, directory in zip(sys.argv[2::2], sys.argv[3::2]):
    order = Launch(path.encode(), [path.encode()], {}, directory.encode())
    try:
        launch(order)
    except OSError as error:
        why = explain(error, order)
        print(why.status, why.cause, why.detail)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user may enter, as those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_permissions_are_told_apart_for_who_is_not_root(public: Path) -> None:
    closed = public / "closed"
    closed.mkdir()
    inside = script(closed, "#!/bin/sh\n")
    private = script(public, "#!/bin/sh\n", mode=0o600 | 0o001 if os.geteuid() else 0o700)
    closed.chmod(0)
    try:
        told = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(root()), inside, "/", private, "/", "/bin/true", closed],
            capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    finally:
        closed.chmod(0o755)
    if "ModuleNotFoundError" in told.stderr or "PermissionError" in told.stderr:
        pytest.skip("another user can't read the sources here")
    lines = told.stdout.splitlines()
    assert lines[0].startswith("403 directory-permission") and lines[0].endswith(f"directory {closed}")
    assert lines[1].startswith("403 no-permission") and str(private) in lines[1]
    assert lines[2].startswith("403 directory-permission") and lines[2].endswith(f"directory {closed}")
