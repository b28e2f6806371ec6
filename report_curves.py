"""The curves of a run as PNG files, one a loss term, score or setting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from run_reader import Run, loss_tag
from utils import atomic_path

HIGHER_IS_BETTER = ("a1", "a2", "a3")
TITLES = {
    "lr": "learning rate",
    "samples_per_second": "throughput (samples a second)",
    "waiting_for_data": "share of the time spent waiting for data",
    "gradient_norm": "gradient norm",
}
SECTIONS = ("loss", "training")  # those beside one for each group of scores


@dataclass(frozen=True)
class Line:
    """Points joined by a line; with dots where there are few."""

    label: str
    x: list[int]
    y: list[float]


@dataclass(frozen=True)
class Plot:
    """One picture: the section of the page it stands in, its title and what it shows."""

    section: str
    title: str
    x_label: str
    lines: list[Line]

    @property
    def file_name(self) -> str:
        """Of its PNG file."""
        return re.sub(r"[^\w.-]+", "_", f"{self.section}_{self.title.partition(' (')[0]}") + ".png"


def plots_of(run: Run) -> Iterator[Plot]:
    """Every curve that a run left, losses first; those without a point are left out."""
    for plot in _all_plots(run):
        lines = [line for line in plot.lines if line.x]
        if lines:
            yield Plot(plot.section, plot.title, plot.x_label, lines)


def _all_plots(run: Run) -> Iterator[Plot]:
    for name in run.loss_terms():
        lines = []
        if loss_tag(name) in run.curves:
            curve = run.curves[loss_tag(name)]
            lines.append(Line("mean since the epoch began", curve.steps, curve.values))
        points = run.column(name)
        lines.append(Line("mean of the epoch", [p[1] for p in points], [p[2] for p in points]))
        yield Plot("loss", name, "step", lines)
    for name, curve in run.training_curves().items():
        title = TITLES.get(name, name)
        yield Plot("training", title, "step", [Line("", curve.steps, curve.values)])
    for group, metrics in run.score_groups().items():
        for metric in metrics:
            points = run.column(f"{group}/{metric}")
            aim = "higher" if metric in HIGHER_IS_BETTER else "lower"
            line = Line("", [p[0] for p in points], [p[2] for p in points])
            yield Plot(group, f"{metric} ({aim} is better)", "epoch", [line])


def save_plot(plot: Plot, path: Path) -> None:
    """Draw a plot to a PNG file."""
    figure = Figure(figsize=(4.8, 2.9), layout="constrained")
    axis = figure.add_subplot()
    for line in plot.lines:
        few = len(line.x) <= 50
        axis.plot(line.x, line.y, "o-" if few else "-", label=line.label, markersize=3, linewidth=1)
    axis.set_title(plot.title, fontsize=11)
    axis.set_xlabel(plot.x_label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.grid(alpha=0.3)
    if len(plot.lines) > 1:
        axis.legend(fontsize=8)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)
