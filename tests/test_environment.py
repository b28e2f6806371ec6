"""The set-up of .venv, with a stand-in for Python that notes what it was asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_floors import ROOT

FILES = ("requirements.txt", "requirements-export.txt", "requirements-dev.txt")
REQUIREMENTS = (*FILES, "requirements.lock")
STAND_IN = """#!/usr/bin/env bash
case "$*" in
*"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo venv >>calls ;;
*"-m pip install"*) sleep 0.3; echo "pip $*" >>calls; [[ ! -e break ]] ;;
--version) echo Python 3.11.0 ;;
esac
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a space in its name that holds what the set-up reads."""
    folder = tmp_path / "my project"
    (folder / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "environment.sh", folder / "scripts")
    for name in REQUIREMENTS:
        shutil.copy(ROOT / name, folder)
    stand_in = tmp_path / "stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    return folder


def start(project: Path, *arguments: str, python: str | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(project / "scripts" / "environment.sh"), *arguments],
        env={**os.environ, "PYTHON": python or str(project.parent / "stand-in")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
    )


def set_up(project: Path, *arguments: str) -> list[str]:
    """Run the set-up; returns what the stand-in was asked for by it, in short."""
    calls = project / "calls"
    calls.unlink(missing_ok=True)
    _, err = (run := start(project, *arguments)).communicate(timeout=60)
    assert run.returncode == 0, err
    return summary(calls)


def summary(calls: Path) -> list[str]:
    lines = calls.read_text().splitlines() if calls.exists() else []
    return [re.sub(r"pip .*-r (\S+) -c requirements.lock", r"\1", line) for line in lines]


def test_made_once_and_again_when_requirements_change(project: Path):
    assert set_up(project) == ["venv", "requirements.txt"]
    assert set_up(project) == []
    assert set_up(project, "--dev") == ["requirements-dev.txt"]
    assert set_up(project) == []  # checking takes all that running does
    with (project / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert set_up(project) == ["requirements.txt"]


def test_an_interrupted_set_up_starts_anew(project: Path):
    set_up(project)
    (project / ".venv" / ".requirements").unlink()
    (project / ".venv" / ".unfinished").touch()
    assert set_up(project) == ["venv", "requirements.txt"]


def test_a_failed_installation_is_said_and_tried_again(project: Path):
    (project / "break").touch()
    _, err = (run := start(project)).communicate(timeout=60)
    assert (run.returncode, err) == (
        2, "error: pip could not install requirements.txt: see its message above\n"
    )  # fmt: skip
    (project / "break").unlink()
    assert set_up(project) == ["requirements.txt"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock the two do not wait")
def test_of_two_at_once_one_installs(project: Path):
    runs = [start(project), start(project)]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert summary(project / "calls") == ["venv", "requirements.txt"]
    for run in runs:
        run.communicate()


def test_an_unsuitable_python_is_said_in_one_sentence(project: Path):
    out, err = (run := start(project, python="/no/such/python")).communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*/no/such/python[^\n]*3\.10 to 3\.13[^\n]*\n", err)


def requirements(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_lock_pins_each_requirement_within_its_range(python: str):
    pins = [
        pin
        for pin in requirements("requirements.lock")
        if pin.marker is None or pin.marker.evaluate({"python_version": python})
    ]
    pinned = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    assert len(pinned) == len(pins)
    for wanted in [each for name in FILES for each in requirements(name)]:
        assert wanted.specifier.contains(pinned[wanted.name]), wanted
