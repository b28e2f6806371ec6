"""Measuring two ways of doing one thing, turn by turn, and what is asked of their ratio.

Time is what one processor spends, of this process and of those it started: other people's work on
the machine then moves it little.
"""

from __future__ import annotations

import gc
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class Target(NamedTuple):
    """What a measured value has to keep to; reason: what bounds it, where it is known not to.

    bound: how far the reason goes. What is worse is a loss that it does not explain.
    """

    value: float
    at_most: bool = False
    reason: str = ""
    bound: float | None = None

    def met(self, measured: float) -> bool:
        """Whether a value keeps to it."""
        return self._holds(measured, self.value)

    def explains(self, measured: float) -> bool:
        """Whether a value that misses it does so for the reason."""
        return bool(self.reason) and (self.bound is None or self._holds(measured, self.bound))

    def _holds(self, measured: float, limit: float) -> bool:
        return measured <= limit if self.at_most else measured >= limit

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.value:g}"


class Spread(NamedTuple):
    """Of repeated measurements: their median, and the halfway points to both ends (quartiles)."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Of one value: itself."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Result:
    """One row of the table.

    ours, textbook: in `unit`, for the same work. measured: what the target is about; without a
    textbook's side it is ours itself, else how many times less ours takes (`Target` at least), or
    the share of the textbook's that it takes (at most).
    """

    name: str
    size: str
    unit: str
    ours: Spread
    textbook: Spread | None = None
    target: Target | None = None

    @property
    def measured(self) -> float:
        """The ratio, or ours where there is nothing beside it."""
        if self.textbook is None:
            return self.ours.median
        if self.target is not None and self.target.at_most:
            return self.ours.median / self.textbook.median
        return self.textbook.median / self.ours.median

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.met(self.measured)

    @property
    def reason(self) -> str:
        """Why the target is missed; empty where it is met, or where nothing explains it."""
        excused = self.met is False and self.target.explains(self.measured)
        return self.target.reason if excused else ""

    def record(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "name": self.name,
            "size": self.size,
            "unit": self.unit,
            "ours": self.ours._asdict(),
            "textbook": self.textbook and self.textbook._asdict(),
            "ratio": self.measured,
            "target": self.target and str(self.target),
            "met": self.met,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Effort:
    """How much is done. repeats: turns of each side; samples: of each turn of the loading."""

    repeats: int
    samples: int
    scans: int
    frames: tuple[int, ...]  # of a Cityscapes snippet
    sizes: tuple[tuple[int, int], ...]  # (height, width) of network input
    points: tuple[int, ...]  # of a laser scan
    backbones: tuple[str, ...] = ("resnet",)  # of a training step
    compiles: bool = False  # the step, which takes minutes


FULL = Effort(5, 32, 8, (6, 30), ((96, 320), (192, 640), (320, 1024)), (30_000, 120_000),
              ("resnet", "hrnet"), True)  # fmt: skip
QUICK = Effort(3, 24, 3, (6, 30), ((192, 640),), (120_000,))


def processor_seconds(work: Callable[[], object]) -> float:
    """What a piece of work costs: user and system time, of child processes too."""
    before = _spent()
    work()
    return _spent() - before


def _spent() -> float:
    running = [clock_of(child.pid) for child in multiprocessing.active_children()]
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # of those that have ended
    usages = [resource.getrusage(each) for each in whose]
    ended = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return ended + sum(map(time.clock_gettime, running))


def clock_of(pid: int) -> int:
    """Linux' name for what a process has spent, as of its C library's clock_getcpuclockid."""
    return ~pid << 3 | 2


def interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int, per: int = 1
) -> dict[str, Spread]:
    """Processor seconds of each side for one of `per` pieces, in turns: A B A B ...

    Each side runs once before, unmeasured, so that files and code are in memory.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for work in sides.values():
        work()
    for _ in range(repeats):
        for name, work in sides.items():
            gc.collect()
            seconds[name].append(processor_seconds(work) / per)
    return {name: Spread.of(values) for name, values in seconds.items()}


def effort_facts(effort: Effort) -> dict[str, Any]:
    """For results.json."""
    return asdict(effort)
