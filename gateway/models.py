"""The six concurrency models: their names, what may be said of each, and what holds where nothing is said.

Promise: pure functions; what they return is consistent, and what can't be is a ModelError with its remedy.
Server and application server share them. Must never know: files, routes, how a model is run.
Next: `concurrency/`, which runs them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

MODELS = ("single", "fork", "thread", "prefork", "threadpool", "event")
POOLS = ("prefork", "threadpool")
"""Where children accept by themselves, and there are as many as are needed."""
PER_CONNECTION = ("fork", "thread")

KNOWN_TO = {
    "processes": (*POOLS, "event"),
    "threads": ("threadpool",),
    "max": (*POOLS, *PER_CONNECTION),
    "min_spare": POOLS,
    "max_spare": POOLS,
    "requests": (*POOLS, "event"),
    "queue": PER_CONNECTION,
}
"""What may be said, and of which models."""

MOST = 1 << 16
"""Children and their threads, all together: the scoreboard has a place for each."""
USUAL_MAX = {"prefork": 64, "fork": 64, "thread": 64, "threadpool": 8}
USUAL_REQUESTS = {"prefork": 10_000, "threadpool": 10_000, "event": 0}
USUAL_QUEUE = 128
SERVER_THREADS = 16
WORKER_THREADS = 8
_MIN_SPARE = 2
_MAX_SPARE = 8


class ModelError(ValueError):
    """Two settings that exclude each other, or one that the model does not know."""

    def __init__(self, key: str, value: int, problem: str, remedy: str) -> None:
        super().__init__(f"{key} = {value}: {problem}; {remedy}")
        self.key = key
        """One of KNOWN_TO."""
        self.value = value
        self.problem = problem
        self.remedy = remedy


class Children(msgspec.Struct, frozen=True):
    """How many children there may be, and for how long. What means nothing for a model is 0."""

    max: int = 1
    """Processes at most (prefork, threadpool, fork, event), or threads (thread)."""
    min_spare: int = 0
    """Idle ones at least: processes (prefork), threads (threadpool)."""
    max_spare: int = 0
    requests: int = 0
    """A child ends after about so many; 0: never."""
    queue: int = 0
    """Accepted connections that may wait for one of `max` (fork, thread)."""


class Hosting(msgspec.Struct, frozen=True):
    """A model with all its figures: what a server, or an application server, is made of."""

    concurrency: str = "event"
    processes: int = 1
    """event: how many; prefork, threadpool: how many at least; else 1."""
    threads: int = 1
    """In each process; event: for a WSGI application, which may block."""
    children: Children = Children()

    def options(self) -> Iterator[str]:
        """The same on the command line of `gateway worker`."""
        yield from ("--concurrency", self.concurrency)
        if self.concurrency in KNOWN_TO["processes"]:
            yield from ("--processes", str(self.processes))
        if self.concurrency in ("threadpool", "event"):
            yield from ("--threads", str(self.threads))
        for name in ("max", "min_spare", "max_spare", "requests", "queue"):
            if self.concurrency in KNOWN_TO[name]:
                yield from ("--" + name.replace("_", "-"), str(getattr(self.children, name)))

    def __str__(self) -> str:
        """In a few words, for people."""
        name, children = self.concurrency, self.children
        if name == "single":
            return name
        if name in PER_CONNECTION:
            return f"{name}, at most {children.max}"
        count = str(self.processes)
        if name in POOLS and children.max != self.processes:
            count += f" to {children.max}"
        threads = f" x {self.threads} threads" if self.threads > 1 or name == "threadpool" else ""
        return f"{name}, {count} process{'es' * (count != '1')}{threads}"


def cores() -> int:
    """How many processor cores are ours."""
    return len(os.sched_getaffinity(0))


def server_hosting(
    concurrency: str, processes: int | None = None, threads: int | None = None, given: Mapping[str, int] | None = None
) -> Hosting:
    """The gateway's own; processes = 0, or None for not set, is one per core. Raises ModelError."""
    given = given or {}
    if concurrency not in KNOWN_TO["processes"]:
        if processes not in (None, 1):
            raise _means_nothing("processes", processes or 0, concurrency)
        processes = 1
    elif not processes:  # nobody asked for this number, so it gives way
        processes = min(cores(), given.get("max", cores())) if concurrency in POOLS else cores()
    if threads is not None and concurrency not in KNOWN_TO["threads"]:
        raise _means_nothing("threads", threads, concurrency)
    return _hosting(concurrency, processes, threads, given, SERVER_THREADS)


def worker_hosting(
    concurrency: str, processes: int | None = None, threads: int | None = None, given: Mapping[str, int] | None = None,
    *, blocks: bool = True,
) -> Hosting:
    """An application server's; `blocks`: whether the application needs a thread for each request, as WSGI does.

    `processes` are so many, and no more unless `max` says so; 0 is one per core. Not set: one, so that what an
    application keeps in memory is there for the next request; but prefork and fork, which serve one connection
    a process, have as many as are needed. Raises ModelError.
    """
    given = dict(given or {})
    if processes == 0:
        processes = min(cores(), given.get("max", cores()))
    if concurrency in ("single", "thread") and processes not in (None, 1):
        raise _means_nothing("processes", processes, concurrency)
    if processes is not None and concurrency in (*POOLS, "fork"):
        given.setdefault("max", processes)
    elif concurrency == "threadpool" and not given.keys() & {"min_spare", "max_spare"}:
        given.setdefault("max", 1)
    if processes is None or concurrency not in KNOWN_TO["processes"]:
        processes = 1
    return _hosting(concurrency, processes, threads, given, WORKER_THREADS, threads_in_event=blocks)


def _hosting(
    concurrency: str, processes: int, threads: int | None, given: Mapping[str, int], usual: int,
    threads_in_event: bool = False,
) -> Hosting:
    for name, value in given.items():
        if concurrency not in KNOWN_TO[name]:
            raise _means_nothing(name, value, concurrency)
    if threads is not None and concurrency not in ("threadpool", "event"):
        raise _means_nothing("threads", threads, concurrency)
    if concurrency == "threadpool" or (concurrency == "event" and threads_in_event):
        threads = usual if threads is None else threads
    else:
        threads = 1
    return Hosting(concurrency, processes, threads, children_for(concurrency, given, processes, threads))


def children_for(concurrency: str, given: Mapping[str, int], processes: int, threads: int) -> Children:
    """What is given, and the defaults of the model for the rest. Raises ModelError.

    What means nothing for the model is not looked at: KNOWN_TO says what that is.
    """
    _check(concurrency, {"processes": processes, "threads": threads, **given})
    requests = given.get("requests", USUAL_REQUESTS.get(concurrency, 0))
    if concurrency == "single":
        return Children()
    if concurrency == "event":
        return Children(max=processes, requests=requests)
    most = given.get("max", max(USUAL_MAX[concurrency], processes))
    if concurrency in PER_CONNECTION:
        return Children(max=most, queue=given.get("queue", USUAL_QUEUE))
    if processes > most:
        raise ModelError(
            "processes", processes, f"are more than there may be at most ({most})", f"max = {processes}, or fewer processes"
        )
    per_process = threads if concurrency == "threadpool" else 1
    if most * per_process > MOST:
        raise ModelError("max", most, f"would be {most * per_process} threads in all", f"at most {MOST // per_process}")
    what = "threads" if concurrency == "threadpool" else "processes"
    room = per_process if concurrency == "threadpool" else 0
    """Idle threads that a new process brings along: with less room above min_spare, it would have to end at once."""
    min_spare = given.get("min_spare", max(1, min(_MIN_SPARE, most * per_process, given.get("max_spare", 1 << 62) - room)))
    max_spare = given.get("max_spare", max(_MAX_SPARE, 2 * min_spare, min_spare + room))
    if min_spare > most * per_process:
        raise ModelError(
            "min_spare", min_spare, f"are more than all {what} that there may be ({most * per_process})",
            f"at most {most * per_process}, or a greater max",
        )  # fmt: skip
    if max_spare < min_spare:
        raise ModelError("max_spare", max_spare, f"is less than min_spare ({min_spare})", f"at least {min_spare + room}")
    if max_spare < min_spare + room and most > processes:
        raise ModelError(
            "max_spare", max_spare, f"is less than min_spare ({min_spare}) and the {threads} threads of one more process",
            f"at least {min_spare + room}: else a process that was just started would have to end again",
        )  # fmt: skip
    return Children(most, min_spare, max_spare, requests)


def _check(concurrency: str, given: Mapping[str, int]) -> None:
    for name, value in given.items():
        least = 0 if name in ("requests", "queue") else 1
        most = MOST if name not in ("requests", "max_spare") else 1 << 62
        if (name == "threads" or concurrency in KNOWN_TO[name]) and not least <= value <= most:
            raise ModelError(name, value, "is not allowed", f"a whole number from {least} to {most}")


def _means_nothing(key: str, value: int, concurrency: str) -> ModelError:
    return ModelError(key, value, f"means nothing for concurrency {concurrency!r}", "for " + ", ".join(KNOWN_TO[key]))
