"""The folder of a run, read back: options, metrics, curves and pictures, and what it lacks."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from event_files import Curve, Picture, read_events
from utils import UserError, reason

LOSS_VIEWS = ("full", "local", "reshuffled")  # a loss term is called `<view>/<term>`
PLACE = ("epoch", "step")  # columns that say where a row stands
LARGEST = 10**9  # epoch or step; no run is longer, and curves can be drawn to here


@dataclass
class Run:
    """What `read_run` found; missing: a sentence for each thing that it did not."""

    folder: Path
    options: dict[str, Any]
    rows: list[dict[str, float]] = field(default_factory=list)  # an epoch each, cells as numbers
    curves: dict[str, Curve] = field(default_factory=dict)  # by TensorBoard's tag
    pictures: dict[str, Picture] = field(default_factory=dict)  # those drawn last, by tag
    environment: dict[str, Any] = field(default_factory=dict)
    commit: str = ""
    changes: str = ""
    log: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name, for people."""
        return str(self.options.get("exp_name") or self.folder.name)

    @property
    def epochs(self) -> int:
        """How many epochs are done."""
        return int(self.rows[-1]["epoch"]) + 1 if self.rows else 0

    def columns(self) -> list[str]:
        """The columns of metrics.csv beside epoch and step."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name not in PLACE]

    def column(self, name: str) -> list[tuple[int, int, float]]:
        """(epoch, step, value) of every row that has a value of this column."""
        return [
            (int(row["epoch"]), int(row.get("step", 0)), row[name])
            for row in self.rows if name in row
        ]  # fmt: skip

    def loss_terms(self) -> list[str]:
        """The loss and its terms, whether metrics.csv or TensorBoard has them."""
        drawn = [tag.removeprefix("loss/") for tag in self.curves if _is_loss_tag(tag)]
        return list(dict.fromkeys([name for name in self.columns() if _is_loss(name)] + drawn))

    def score_columns(self) -> list[str]:
        """Columns of scores, called `<what was scored>/<metric>`; those of a learned camera aside.
        """
        return [
            name for name in self.columns()
            if "/" in name and not _is_loss(name) and not name.startswith("camera/")
        ]  # fmt: skip

    def score_groups(self) -> dict[str, list[str]]:
        """Metrics by what they were scored on: {"kitti_eigen": ["abs_rel", ...], ...}."""
        groups: dict[str, list[str]] = {}
        for name in self.score_columns():
            group, _, metric = name.partition("/")
            groups.setdefault(group, []).append(metric)
        return groups

    def last_scored_row(self) -> dict[str, float]:
        """The row of the last epoch that has scores; empty if none has."""
        names = set(self.score_columns())
        return next((row for row in reversed(self.rows) if names & row.keys()), {})

    def training_curves(self) -> dict[str, Curve]:
        """What is neither loss nor score: learning rate, throughput, waiting, gradients."""
        curves = {
            tag: curve for tag, curve in self.curves.items()
            if not _is_loss_tag(tag) and not tag.startswith("eval/")
        }  # fmt: skip
        for name in self.columns():
            if "/" not in name and not _is_loss(name) and name not in curves:
                points = self.column(name)
                curves[name] = Curve([step for _, step, _ in points], [v for *_, v in points])
        return curves


def loss_tag(name: str) -> str:
    """The curve in TensorBoard of a loss term, or of the loss itself."""
    return name if name == "loss" else f"loss/{name}"


def _is_loss_tag(tag: str) -> bool:
    return tag == "loss" or tag.startswith("loss/")


def _is_loss(name: str) -> bool:
    return name == "loss" or name.partition("/")[0] in LOSS_VIEWS


def read_run(folder: str | Path, drawn: bool = True) -> Run:
    """Read the folder of a run of train.py; what is not there, or damaged, is in its `missing`.

    drawn: read TensorBoard's events too. Raises UserError for a folder without readable options.
    """
    folder = Path(folder)
    run = Run(folder, _read_options(folder))
    _read_metrics(run)
    if drawn:
        _read_events(run)
    _read_environment(run)
    run.commit = _text(run, "code/commit.txt", "which version of the code ran")
    run.changes = _text(run, "code/changes.diff", "what was changed against the commit")
    run.log = _text(run, "logger.log", "the log").splitlines()
    return run


def _read_options(folder: Path) -> dict[str, Any]:
    """opt.json, which makes a folder a run."""
    path = folder / "opt.json"
    if not path.is_file():
        raise UserError(
            f"{folder} is no run: expected a folder LOG_DIR/EXP_NAME of train.py, which holds "
            "opt.json"
        )
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the options of the run {path}: {reason(error)}") from error
    if not _is_flat(options):
        raise UserError(f"{path} holds no options by name, as train.py writes them")
    return options


def _is_flat(table: Any) -> bool:
    """Whether it maps names to texts, numbers, nothing, and lists of these alone."""
    if not isinstance(table, dict):
        return False
    values = (value if isinstance(value, list) else [value] for value in table.values())
    return not any(isinstance(part, (dict, list)) for parts in values for part in parts)


def _read_metrics(run: Run) -> None:
    """metrics.csv; empty cells are left out of their rows."""
    path = run.folder / "metrics.csv"
    if not path.is_file():
        run.missing.append("metrics.csv is not there: no epoch was finished")
        return
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, restkey="more", restval="")
            lines = [{name: float(cell) for name, cell in line.items() if cell} for line in table]
            columns = dict.fromkeys(table.fieldnames or ())
        if any("epoch" not in line for line in [columns, *lines]):
            raise ValueError("epochs are missing")
        for name, value in ((name, line[name]) for line in lines for name in PLACE if name in line):
            if not (value.is_integer() and 0 <= value <= LARGEST):
                raise ValueError(f"{value:g} is no {name}, a whole number from 0 to {LARGEST:,}")
        if any(1e39 < abs(value) < math.inf for line in lines for value in line.values()):
            raise ValueError("it holds a number that no float32 does, and no curve could show")
        run.rows = lines
    except (OSError, ValueError, TypeError, csv.Error) as error:
        run.missing.append(f"metrics.csv cannot be read: {reason(error)}")
        return
    if not run.score_groups():
        run.missing.append("no evaluation: metrics.csv has no scores")


def _read_events(run: Run) -> None:
    """Curves and the last pictures from TensorBoard's events."""
    folder = run.folder / "tensorboard" / "train"
    if not any(folder.glob("events*")):
        run.missing.append("no TensorBoard events: no curves by step and no pictures")
        return
    events = read_events(folder)
    run.curves, run.pictures = events.curves, events.pictures
    if not run.pictures:
        run.missing.append("no pictures: TensorBoard's events hold none that can be read")
    if events.damaged:
        run.missing.append(
            "TensorBoard's events are read as far as they are whole: damaged, or still being "
            f"written, is {', '.join(events.damaged)}"
        )


def _read_environment(run: Run) -> None:
    text = _text(run, "environment.json", "packages and device")
    if not text:
        return
    try:
        facts = json.loads(text)
        packages = facts.pop("packages", {}) if isinstance(facts, dict) else None
        if not (_is_flat(facts) and _is_flat(packages)):
            raise ValueError("it is not as train.py writes it")
        run.environment = {**facts, "packages": packages}
    except (ValueError, RecursionError) as error:
        run.missing.append(f"environment.json cannot be read: {reason(error)}")


def _text(run: Run, name: str, what: str) -> str:
    """A text file of the run, "" if it is not there, which is then told."""
    try:
        return (run.folder / name).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        run.missing.append(f"{name} ({what}) cannot be read: {reason(error)}")
        return ""
