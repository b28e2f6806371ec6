"""train.py as a shell sees it: what is printed where, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_kitti import arguments

CODE = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--width", 100), "--width: expected a multiple of 32"), ((), "raw does not exist")],
    ids=["a bad value", "no data"],
)
def test_bad_input_is_one_line_on_stderr_and_nothing_else(tmp_path, flags, words):
    command = [sys.executable, "train.py", *arguments(tmp_path, "run", *flags)]
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "train_files.txt").write_text("drive 1 l\n" * 4)
    run = subprocess.run(command, cwd=CODE, capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert [path.name for path in tmp_path.iterdir()] == ["split"]
