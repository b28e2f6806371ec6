"""What a run leaves in its folder for people: log, options, code version, curves, metrics."""

from __future__ import annotations

import contextlib
import csv
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, distributed
from torch.utils.tensorboard import SummaryWriter
from yacs.config import CfgNode

from utils import UserError, atomic_path, format_duration, reason, setup_logging

LAUNCHERS = ("local_rank", "global_rank", "world_size")  # of one process, not of the run


class Clock:
    """Time spent waiting for data and time in all, per batch since it was made."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._data = self._total = 0.0
        self._batches = 0

    def _lap(self) -> float:
        last, self._last = self._last, time.perf_counter()
        return self._last - last

    def skip(self) -> None:
        """What was done since the last call counts as neither."""
        self._lap()

    def data_is_here(self) -> None:
        """A batch has arrived."""
        self._data += self._lap()

    def step_is_done(self) -> None:
        """Its step is done (on CUDA: queued; the queue fills up, so the totals come out right)."""
        self._total += self._lap()
        self._batches += 1

    @property
    def data_time(self) -> float:
        """Seconds a batch waited for."""
        return self._data / self._batches

    @property
    def batch_time(self) -> float:
        """Seconds a batch took, waiting included."""
        return (self._data + self._total) / self._batches

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data."""
        return self._data / (self._data + self._total)


@dataclass(frozen=True)
class Progress:
    """How far a run is: batches done in this epoch, steps done in all, samples of a step."""

    epoch: int
    batch: int
    batches: int
    step: int
    steps: int
    samples: int


class RunLog:
    """The folder of a run, written by the main process; the other ranks' calls do nothing.

    `logger.log`, `opt.json`, `options.yaml` (the same for --config), `code/` (commit and
    uncommitted changes), `environment.json`, `tensorboard/train`, `metrics.csv` and, with a
    validation list, `pictures/`.
    """

    def __init__(self, folder: Path, is_main: bool, step: int = 0) -> None:
        """Make the folder, or go on in it from `step`, which hides what an interrupted run drew
        beyond it. Raises UserError if it cannot be written."""
        self.folder, self.is_main = folder, is_main
        if is_main:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self.logger = setup_logging(folder / "logger.log")
                events = str(folder / "tensorboard" / "train")
                self.writer = SummaryWriter(events, purge_step=step + 1 if step else None)
            except OSError as error:
                message = f"cannot write the run's folder {folder}: {reason(error)}"
                raise UserError(message) from error
        else:
            self.logger = setup_logging(is_main=False)

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        if self.is_main:
            try:
                self.writer.close()
            except OSError as error:  # the run is over: what ended it must be seen
                self.logger.warning("cannot write %s: %s", self.folder, reason(error))

    def record(self, options: Mapping[str, object]) -> None:
        """Write the resolved options, the version of the code, and what it runs on."""
        if self.is_main:
            with atomic_path(self.folder / "opt.json") as partial:
                partial.write_text(json.dumps(dict(options), indent=2) + "\n", encoding="utf-8")
            with atomic_path(self.folder / "options.yaml") as partial:
                partial.write_text(options_file(options), encoding="utf-8")
            snapshot_code(Path(__file__).resolve().parent, self.folder / "code")
            with atomic_path(self.folder / "environment.json") as partial:
                environment = describe_environment(bool(options.get("no_cuda")))
                partial.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")

    def progress(
        self, at: Progress, clock: Clock, means: Mapping[str, float], learning_rate: float
    ) -> dict[str, float]:
        """A line in the log; returns the points on the curves. means: of every loss term."""
        terms = ", ".join(f"{name} {value:.5f}" for name, value in means.items())
        left = format_duration((at.steps - at.step) * clock.batch_time)
        self.logger.info(
            f"epoch {at.epoch}, batch {at.batch}/{at.batches} | data {clock.data_time:.3f} s, "
            f"batch {clock.batch_time:.3f} s, waiting {clock.waiting:.0%} | {terms} | "
            f"lr {learning_rate:.2e} | {left} left"
        )
        # The total's curve is called as users of this family know it; a camera is no loss.
        own = ("loss", "camera/")
        curves = {name if name.startswith(own) else f"loss/{name}": means[name] for name in means}
        return curves | {
            "lr": learning_rate,
            "samples_per_second": at.samples / clock.batch_time,
            "waiting_for_data": clock.waiting,
        }

    @contextlib.contextmanager
    def _drawing(self) -> Iterator[None]:
        """Makes a full disk a UserError."""
        try:
            yield
        except OSError as error:
            folder = self.folder / "tensorboard"
            raise UserError(f"cannot write {folder}: {reason(error)}") from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points on the curves of the same names."""
        if self.is_main:
            with self._drawing():
                for name, value in values.items():
                    self.writer.add_scalar(name, value, step)

    def images(self, pictures: Mapping[str, Tensor], step: int) -> None:
        """Pictures (3 or 1, H, W) in [0, 1]."""
        if self.is_main:
            with self._drawing():
                for name, picture in pictures.items():
                    self.writer.add_image(name, picture, step)

    def validation(
        self, pictures: Mapping[str, Tensor], sheet: np.ndarray, epoch: int, step: int
    ) -> None:
        """Pictures of the validation list, under `val/`; and their sheet, uint8 (h, w, 3), as
        `pictures/val{epoch}.png`."""
        self.images({f"val/{name}": picture for name, picture in pictures.items()}, step)
        if self.is_main:
            with atomic_path(self.folder / "pictures" / f"val{epoch}.png") as partial:
                Image.fromarray(sheet).save(partial)

    def histogram(self, name: str, values: Tensor, step: int) -> None:
        """How the values, of any shape, kind and device, are spread; those that are no numbers are
        left out, as TensorBoard refuses them."""
        values = values.detach().float()
        values = values[values.isfinite()]
        if self.is_main and len(values):
            self.writer.add_histogram(name, values, step)

    def metrics(self, row: Mapping[str, object]) -> None:
        """Add an epoch's row to metrics.csv; rows of this epoch and later ones are replaced, as
        a resumed run passes there again."""
        if not self.is_main:
            return
        path = self.folder / "metrics.csv"
        rows: list[Mapping[str, object]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [old for old in csv.DictReader(file) if int(old["epoch"]) < row["epoch"]]
        names = list(dict.fromkeys(name for each in [*rows, row] for name in each))
        with (
            atomic_path(path) as partial,
            partial.open("w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, names, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows([*rows, row])


def options_file(options: Mapping[str, object]) -> str:
    """Options as a file that --config takes; without those that are not set, and a launcher's."""
    chosen = {name: value for name, value in options.items() if value is not None}
    for name in LAUNCHERS:
        chosen.pop(name, None)
    return CfgNode(chosen).dump(sort_keys=False, default_flow_style=None)


def describe_environment(no_cuda: bool = False) -> dict[str, object]:
    """What a run's speed and last digits hang on, as JSON takes it.

    Python, system, torch with its CUDA and cuDNN, the device, the number of processes, and every
    installed package with its version.
    """
    if torch.cuda.is_available() and not no_cuda:
        device = torch.cuda.get_device_name()
    else:
        device = f"CPU ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"
    started = distributed.is_available() and distributed.is_initialized()
    named = ((each.metadata.get("Name"), each) for each in importlib.metadata.distributions())
    packages = {name: each.version for name, each in named if name}  # a broken one has no name
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "device": device,
        "processes": distributed.get_world_size() if started else 1,
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def snapshot_code(source: Path, folder: Path) -> None:
    """Write which code ran: `commit.txt`, and `changes.diff` against that commit.

    Outside a git checkout commit.txt says so.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(source), *arguments]
        try:
            run = subprocess.run(command, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return run.stdout.decode("utf-8", "replace")

    commit = git("rev-parse", "HEAD")
    status = git("status", "--short") or ""
    text = f"commit {commit.strip()}\n{status}" if commit else "not a git checkout\n"
    with atomic_path(folder / "commit.txt") as partial:
        partial.write_text(text, encoding="utf-8")
    with atomic_path(folder / "changes.diff") as partial:
        partial.write_text(git("diff", "HEAD", "--", ".") or "", encoding="utf-8")
