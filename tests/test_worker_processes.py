"""Work shared out over processes: its order, and what is left when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import worker_processes
from utils import UserError
from worker_processes import in_processes


def double(number: int) -> int:
    return 2 * number


def die(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize(("num_workers", "at_once"), [(1, 1), (2, 1), (2, 3)])
def test_results_come_in_order(num_workers, at_once):
    assert list(in_processes(double, range(7), num_workers, at_once)) == [*range(0, 14, 2)]


def test_a_killed_worker_is_told():
    with pytest.raises(UserError, match=r"a worker process was killed.*lower --num_workers than 2"):
        list(in_processes(die, range(9), 2))


SLEEPING = """
import os, sys, time
from worker_processes import in_processes

def sleep(_):
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: another writes beside it
    time.sleep(60)

list(in_processes(sleep, range(4), 2))
"""


def test_workers_end_with_the_process_that_started_them():
    with subprocess.Popen([sys.executable, "-c", SLEEPING], stdout=subprocess.PIPE, text=True,
                          cwd=Path(worker_processes.__file__).parent) as run:  # fmt: skip
        workers = [int(run.stdout.readline()) for _ in range(2)]
        run.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() and "Z" not in
              Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[:1]
              for worker in workers):  # fmt: skip
        assert time.monotonic() < deadline, "they go on"
        time.sleep(0.05)
