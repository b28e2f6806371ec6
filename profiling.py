"""Where the time of some training steps goes: a trace to look at, a table to read."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from utils import atomic_path

SKIPPED = 2  # steps before the first that is traced: they load kernels and choose algorithms
ROWS = 10
FOLDER, TRACE, TABLE = "profile", "steps.pt.trace.json", "operators.txt"


class StepProfile:
    """Traces `steps` steps, the third of this process and those after it; 0: none.

    Within it, call `step` after each. Then, or where it is left before, `profile/` of the run's
    folder holds steps.pt.trace.json, which TensorBoard (with its profiler plugin), Perfetto and
    Chrome show, and operators.txt, the most expensive operators, which the log has too.
    """

    def __init__(self, steps: int, run: Path, device: torch.device, log: logging.Logger) -> None:
        self.folder, self.log = run / FOLDER, log
        self.by = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        self.is_written = False
        self.profile: profile | None = None
        if steps:
            activities = [ProfilerActivity.CPU]
            if device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self.profile = profile(
                activities=activities,
                schedule=schedule(wait=SKIPPED - 1, warmup=1, active=steps, repeat=1),
                on_trace_ready=self._write,
            )

    def __enter__(self) -> StepProfile:
        if self.profile is not None:
            self.profile.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self.profile is None:
            return
        self.profile.stop()
        if not self.is_written and error is None:
            self.log.warning(
                "warning: --profile traces the steps after the first %d of a start, and this one "
                "had no more: nothing is traced", SKIPPED,
            )  # fmt: skip

    def step(self) -> None:
        """A step is done."""
        if self.profile is not None:
            self.profile.step()

    def _write(self, traced: profile) -> None:
        averages = traced.key_averages()
        averages[:] = [each for each in averages if not each.key.startswith("ProfilerStep")]
        table = averages.table(sort_by=self.by, row_limit=ROWS)
        with atomic_path(self.folder / TRACE) as partial:
            traced.export_chrome_trace(str(partial))
        with atomic_path(self.folder / TABLE) as partial:
            partial.write_text(table + "\n")
        self.is_written = True
        self.log.info("the %d most expensive operators:\n%s", ROWS, table)
        self.log.info("the trace is %s", self.folder / TRACE)
