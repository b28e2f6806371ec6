"""What was measured, as a table, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Effort, Result, Spread, effort_facts
from utils import atomic_path

HEAD = ("what", "size", "ours (quartiles)", "textbook (quartiles)", "ratio", "target", "met")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "opencv-python")


def table(results: Sequence[Result]) -> str:
    """Rows of equal columns: the ratio stands beside its target."""
    rows = [HEAD, *map(_row, results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (zip(row, widths, strict=True) for row in rows)
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in line) for line in lines)


def _row(result: Result) -> tuple[str, ...]:
    met = {None: "", True: "yes", False: "no"}[result.met]
    beside = "" if result.textbook is None else _spread(result.textbook, result.unit)
    ratio = f"{result.measured:.2f}" if result.textbook or result.target else ""
    return (result.name, result.size, _spread(result.ours, result.unit), beside, ratio,
            str(result.target or ""), met)  # fmt: skip


def _spread(spread: Spread, unit: str) -> str:
    if unit == "s":
        low, median, high = (1e3 * each for each in (spread.low, spread.median, spread.high))
        return f"{median:.1f} ms ({low:.1f}-{high:.1f})"
    return f"{spread.median:,.0f} {unit}"


def report(results: Sequence[Result], effort: Effort, folder: Path) -> None:
    """Write results.json and results.png. Raises UserError if they cannot be written."""
    facts = {
        "machine": {"processor": platform.processor() or platform.machine(),
                    "cores": os.cpu_count(), "python": platform.python_version(),
                    **{name: version(name) for name in PACKAGES}},
        "effort": effort_facts(effort),
        "results": [result.record() for result in results],
    }  # fmt: skip
    with atomic_path(folder / "results.json") as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n")
    with atomic_path(folder / "results.png") as partial:
        plot(results, partial)


def plot(results: Sequence[Result], path: Path) -> None:
    """Each ratio as a bar, its target as a line across it."""
    from matplotlib.figure import Figure

    rows = [each for each in results if each.textbook or each.target]
    figure = Figure(figsize=(9, 1 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    colours = {None: "tab:gray", True: "tab:green", False: "tab:red"}
    for place, each in enumerate(rows):
        axes.barh(place, each.measured, color=colours[each.met])
        if each.target:
            axes.plot([each.target.value] * 2, [place - 0.45, place + 0.45], color="black")
    axes.set_yticks(range(len(rows)), [f"{each.name}, {each.size}" for each in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ratio (line: target; green: met)")
    figure.savefig(path)
