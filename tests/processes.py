"""Runs of train.py in processes of their own, to be signalled, killed and compared."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from tests import train_probe
from tests.tiny_kitti import arguments, differences
from utils import run_script

CODE = Path(__file__).parents[1]
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = 120  # seconds for what takes a few: several people share the machine
# Its processes are forked from one that has imported everything, which takes longer than a run.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([train_probe.__name__])


def environment(**given: str) -> dict[str, str]:
    """This process's, without a launcher's part, one thread each, and what is given."""
    inherited = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    return inherited | {"OMP_NUM_THREADS": "1"} | given


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def launch(
    launcher: Sequence[str], command_line: Sequence[str], **given: str
) -> subprocess.CompletedProcess:
    """Run under a launcher, a module; the processes' outputs, mixed, are kept."""
    return subprocess.run(
        [sys.executable, "-m", *launcher, *command_line],
        cwd=CODE,
        env=environment(**given),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def wait_for(what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until `what` returns something true; fails after so many seconds."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Job:
    """The probed processes of one run (tests/train_probe.py), without a launcher: quicker to
    start, and to be killed at once. Each has a process group of its own, loader workers included.

    What the probe writes, and the outputs, are in `root/NAME probe`.
    """

    def __init__(
        self, root: Path, name: str, *flags: object, ranks: int = 1, **given: str
    ) -> None:
        self.folder = root / "logs" / name
        self.probe = root / f"{name} probe"
        shutil.rmtree(self.probe, ignore_errors=True)
        self.probe.mkdir()
        given |= {"PROBE_FOLDER": str(self.probe)}
        together = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
                    "MASTER_PORT": str(free_port())} if ranks > 1 else {}  # fmt: skip
        command_line = arguments(root, name, *flags)
        self.processes = []
        for rank in range(ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            whole = environment(**given, **together, **own)
            job = (command_line, whole, self._output(rank))
            process = FORKS.Process(target=_run, args=job)
            process.start()
            self.processes.append(process)

    def _output(self, rank: int) -> Path:
        return self.probe / f"output{rank}"

    @property
    def output(self) -> str:
        """All that the processes have printed, rank by rank."""
        return "\n".join(self._output(n).read_text() for n in range(len(self.processes)))

    def step(self, rank: int = 0) -> int:
        """The step that a rank has begun, counted from 0; -1 before that."""
        path = self.probe / f"step{rank}"
        return int((path.read_text() if path.exists() else "") or -1)

    def until(self, what: Callable[[], object]) -> None:
        """Wait for something that is true before the job ends; else fails, and kills it."""
        end = time.monotonic() + PATIENCE
        while not what():
            late = time.monotonic() > end
            if late:
                self.kill()
            assert not late, f"waited in vain: {self.output}"
            assert not self.ended(), self.output
            time.sleep(0.02)

    def reach(self, step: int, rank: int = 0) -> None:
        """Wait until a rank has begun this step."""
        self.until(lambda: self.step(rank) >= step)

    def waits(self) -> int:
        """How many ranks wait at PROBE_AT."""
        return len(list(self.probe.glob("waits*")))

    def ended(self) -> bool:
        """Whether no process is left."""
        return not any(process.is_alive() for process in self.processes)

    def send(self, number: int, ranks: Sequence[int] | None = None, group: bool = False) -> None:
        """Signal some ranks, by default all; group: their loader workers too."""
        for rank in range(len(self.processes)) if ranks is None else ranks:
            (os.killpg if group else os.kill)(self.processes[rank].pid, number)

    def kill(self) -> None:
        """As a power cut ends it; waits until all are gone."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):  # gone already
                os.killpg(process.pid, signal.SIGKILL)
            process.join()

    def codes(self, seconds: float = PATIENCE) -> list[int]:
        """The exit codes, once all have ended; kills what has not after so many seconds."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(end - time.monotonic(), 0))
        if not self.ended():
            self.kill()
            raise AssertionError(f"not ended after {seconds} s: {self.output}")
        return [process.exitcode for process in self.processes]


def _run(command_line: Sequence[str], given: Mapping[str, str], output: Path) -> None:
    """train_probe.py as a process of its own."""
    os.setsid()
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(given)
    multiprocessing.set_start_method("fork", force=True)  # of loader workers, as in a shell's run
    torch.set_num_threads(1)
    sys.argv = ["train.py", *command_line]
    run_script(lambda _: train_probe.main())


def run_job(root: Path, name: str, *flags: object, ranks: int = 1, **given: str) -> Path:
    """A whole run that ends well; returns its folder."""
    job = Job(root, name, *flags, ranks=ranks, **given)
    assert job.codes(600) == [0] * ranks, job.output
    return job.folder


def run_differences(first: Path, second: Path) -> list[str]:
    """What differs between two runs' metrics.csv, ckpt.pth and models, by one bit or more."""
    found = []
    if (first / "metrics.csv").read_bytes() != (second / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    files = [path.relative_to(first) for path in sorted(first.rglob("*.pth"))]
    assert files == [path.relative_to(second) for path in sorted(second.rglob("*.pth"))]
    return found + [
        f"{file}: {name}"
        for file in files
        if file.name != "ckpt_previous.pth"
        for name in differences(first / file, second / file)
    ]


def leftovers(folder: Path) -> list[Path]:
    """Files that a run has begun and not ended."""
    return [path for path in folder.rglob(".*") if "partial" in path.name]
