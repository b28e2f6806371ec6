"""Rows of published tables, and ours beside them.

A table is a .csv file with the columns `benchmark` (a protocol's name, such as kitti_eigen),
`model`, `source` and metrics: `configs/published_results.csv`, or one of the user's own.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from evaluation import METRICS, PROTOCOLS, EvaluationResult
from utils import UserError, reason

TEXT = ("benchmark", "model", "source")


@dataclass(frozen=True)
class PublishedRow:
    """What one model scored on one benchmark, and who says so."""

    benchmark: str
    model: str
    source: str
    metrics: dict[str, float]  # those that were published


def read_rows(path: str | Path, benchmarks: Collection[str]) -> list[PublishedRow]:
    """The rows of a table that are about one of `benchmarks`.

    Raises UserError, naming file and line, for what is no such table, and if none of them is.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file, restkey="more", restval="")
            named = lines.fieldnames or []
            unknown = set(named) - METRICS.keys() - set(TEXT)
            if unknown or not {"benchmark", "model"} <= set(named):
                raise UserError(
                    f"{path} needs the columns benchmark, model, source and any of "
                    f"{', '.join(METRICS)}; its first line is {','.join(named)!r}"
                )
            rows = [_row(line, f"{path}:{lines.line_num}") for line in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the published results {path}: {reason(error)}") from error
    chosen = [row for row in rows if row.benchmark in benchmarks]
    if not chosen:
        raise UserError(f"{path} has no row for {' or '.join(benchmarks)}")
    return chosen


def _row(line: dict[str, str], where: str) -> PublishedRow:
    """A line of the table; an empty cell is a metric that was not published."""
    if line["benchmark"] not in PROTOCOLS or "more" in line:
        known = ", ".join(PROTOCOLS)
        raise UserError(f"{where}: expected a benchmark ({known}), a model and a cell a column")
    metrics = {name: _metric(line[name], where) for name in METRICS if line.get(name)}
    return PublishedRow(line["benchmark"], line["model"], line.get("source", ""), metrics)


def _metric(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: expected a number, got {text!r}")
    return value


def comparison(result: EvaluationResult, rows: Collection[PublishedRow]) -> str:
    """Ours, and each row on this benchmark with its difference, ours minus published.

    Empty where the rows are about other benchmarks.
    """
    ours = result.mean()
    about = [row for row in rows if row.benchmark == result.protocol.name]
    if not about:
        return ""
    difference = "  ours minus it"
    width = max(len(text) for text in (difference, *(row.model for row in about))) + 2
    lines = [" " * width + "".join(f"{name:>10}" for name in ours)]
    lines.append(f"{'ours':<{width}}" + "".join(f"{value:>10.3f}" for value in ours.values()))
    for row in about:
        published = [row.metrics.get(name) for name in ours]
        cells = "".join(" " * 10 if value is None else f"{value:>10.3f}" for value in published)
        lines.append(f"{row.model:<{width}}{cells}  ({row.source or 'no source stated'})")
        pairs = zip(ours.values(), published, strict=True)
        cells = "".join(" " * 10 if p is None else f"{value - p:>+10.3f}" for value, p in pairs)
        lines.append(f"{difference:<{width}}{cells}")
    return "\n".join(lines)
