"""What a run leaves in its folder for people: log, options, code version, curves, metrics."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils import UserError, atomic_path, reason, setup_logging


class RunLog:
    """The folder of a run, written by the main process; the other ranks' calls do nothing.

    `logger.log`, `opt.json`, `code/` (commit and uncommitted changes), `tensorboard/train` and
    `metrics.csv`.
    """

    def __init__(self, folder: Path, is_main: bool) -> None:
        """Make the folder, or go on in it. Raises UserError if it cannot be written."""
        self.folder, self.is_main = folder, is_main
        if is_main:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self.logger = setup_logging(folder / "logger.log")
            except OSError as error:
                message = f"cannot write the run's folder {folder}: {reason(error)}"
                raise UserError(message) from error
            self.writer = SummaryWriter(str(folder / "tensorboard" / "train"))
        else:
            self.logger = setup_logging(is_main=False)

    def close(self) -> None:
        """Flush what TensorBoard has not written yet."""
        if self.is_main:
            self.writer.close()

    def record(self, options: Mapping[str, object]) -> None:
        """Write the resolved options and the version of the code."""
        if self.is_main:
            with atomic_path(self.folder / "opt.json") as partial:
                partial.write_text(json.dumps(dict(options), indent=2) + "\n", encoding="utf-8")
            snapshot_code(Path(__file__).resolve().parent, self.folder / "code")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Points on the curves of the same names."""
        if self.is_main:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def images(self, pictures: Mapping[str, Tensor], step: int) -> None:
        """Pictures (3 or 1, H, W) in [0, 1]."""
        if self.is_main:
            for name, picture in pictures.items():
                self.writer.add_image(name, picture, step)

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
