"""What the six models come to: defaults, what excludes each other, and the way over a command line."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import models
from gateway.models import (
    KNOWN_TO,
    MODELS,
    MOST,
    POOLS,
    Children,
    Hosting,
    ModelError,
    children_for,
    cores,
    server_hosting,
    worker_hosting,
)

NUMBERS = st.integers(0, 40) | st.integers(-2, MOST + 2)
GIVEN = st.dictionaries(st.sampled_from(("max", "min_spare", "max_spare", "requests", "queue")), NUMBERS)


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "cores", lambda: 4)


@pytest.mark.parametrize(
    ("model", "processes", "threads", "children"),
    [
        ("single", 1, 1, Children(1)),
        ("fork", 1, 1, Children(64, queue=128)),
        ("thread", 1, 1, Children(64, queue=128)),
        ("prefork", 4, 1, Children(64, 2, 8, 10_000)),
        ("threadpool", 4, 16, Children(8, 2, 18, 10_000)),
        ("event", 4, 1, Children(4)),
    ],
)
def test_defaults_of_a_server(four_cores: None, model: str, processes: int, threads: int, children: Children) -> None:
    assert server_hosting(model) == server_hosting(model, None, None, {}) == Hosting(model, processes, threads, children)


@pytest.mark.parametrize(
    ("model", "processes", "threads", "children"),
    [
        ("single", 1, 1, Children(1)),
        ("fork", 1, 1, Children(64, queue=128)),
        ("thread", 1, 1, Children(64, queue=128)),
        ("prefork", 1, 1, Children(64, 2, 8, 10_000)),
        ("threadpool", 1, 8, Children(1, 2, 10, 10_000)),
        ("event", 1, 8, Children(1)),
    ],
)
def test_defaults_of_an_application_server(model: str, processes: int, threads: int, children: Children) -> None:
    assert worker_hosting(model) == Hosting(model, processes, threads, children)


def test_an_application_that_never_blocks_needs_no_threads_beside_its_loop() -> None:
    assert worker_hosting("event", blocks=False).threads == 1
    assert worker_hosting("threadpool", blocks=False).threads == 8


def test_one_process_a_core(four_cores: None) -> None:
    for model in ("event", *POOLS):
        assert server_hosting(model, 0).processes == 4
        assert worker_hosting(model, 0).processes == 4
    assert server_hosting("prefork", 0, None, {"max": 3}).processes == 3  # on this machine, and nobody asked for four
    assert worker_hosting("prefork", 0, None, {"max": 3}).processes == 3


def test_the_cores_are_those_that_we_may_use() -> None:
    import os

    assert cores() == len(os.sched_getaffinity(0))


def test_many_processes_are_allowed_where_max_does_not_say_otherwise() -> None:
    assert server_hosting("prefork", 100).children.max == 100
    assert server_hosting("threadpool", 9).children.max == 9


def test_a_number_of_workers_is_neither_more_nor_less() -> None:
    for model in POOLS:
        hosting = worker_hosting(model, 3)
        assert (hosting.processes, hosting.children.max) == (3, 3)
    assert worker_hosting("fork", 3).children.max == 3
    assert worker_hosting("event", 3).processes == 3
    assert worker_hosting("threadpool", None, None, {"min_spare": 4}).children.max == 8


@pytest.mark.parametrize(
    ("given", "threads", "min_spare", "max_spare"),
    [
        ({"min_spare": 10}, None, 10, 20),
        ({"max_spare": 1}, None, 1, 1),
        ({"max": 1}, None, 1, 8),
        ({"min_spare": 5}, 16, 5, 21),
        ({"max_spare": 17}, 16, 1, 17),
        ({"max_spare": 40}, 16, 2, 40),
    ],
)
def test_what_is_not_given_fits_what_is(given: dict[str, int], threads: int | None, min_spare: int, max_spare: int) -> None:
    children = server_hosting("threadpool" if threads else "prefork", 1, threads, given).children
    assert (children.min_spare, children.max_spare) == (min_spare, max_spare)


@pytest.mark.parametrize(
    ("model", "processes", "threads", "given", "key", "told"),
    [
        ("single", 2, None, {}, "processes", "means nothing for concurrency 'single'"),
        ("fork", 0, None, {}, "processes", "for prefork, threadpool, event"),
        ("event", None, 4, {}, "threads", "for threadpool"),
        ("event", None, None, {"max": 4}, "max", "for prefork, threadpool, fork, thread"),
        ("prefork", None, None, {"queue": 4}, "queue", "for fork, thread"),
        ("thread", None, None, {"requests": 4}, "requests", "for prefork, threadpool, event"),
        ("prefork", 9, None, {"max": 8}, "processes", "more than there may be at most (8)"),
        ("prefork", 1, None, {"max": 8, "min_spare": 9}, "min_spare", "more than all processes that there may be (8)"),
        ("threadpool", 1, 2, {"max": 2, "min_spare": 5}, "min_spare", "more than all threads that there may be (4)"),
        ("prefork", 1, None, {"min_spare": 5, "max_spare": 4}, "max_spare", "less than min_spare (5)"),
        ("threadpool", 1, 16, {"max_spare": 16}, "max_spare", "at least 17"),
        ("prefork", 1, None, {"max": 0}, "max", "from 1 to"),
        ("prefork", 1, None, {"requests": -1}, "requests", "from 0 to"),
        ("threadpool", 1, 0, {}, "threads", "from 1 to"),
        ("event", -1, None, {}, "processes", "from 1 to"),
        ("fork", 1, None, {"queue": -1}, "queue", "from 0 to"),
        ("fork", 1, None, {"max": MOST + 1}, "max", f"from 1 to {MOST}"),
        ("threadpool", 1, 1000, {"max": 1000}, "max", "at most 65"),
    ],
)
def test_what_excludes_each_other(
    model: str, processes: int | None, threads: int | None, given: dict[str, int], key: str, told: str
) -> None:
    with pytest.raises(ModelError) as caught:
        server_hosting(model, processes, threads, given)
    assert caught.value.key == key
    assert told in str(caught.value)
    assert caught.value.remedy


def test_one_process_in_which_idle_threads_come_and_go_with_nothing() -> None:
    """max_spare never ends a process if there is no other."""
    assert worker_hosting("threadpool", 1, 16, {"max": 1, "max_spare": 4}).children.max_spare == 4


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(MODELS), NUMBERS | st.none(), NUMBERS | st.none(), GIVEN, st.booleans())
def test_whatever_is_given_is_consistent_or_refused(
    model: str, processes: int | None, threads: int | None, given: dict[str, int], worker: bool
) -> None:
    make = worker_hosting if worker else server_hosting
    try:
        hosting = make(model, processes, threads, given)
    except ModelError:
        return
    children = hosting.children
    assert hosting.concurrency == model
    assert hosting.processes >= 1
    assert hosting.threads >= 1
    assert children.max >= 1
    if processes and model in KNOWN_TO["processes"]:
        assert hosting.processes == processes
    for name, value in given.items():
        assert getattr(children, name) == value
    if model in POOLS:
        assert hosting.processes <= children.max
        assert 1 <= children.min_spare <= children.max * hosting.threads
        assert children.min_spare <= children.max_spare
        if hosting.processes < children.max and model == "threadpool":
            assert children.min_spare + hosting.threads <= children.max_spare
    assert children == children_for(model, given | _known(model, children), hosting.processes, hosting.threads)


def _known(model: str, children: Children) -> dict[str, int]:
    names = ("max", "min_spare", "max_spare", "requests", "queue")
    return {name: getattr(children, name) for name in names if model in KNOWN_TO[name]}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(MODELS), st.integers(1, 9) | st.none(), st.integers(1, 9) | st.none(), GIVEN, st.booleans())
def test_a_command_line_says_the_same(
    model: str, processes: int | None, threads: int | None, given: dict[str, int], blocks: bool
) -> None:
    try:
        hosting = worker_hosting(model, processes, threads, given, blocks=blocks)
    except ModelError:
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--concurrency")
    for name in KNOWN_TO:
        parser.add_argument("--" + name.replace("_", "-"), type=int)
    read: dict[str, Any] = {name: value for name, value in vars(parser.parse_args(list(hosting.options()))).items()
                            if value is not None}  # fmt: skip
    again = worker_hosting(
        read.pop("concurrency"), read.pop("processes", None), read.pop("threads", None), read, blocks=blocks
    )
    assert again == hosting


@pytest.mark.parametrize(
    ("hosting", "told"),
    [
        (worker_hosting("single"), "single"),
        (worker_hosting("fork", 3), "fork, at most 3"),
        (worker_hosting("prefork", 1), "prefork, 1 process"),
        (server_hosting("prefork", 2), "prefork, 2 to 64 processes"),
        (worker_hosting("threadpool", 2), "threadpool, 2 processes x 8 threads"),
        (worker_hosting("event", 2, blocks=False), "event, 2 processes"),
    ],
)
def test_in_a_few_words(hosting: Hosting, told: str) -> None:
    assert str(hosting) == told
