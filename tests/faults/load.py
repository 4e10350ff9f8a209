"""Clients that ask throughout a test, on new connections and on kept ones, and look at every answer."""

from __future__ import annotations

import threading
import time
from http.client import HTTPConnection, HTTPException

from tests.conftest import eventually


class Load:
    """Clients that ask without a pause until told to stop; every answer is looked at."""

    def __init__(self, address: tuple[str, int], kept: int, fresh: int) -> None:
        self.address = address
        self.answered = 0
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._count = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(True,)) for _ in range(kept)]
        self._threads += [threading.Thread(target=self._run, args=(False,)) for _ in range(fresh)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        eventually(lambda: self.answered > 20 or self.wrong, "some answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, keeps: bool) -> None:
        connection: HTTPConnection | None = None
        while not self._stop.is_set():
            with self._lock:
                self._count += 1
                number = self._count
            if connection is None:
                connection = HTTPConnection(*self.address, timeout=20)
            try:
                closes = self._ask(connection, number)
                self.answered += 1
            except (OSError, HTTPException, AssertionError) as error:
                self.wrong.append(f"{'kept' if keeps else 'fresh'} {number}: {error!r}")
                closes = True
            if closes or not keeps:
                connection.close()
                connection = None
            time.sleep(0.002)  # a client that leaves room for the gateway, on a machine with few cores
        if connection is not None:
            connection.close()

    def _ask(self, connection: HTTPConnection, number: int) -> bool:
        """Whether the server says that it closes the connection."""
        content = b"n%d" % number * (1 + number % 50)
        if number % 3:
            connection.request("GET", f"/h/bytes?n={number % 3000}")
        else:
            connection.request("POST", "/h/echo", content)
        response = connection.getresponse()
        got = response.read()
        assert response.status == 200, (response.status, got)
        assert len(got) == number % 3000 if number % 3 else got == content, got[:100]
        return response.getheader("Connection") == "close"
