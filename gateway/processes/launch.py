"""Start one process from a `Launch`: a script for a request, or a worker of an application.

Promise: the child has descriptors 0 to 2, the environment and the directory it was given, all signals
at their defaults, a process group of its own; nothing is inherited by accident and nothing leaks on failure.
Must never know: HTTP, event loops, why the process is wanted. Next: `reap.py` for how it ends.

posix_spawn of the C library is called through ctypes: it holds no lock of the interpreter while the
child runs up to its exec, and shares memory until then, so that the cost does not grow with the gateway.
A process group, not a session: Linux schedules each session as a group of its own (sched(7), autogroup), and a
process that has just begun one may have to wait for a second while others run; scripts came out of order by as much.
Pipes, not socket pairs: a script may open /dev/stdin or /dev/stderr by name, which fails on a socket.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.ends import Launch

_SETSIGDEF = 0x04
_SETSIGMASK = 0x08
_SETPGROUP = 0x02

_SIGSET_BYTES = 128
_ATTRIBUTES_BYTES = 1024  # more than sizeof(posix_spawnattr_t), 336 on 64-bit glibc
_ACTIONS_BYTES = 256  # more than sizeof(posix_spawn_file_actions_t), 80 on 64-bit glibc


class Launched(NamedTuple):
    """A process that runs, and our ends of its pipes (non-blocking, close-on-exec), None where no pipe."""

    pid: int
    stdin_fd: int | None
    stdout_fd: int | None
    stderr_fd: int | None


def launch(spec: Launch, *, stdin: bool = False, stdout: bool = False, stderr: bool = False) -> Launched:
    """Start the process; a stream that is True becomes a pipe. Raises OSError as `Start` and `Start.finish` do."""
    start = Start(spec, stdin=stdin, stdout=stdout, stderr=stderr)
    return start.finish(start.run())


class Start:
    """A start in three steps, of which only the second may wait: for the exec of the child.

    Without a pipe: stdin is `spec.stdin` if given (it wins over a pipe), else /dev/null; stdout is
    /dev/null; stderr is the gateway's own. The caller closes the pipes and reaps the process.
    Making it raises OSError where a pipe can't be made, or for a NUL among the strings.
    """

    __slots__ = ("_call", "_opened", "_theirs", "stderr_fd", "stdin_fd", "stdout_fd")

    def __init__(self, spec: Launch, *, stdin: bool, stdout: bool, stderr: bool) -> None:
        variables = list(map(b"=".join, spec.environment.items()))
        if b"\0" in b"".join(variables) or b"\0" in b"".join(spec.argv):
            raise OSError(errno.EINVAL, "NUL in an argument or a variable of the environment")
        self._opened: list[int] = []
        self._theirs: list[int] = []
        self.stdin_fd: int | None = None
        self.stdout_fd: int | None = None
        self.stderr_fd: int | None = None
        self._call: Callable[[], int]
        child_stderr: int | None = None
        try:
            if spec.stdin is not None:
                child_stdin = spec.stdin
            elif stdin:
                child_stdin, self.stdin_fd = _pipe(self._opened)
                self._theirs.append(child_stdin)
                os.set_blocking(self.stdin_fd, False)
            else:
                child_stdin = _null(self._opened)
                self._theirs.append(child_stdin)
            if stdout:
                self.stdout_fd, child_stdout = _pipe(self._opened)
                os.set_blocking(self.stdout_fd, False)
            else:
                child_stdout = _null(self._opened)
            self._theirs.append(child_stdout)
            if stderr:
                self.stderr_fd, child_stderr = _pipe(self._opened)
                self._theirs.append(child_stderr)
                os.set_blocking(self.stderr_fd, False)
            if _library is None or spec.umask is not None:
                self._call = functools.partial(_launch_by_subprocess, spec, child_stdin, child_stdout, child_stderr)
            else:
                self._call = _library.spawner(spec, variables, child_stdin, child_stdout, child_stderr)
        except BaseException:
            self._close(self._opened)
            raise

    def run(self) -> int | OSError:
        """Start it: its pid, or why not. May be called in any thread, and holds no lock of the interpreter for long."""
        try:
            return self._call()
        except OSError as error:
            return error

    def finish(self, outcome: int | OSError) -> Launched:
        """Close what is the child's. Raises the OSError if it is one, with the errno of whatever failed, exec
        included; `explain.explain` tells why."""
        if isinstance(outcome, OSError):
            self._close(self._opened)
            raise outcome
        self._close(self._theirs)
        return Launched(outcome, self.stdin_fd, self.stdout_fd, self.stderr_fd)

    @staticmethod
    def _close(descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        descriptors.clear()


def _above_standard(fd: int, opened: list[int]) -> int:
    # Where the gateway runs with one of 0 to 2 closed, a new descriptor may become that one, and the
    # child's dup2 to it would overwrite a source that is still needed.
    if fd <= 2:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        os.close(fd)
        fd = moved
    opened.append(fd)
    return fd


def _pipe(opened: list[int]) -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    return _above_standard(reader, opened), _above_standard(writer, opened)


def _null(opened: list[int]) -> int:
    return _above_standard(os.open(b"/dev/null", os.O_RDWR | os.O_CLOEXEC), opened)


@functools.lru_cache(maxsize=64)
def _vector_type(length: int) -> Callable[..., ctypes.Array[ctypes.c_char_p]]:
    return ctypes.c_char_p * length


def _vector(strings: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    # What is not filled is NULL and so ends the vector. Lengths are rounded up because making a new
    # array type costs as much as all the rest.
    return _vector_type((len(strings) // 32 + 1) * 32)(*strings)


class _Library:
    """The functions of the C library, set up once. Raises AttributeError where one is missing."""

    def __init__(self) -> None:
        # Only the spawn itself lets go of the interpreter's lock: for calls of a few nanoseconds that
        # would cost more than it gives, and invite a switch of threads in between.
        quick = ctypes.PyDLL(None)
        slow = ctypes.CDLL(None)
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        self._actions_init = self._bind(quick.posix_spawn_file_actions_init, pointer)
        self._actions_destroy = self._bind(quick.posix_spawn_file_actions_destroy, pointer)
        self._add_dup2 = self._bind(quick.posix_spawn_file_actions_adddup2, pointer, number, number)
        self._add_chdir = self._bind(quick.posix_spawn_file_actions_addchdir_np, pointer, text)
        self._add_closefrom = self._bind(quick.posix_spawn_file_actions_addclosefrom_np, pointer, number)
        self._posix_spawn = self._bind(slow.posix_spawn, pointer, text, pointer, pointer, pointer, pointer)
        self._attributes = ctypes.create_string_buffer(_ATTRIBUTES_BYTES)
        self._set_attributes(quick)

    @staticmethod
    def _bind(function: Any, *arguments: Any) -> Callable[..., int]:
        function.argtypes = arguments
        function.restype = ctypes.c_int
        bound: Callable[..., int] = function
        return bound

    def _set_attributes(self, library: ctypes.PyDLL) -> None:
        # Every bit, not sigfillset: that leaves out the library's own signals, which the child would
        # then get as ignored.
        all_signals = ctypes.create_string_buffer(b"\xff" * _SIGSET_BYTES, _SIGSET_BYTES)
        no_signals = ctypes.create_string_buffer(_SIGSET_BYTES)
        set_flags = library.posix_spawnattr_setflags
        set_flags.argtypes = (ctypes.c_void_p, ctypes.c_short)
        library.posix_spawnattr_init(self._attributes)
        set_flags(self._attributes, _SETSIGDEF | _SETSIGMASK | _SETPGROUP)
        library.posix_spawnattr_setsigdefault(self._attributes, all_signals)
        library.posix_spawnattr_setsigmask(self._attributes, no_signals)

    def spawner(
        self, spec: Launch, variables: list[bytes], stdin: int, stdout: int, stderr: int | None
    ) -> Callable[[], int]:
        """What starts it and returns its process id, with everything made ready; the descriptors are the child's."""
        actions = ctypes.create_string_buffer(_ACTIONS_BYTES)
        pid = ctypes.c_int()
        self._actions_init(actions)
        code = (
            self._add_chdir(actions, spec.directory)
            or self._add_dup2(actions, stdin, 0)
            or self._add_dup2(actions, stdout, 1)
            or (0 if stderr is None else self._add_dup2(actions, stderr, 2))
            or self._add_closefrom(actions, 3)
        )
        arguments = (ctypes.byref(pid), spec.path, actions, self._attributes, _vector(spec.argv), _vector(variables))

        def spawn() -> int:
            failed = code or self._posix_spawn(*arguments)
            self._actions_destroy(actions)
            if failed:
                raise OSError(failed, os.strerror(failed), os.fsdecode(spec.path))
            return pid.value

        return spawn


def _load_library() -> _Library | None:
    try:
        return _Library()
    except AttributeError:
        return None


_library = _load_library()


def _launch_by_subprocess(spec: Launch, stdin: int, stdout: int, stderr: int | None) -> int:
    """The same where the C library lacks a function, or a umask is wanted, which posix_spawn cannot set.

    One difference: of the signals that the gateway itself was started with as ignored, only SIGPIPE,
    SIGXFZ and SIGXFSZ are set to their defaults.
    """
    try:
        process = subprocess.Popen(
            list(spec.argv),
            executable=spec.path,
            cwd=spec.directory,
            env=spec.environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            umask=-1 if spec.umask is None else spec.umask,
            process_group=0,
        )
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None
    # The Reaper waits for it; with a return code set, this object keeps its hands off.
    process.returncode = 0
    return process.pid
