"""What a run need not wait for, such as writing files, done in order on one thread."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from utils import LOGGER_NAME

AHEAD = 4  # pieces of work that may wait: what is to be written is held in memory until then


class Background:
    """A thread for files; as a context it ends with all its work done.

    Work must hold its own copies: the run goes on changing what it was handed. An exception of it
    comes out at the next `check` or `finish`.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._pending: deque[Future[None]] = deque()
        self._error: BaseException | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish()
        except Exception as own:
            if error is None:
                raise
            logging.getLogger(LOGGER_NAME).warning("%s", own)  # `error` is what people must see
        finally:
            self._thread.shutdown()

    def submit(self, work: Callable[[], None]) -> None:
        """Do `work` after all earlier work; waits only while more than AHEAD of it is left."""
        while len(self._pending) >= AHEAD:
            self._collect(self._pending.popleft())
        self._pending.append(self._thread.submit(work))

    def check(self) -> None:
        """Raise what finished work raised first. Waits for nothing."""
        while self._pending and self._pending[0].done():
            self._collect(self._pending.popleft())
        error, self._error = self._error, None
        if error is not None:
            raise error

    def finish(self) -> None:
        """Wait until everything is done; raises what it raised first."""
        wait(self._pending)
        self.check()

    def _collect(self, done: Future[None]) -> None:
        self._error = self._error or done.exception()
