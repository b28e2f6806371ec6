"""A run as one HTML page, with its curves and pictures as PNG files; and runs beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from options import train_options
from tool_options import report_options
from utils import atomic_path, check_results, check_writable, run_script


def main(argv: Sequence[str] | None = None) -> None:
    """Read the run, draw it, write report.html last."""
    opt = report_options(argv)
    from report_curves import plots_of, save_plot
    from report_page import files_of, is_page, page, picture_file
    from run_comparison import compare
    from run_reader import read_run

    run = read_run(opt.exp)
    folders = {Path(folder).resolve(): folder for folder in (opt.exp, *opt.compare)}
    others = [read_run(folder, drawn=False) for folder in list(folders.values())[1:]]
    defaults = vars(train_options(["--data_path", "none"]))
    del defaults["data_path"]  # which has no default
    output = Path(opt.output or Path(opt.exp) / "report")
    check_writable(output)
    html = output / "report.html"
    earlier = files_of(html)
    plots = [(plot, output / plot.file_name) for plot in plots_of(run)]
    pictures = {output / picture_file(tag): each.png for tag, each in run.pictures.items()}
    if not opt.overwrite:
        # What an earlier report of ours wrote is its to replace.
        own = {*earlier, html} if is_page(html) else set()
        check_results([path for path in (html, *(path for _, path in plots), *pictures)
                       if path not in own], [], overwrite=False)  # fmt: skip
    for plot, path in plots:
        save_plot(plot, path)
    for path, png in pictures.items():
        with atomic_path(path) as partial:
            partial.write_bytes(png)
    groups = compare([run, *others], defaults) if opt.compare else []
    text = page(run, plots, groups, defaults)
    with atomic_path(html) as partial:
        # A lone surrogate, of a damaged file or a folder's name, is no UTF-8.
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")
        # What an earlier report alone had goes before its page, which alone knows it.
        for path in set(earlier) - pictures.keys() - {path for _, path in plots}:
            path.unlink(missing_ok=True)
    for each in (run, *others):
        where = "" if each is run else f"{each.folder}: "
        for sentence in each.missing:
            print(f"missing: {where}{sentence}")
    for sentence in (sentence for group in groups for sentence in group.copies):
        print(f"counted once: {sentence}")
    print(f"report: {html} ({len(plots)} curves and {len(run.pictures)} pictures, also beside it)")


if __name__ == "__main__":
    run_script(main)
