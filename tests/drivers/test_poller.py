"""Descriptors under an epoll of our own."""

from __future__ import annotations

import asyncio
import os

from gateway.drivers.poller import READABLE, Poller


def test_a_duplicate_in_a_child_does_not_wake_us() -> None:
    """Between fork and exec a child holds all our descriptors; closing ours alone leaves them watched."""
    loop = asyncio.new_event_loop()
    rounds: list[str] = []
    poller = Poller(lambda: rounds.append("began"), lambda: rounds.append("over"), loop)
    reader, writer = os.pipe()
    woken: list[int] = []
    poller.watch(reader, READABLE, woken.append)
    os.write(writer, b"x")
    loop.run_until_complete(asyncio.sleep(0))
    assert woken
    assert rounds[:2] == ["began", "over"]
    woken.clear()
    childs = os.dup(reader)
    poller.forget(reader)
    os.close(reader)
    loop.run_until_complete(asyncio.sleep(0))
    assert woken == []
    assert poller._epoll.poll(0) == []
    for descriptor in (childs, writer):
        os.close(descriptor)
    poller.close()
    loop.close()
