"""Work shared out over processes, file by file."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from freed_memory import keep_freed_memory
from utils import UserError

Task, Made = TypeVar("Task"), TypeVar("Made")


def in_processes(
    work: Callable[[Task], Made], tasks: Sequence[Task], num_workers: int, at_once: int = 1
) -> Iterator[Made]:
    """work(task) of every task, in order, by that many processes; by this one if it is one.

    at_once: tasks that are handed to a process together. The processes end when this one does,
    however it ends. Raises UserError if one of them is killed, and what `work` raises.
    """
    if num_workers == 1:
        yield from map(work, tasks)
        return
    try:
        with ProcessPoolExecutor(num_workers, initializer=_begin) as pool:
            yield from pool.map(work, tasks, chunksize=at_once)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps since memory ran out: start again, with a lower "
            f"--num_workers than {num_workers}"
        ) from error


def _begin() -> None:
    """What each process does first."""
    keep_freed_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # whatever the work is at: nobody waits for it
