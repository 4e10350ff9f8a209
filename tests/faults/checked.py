"""Clients that ask all the time, GET and POST, on kept connections; every response is checked."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Load:
    """Some clients. The application answers with its process id, the method, and the content or the query."""

    def __init__(self, address: tuple[str, int], path: str = "/", clients: int = 6) -> None:
        self.address = address
        self.path = path
        self.answered = 0
        self.pids: Counter[int] = Counter()
        self.wrong: list[str] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        count = 0
        while not self.over.is_set():
            count += 1
            word = f"{number}-{count}"
            method = "POST" if count % 2 else "GET"
            try:
                connection.request(method, f"{self.path}?{word}", word.encode() if method == "POST" else None)
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self._note(f"{method} {word}: {error!r}")
                connection.close()
                continue
            parts = text.split()
            if response.status == 200 and parts[1:] == [method, word]:
                self._note("", int(parts[0]))
            else:
                self._note(f"{method} {word}: {response.status} {text[:200]!r}")
        connection.close()

    def _note(self, wrong: str, pid: int = 0) -> None:
        with self.changed:
            if wrong:
                self.wrong.append(wrong)
            else:
                self.answered += 1
                self.pids[pid] += 1
            self.changed.notify_all()

    def until(self, holds: Callable[[], object], what: str, timeout_s: float = 45.0) -> None:
        """Wait while requests are answered, or until one is not."""
        with self.changed:
            assert self.changed.wait_for(lambda: holds() or self.wrong, timeout_s), what

    def more(self, requests: int) -> None:
        """So many further ones."""
        least = self.answered + requests
        self.until(lambda: self.answered >= least, f"{requests} more requests")


@contextmanager
def load(address: tuple[str, int], path: str = "/", clients: int = 6) -> Iterator[Load]:
    """Clients ask until the end of the block; none of their requests may have been lost."""
    one = Load(address, path, clients)
    for thread in one.threads:
        thread.start()
    try:
        yield one
    finally:
        one.over.set()
        for thread in one.threads:
            thread.join()
    assert not one.wrong, one.wrong[:5]
