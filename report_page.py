"""A run as one HTML page that needs nothing beside it: no file, no network, no script."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape, unescape
from pathlib import Path
from typing import Any

from evaluation import FOLDER, PROTOCOLS
from report_curves import HIGHER_IS_BETTER, Plot
from run_comparison import Group, code_of
from run_reader import Run

STYLE = """
:root { color-scheme: light dark; }
body {
  font: 16px/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 1200px; overflow-wrap: anywhere; padding: 0 12px 48px;
}
h1, h2, h3 { line-height: 1.2; }
h2 { border-bottom: 1px solid #8886; margin-top: 40px; padding-bottom: 4px; }
.wide, pre { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td {
  border-bottom: 1px solid #8884;
  padding: 3px 12px 3px 0; text-align: left; vertical-align: top;
}
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.text { overflow-wrap: anywhere; }
th, .text:first-child { overflow-wrap: normal; white-space: nowrap; }
.grid {
  display: grid; gap: 12px; margin-top: 16px;
  grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr));
}
figure { margin: 0; }
figure img { background: #fff; border-radius: 4px; display: block; height: auto; width: 100%; }
figcaption { font-size: 13px; }
pre { font-size: 12px; }
summary { cursor: pointer; margin-top: 12px; }
.missing { background: #fa03; border-radius: 4px; margin-top: 12px; padding: 8px 12px; }
"""
# Pictures in the order in which they explain each other; %s is a source frame.
PICTURES = {
    r"color_0_0": "image",
    r"disp_0": "disparity",
    r"color_pred_s_0": "warped from the stereo partner",
    r"color_pred_(.+)_0": "warped from frame %s",
    r"error_0": "error of the warped picture",
    r"automask_0": "auto-mask (white: counts in the loss)",
    r"color_s_0": "stereo partner",
    r"color_(.+)_0": "source frame %s",
}
VALIDATION = "val/"  # before the tags of pictures of the validation list
MADE_BY = '<meta name="generator" content="BDEdepth report.py">'
LOG_LINES = 40  # shown, from the end


def page(
    run: Run,
    plots: Sequence[tuple[Plot, Path]],
    groups: Sequence[Group],
    defaults: Mapping[str, Any],
) -> str:
    """The page. plots: with their PNG files; groups: of compared runs, or none; defaults: of
    train.py's options."""
    title = f"Run {run.name}"
    sections = [
        _summary(run),
        _evaluation(run, plots),
        _comparison(groups),
        _curves("Losses", plots, "loss"),
        _curves("Learning rate, speed and gradients", plots, "training"),
        _pictures(run),
        _options(run, defaults),
        _environment(run),
        _details(f"The log's last {LOG_LINES} lines", f"<pre>{_text(run.log[-LOG_LINES:])}</pre>"),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'{MADE_BY}\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _summary(run: Run) -> str:
    wanted = run.options.get("num_epochs", "?")
    state = "finished" if run.epochs == wanted else "not finished"
    step = f", {run.rows[-1]['step']:.0f} steps" if run.rows and "step" in run.rows[-1] else ""
    facts = [
        ("state", f"{state}: {run.epochs} of {wanted} epochs{step}"),
        ("folder", str(run.folder.resolve())),
        ("code", code_of(run)),
        ("device", run.environment.get("device", "not known")),
    ]
    if run.log:
        facts.append(("time", f"{run.log[0][:19]} to {_last_time(run.log)}"))
    missing = "".join(f"<li>{escape(sentence)}</li>" for sentence in run.missing)
    told = f'<div class="missing">Missing:<ul>{missing}</ul></div>' if missing else ""
    return _table(None, facts) + told


def _last_time(log: Sequence[str]) -> str:
    """When the log's last entry was written; an entry may have several lines."""
    times = (line[:19] for line in reversed(log) if re.match(r"\d{4}-\d\d-\d\d \d\d:", line))
    return next(times, "?")


# ---- numbers -------------------------------------------------------------------------------------


def score_title(group: str) -> str:
    """What was scored: a protocol's name, a sequence, or the group's own name."""
    if group in PROTOCOLS:
        return PROTOCOLS[group].title
    if group.startswith("kitti_odom_"):
        return f"KITTI odometry, sequence {group.removeprefix('kitti_odom_')} (camera path)"
    titles = {"val": "Validation list (no true depth)", FOLDER.name: FOLDER.title}
    return titles.get(group, group)


def how_scored(title: str, log: Sequence[str]) -> str:
    """How a protocol was applied last: what `EvaluationResult.table` told the log after the title,
    list, resize, images and scaling; "" where the log has no such table."""
    for number in range(len(log) - 1, -1, -1):
        said = log[number].partition(": ")[2]
        if said.startswith(title):
            how = [said.removeprefix(title).strip(" ;"), *log[number + 1 : number + 2]]
            return "; ".join(how)
    return ""


def _evaluation(run: Run, plots: Sequence[tuple[Plot, Path]]) -> str:
    """A table a protocol, a row an epoch, the best of each column bold; then the curves."""
    parts = []
    for group, metrics in run.score_groups().items():
        title = score_title(group)
        rows = [row for row in run.rows if any(f"{group}/{metric}" in row for metric in metrics)]
        columns = [[f"{row['epoch']:.0f}" for row in rows]]
        for metric in metrics:
            values = [row.get(f"{group}/{metric}") for row in rows]
            best = _best(metric, values)
            columns.append([_number(value, value == best) for value in values])
        parts.append(f"<h3>{escape(title)}</h3>\n<p>{escape(how_scored(title, run.log))}</p>")
        rows = zip(*columns, strict=True)
        parts.append(_table(["epoch", *metrics], rows, numbers=True))
        parts.append(_grid(plots, group))
    return "<h2>Evaluation</h2>\n" + "\n".join(parts) if parts else ""


def _best(metric: str, values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return (max if metric in HIGHER_IS_BETTER else min)(known, default=None)


class Markup(str):
    """Text that is HTML already."""


def _number(value: float | None, bold: bool = False) -> str:
    if value is None:
        return "–"
    return Markup(f"<b>{value:.4f}</b>") if bold else f"{value:.4f}"


def _comparison(groups: Sequence[Group]) -> str:
    """A table a protocol, a row a group of runs that differ by their seed alone."""
    if not groups:
        return ""
    parts = [
        "<h2>Comparison</h2>\n<p>Runs of equal options and code are one row: mean ± standard "
        "deviation (n − 1) over their seeds, after the last scored epoch. The options in which "
        "rows differ are columns.</p>"
    ]
    columns = dict.fromkeys(name for group in groups for name in group.scores)
    for name in dict.fromkeys(column.partition("/")[0] for column in columns):
        own = [column for column in columns if column.partition("/")[0] == name]
        header = ["runs", "seeds", "n", "epoch", *groups[0].settings]
        header += [column.partition("/")[2] for column in own]
        rows = []
        for group in groups:
            scores = [str(group.scores.get(column, "–")) for column in own]
            epoch = "–" if group.epoch is None else group.epoch
            about = [", ".join(group.names), ", ".join(map(str, group.seeds)), len(group.names)]
            rows.append([*about, epoch, *map(_value, group.settings.values()), *scores])
        parts.append(f"<h3>{escape(score_title(name))}</h3>")
        parts.append(_table(header, rows, numbers=True))
    if not columns:
        parts.append("<p>None of the runs has scores.</p>")
    for sentence in (sentence for group in groups for sentence in group.copies):
        parts.append(f"<p>Counted once: {escape(sentence)}</p>")
    return "\n".join(parts)


# ---- pictures ------------------------------------------------------------------------------------


def _curves(title: str, plots: Sequence[tuple[Plot, Path]], section: str) -> str:
    grid = _grid(plots, section)
    return f"<h2>{escape(title)}</h2>\n{grid}" if grid else ""


def _grid(plots: Sequence[tuple[Plot, Path]], section: str) -> str:
    own = [(plot, path) for plot, path in plots if plot.section == section]
    figures = [_figure(path.read_bytes(), path.name, plot.title, "") for plot, path in own]
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def _pictures(run: Run) -> str:
    """The last pictures, a block a sample of the batch."""
    samples: dict[str, list[tuple[int, str, str]]] = {}
    for tag in run.pictures:
        kind, _, sample = tag.rpartition("/")
        if kind.startswith(VALIDATION):
            kind, sample = kind.removeprefix(VALIDATION), f"{sample} of the validation list"
        samples.setdefault(sample, []).append((*_caption(kind), tag))
    if not samples:
        return ""
    step = next(iter(run.pictures.values())).step
    parts = [f"<h2>Pictures of step {step}</h2>"]
    for sample in sorted(samples, key=lambda name: (" " in name, name)):  # training's first
        figures = "".join(
            _figure(run.pictures[tag].png, picture_file(tag), caption, caption)
            for _, caption, tag in sorted(samples[sample])
        )
        parts.append(f'<h3>Sample {escape(sample)}</h3>\n<div class="grid">{figures}</div>')
    return "\n".join(parts)


def _caption(kind: str) -> tuple[int, str]:
    """A picture's place among those of its sample, and what it is, from its tag."""
    for place, (pattern, caption) in enumerate(PICTURES.items()):
        found = re.fullmatch(pattern, kind)
        if found:
            return place, caption % found.groups() if found.groups() else caption
    return len(PICTURES), kind


def picture_file(tag: str) -> str:
    """Name of the PNG file of TensorBoard's picture of this tag."""
    return f"{tag.replace('/', '_')}.png"


def _figure(png: bytes, name: str, alt: str, caption: str) -> str:
    data = base64.b64encode(png).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    about = f'data-file="{escape(name)}" alt="{escape(alt)}"'
    return f'<figure><img {about} src="data:image/png;base64,{data}">{below}</figure>'


def is_page(path: Path) -> bool:
    """Whether a file that is there is a page of this module's."""
    try:
        return MADE_BY in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def files_of(html: Path) -> list[Path]:
    """PNG files that lie beside a page as it was written with them; none where there is no page."""
    try:
        text = html.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    figures = re.findall(r'<img data-file="([^"]+\.png)" alt="[^"]*" src="[^,"]*,([^"]*)">', text)
    paths = ((html.parent / Path(unescape(name)).name, data) for name, data in figures)
    return [path for path, data in paths if _holds(path, data)]


def _holds(path: Path, data: str) -> bool:
    """Whether a file's bytes are these, in base64."""
    try:
        return base64.b64encode(path.read_bytes()).decode("ascii") == data
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


# ---- what it was made with -----------------------------------------------------------------------


def _options(run: Run, defaults: Mapping[str, Any]) -> str:
    """The options that differ from their defaults, then the others."""
    changed = {n: v for n, v in run.options.items() if n not in defaults or v != defaults[n]}
    rest = {name: value for name, value in run.options.items() if name not in changed}
    rows = [(f"--{n}", _value(v), _value(defaults.get(n, "–"))) for n, v in changed.items()]
    others = _table(["option", "value"], [(f"--{n}", _value(v)) for n, v in rest.items()])
    return (
        "<h2>Options</h2>\n<p>Those that differ from this version's defaults:</p>\n"
        + _table(["option", "value", "default"], rows)
        + _details(f"{len(rest)} options as by default", others)
    )


def _value(value: Any) -> str:
    """An option's value, for people."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not given" if value is None else str(value)


def _environment(run: Run) -> str:
    packages = run.environment.get("packages", {})
    facts = [(name, _value(value)) for name, value in run.environment.items() if name != "packages"]
    parts = ["<h2>Environment and code</h2>", _table(None, facts)]
    if packages:
        listed = _table(["package", "version"], packages.items())
        parts.append(_details(f"{len(packages)} packages", listed))
    parts.append(f"<pre>{_text(run.commit.splitlines())}</pre>")
    if run.changes:
        diff = f"<pre>{_text(run.changes.splitlines())}</pre>"
        parts.append(_details("Changes against the commit", diff))
    return "\n".join(parts)


# ---- pieces --------------------------------------------------------------------------------------


def _text(lines: Iterable[str]) -> str:
    return escape("\n".join(lines))


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>\n{body}\n</details>"


def _table(
    header: Sequence[str] | None, rows: Iterable[Sequence[Any]], numbers: bool = False
) -> str:
    """Rows under a header, cells escaped; wider than the screen, it scrolls by itself."""
    kind = "number" if numbers else "text"

    def line(cells: Iterable[Any], tag: str) -> str:
        texts = (cell if isinstance(cell, Markup) else escape(str(cell)) for cell in cells)
        return "<tr>" + "".join(f'<{tag} class="{kind}">{t}</{tag}>' for t in texts) + "</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if header else ""
    body = "".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'
