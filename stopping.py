"""SIGTERM and SIGINT as a wish to stop, which all processes of a run follow at the same step."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from distributed import World
from utils import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ECHO_SECONDS = 3.0  # launchers send a signal on that the terminal has sent already


class StopRequest:
    """While it is entered, SIGTERM and SIGINT end nothing: they are noted.

    A second signal, later than a launcher's echo of the first, does what it always does.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self._signal = 0
        self._since = 0.0
        self._before: dict[int, object] = {}
        self._group: dist.ProcessGroup | None = None
        self._asked: tuple[torch.Tensor, dist.Work] | None = None

    def __enter__(self) -> StopRequest:
        if self.world.size > 1:  # on the CPU: nobody waits for a device to know of a signal
            self._group = dist.new_group(backend="gloo")
        if threading.current_thread() is threading.main_thread():
            self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if not self._signal:
            self._signal, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > ECHO_SECONDS:
            signal.signal(number, self._before[number])
            signal.raise_signal(number)

    def agreed(self) -> int:
        """The signal that any process received, 0 for none: the same on all of them.

        Every process calls this once a step. What it returns is the answer to the question of the
        step before, so that the network has a whole step's time for it.
        """
        if self.world.size == 1:
            return self._signal
        answer = 0
        if self._asked is not None:
            flag, work = self._asked
            work.wait()
            answer = int(flag)
        flag = torch.tensor(self._signal)
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        self._asked = flag, work
        return answer

    @property
    def signal(self) -> int:
        """What this process received, 0 for none."""
        return self._signal

    def check(self) -> None:
        """Raise Interrupted if this process received a signal: where no step is to be finished."""
        if self._signal:
            raise Interrupted(self._signal)


def outlive_signals(worker: int) -> None:  # noqa: ARG001
    """Let a loader's worker ignore the signals that its run will answer (a `worker_init_fn`).

    Schedulers and terminals signal every process of a job; without its workers, a run could not
    finish its step. A SIGTERM of the run itself still ends them, as does the run's end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run = multiprocessing.parent_process().pid
    threading.Thread(target=_obey, args=(run,), daemon=True).start()


def _obey(parent: int) -> None:
    """End this process at a SIGTERM of `parent`, and of nobody else."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
