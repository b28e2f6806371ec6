"""Signals are noted, agreed upon, and given back."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

import stopping
from distributed import World
from stopping import StopRequest, outlive_signals
from utils import Interrupted, run_script

CODE = Path(__file__).parents[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_ends_nothing(number):
    before = signal.getsignal(number)
    with StopRequest(World()) as stop:
        assert stop.agreed() == 0
        stop.check()
        signal.raise_signal(number)
        assert stop.agreed() == number
        with pytest.raises(Interrupted, match=signal.Signals(number).name):
            stop.check()
    assert signal.getsignal(number) == before


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT as Python has it; a shell's background jobs, of which the tests may be one, ignore it.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_echo_is_no_second_signal_but_a_later_one_is(monkeypatch):
    with StopRequest(World()) as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(stopping, "ECHO_SECONDS", -1.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.agreed() == signal.SIGINT


def test_an_interruption_travels_between_processes():
    copy = pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM)))
    assert copy.number == signal.SIGTERM
    assert str(copy) == "SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_exit_code_tells_the_signal(number, capsys):
    def main(_):
        raise Interrupted(number)

    with pytest.raises(SystemExit) as stop:
        run_script(main)
    assert stop.value.code == 128 + number
    assert capsys.readouterr().err == f"stopped by {signal.Signals(number).name}\n"


def test_loader_workers_outlive_the_signals_of_others():
    loader = DataLoader(range(64), 1, num_workers=1, worker_init_fn=outlive_signals)
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    for number in (signal.SIGTERM, signal.SIGINT):  # not from here: from somebody else
        subprocess.run([sys.executable, "-c", f"import os; os.kill({worker.pid}, {int(number)})"])
    assert len(list(batches)) == 63


def test_loader_workers_obey_their_own_run():
    loader = DataLoader(range(4), 1, num_workers=1, persistent_workers=True,
                        worker_init_fn=outlive_signals)  # fmt: skip
    batches = iter(loader)
    assert len(list(batches)) == 4  # all are sent: it waits for the next epoch
    (worker,) = batches._workers
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(30)
    assert worker.exitcode == 0


AGREEMENT = """
import os, signal, sys
from distributed import init_world, leave_world
from stopping import StopRequest
world = init_world(no_cuda=True)
with StopRequest(world) as stop:
    for step in range(6):
        if step == 2 and world.rank == 1:
            signal.raise_signal(signal.SIGTERM)
        number = stop.agreed()
        if number:
            break
    print(f"rank {world.rank} stopped after step {step} by {number}", flush=True)
leave_world(world)
"""


def test_all_processes_stop_after_the_same_step():
    """The second of two is signalled at step 2: the answer is there one step later."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
         "--no-python", sys.executable, "-c", AGREEMENT],
        cwd=CODE, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "PYTHONPATH": str(CODE), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert f"rank {rank} stopped after step 3 by {int(signal.SIGTERM)}" in done.stdout
