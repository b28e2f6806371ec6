"""Runs beside each other: those that differ by their seed alone are one row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from run_reader import Run

# Options that change neither what is trained nor what is scored, nor say on which machine it lies;
# the seed has its own column.
BESIDE_THE_POINT = (
    "seed", "exp_name", "log_dir", "resume", "local_rank", "global_rank", "world_size",
    "num_workers", "log_frequency", "save_frequency", "keep", "eval_every", "no_cuda",
    "data_path", "data_path_pre", "kitti_path", "nyuv2_path", "make3d_path", "cityscapes_path",
    "folder_path",
)  # fmt: skip


@dataclass(frozen=True)
class Spread:
    """Mean over runs, and their standard deviation (n - 1); None for a single run."""

    mean: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


@dataclass(frozen=True)
class Group:
    """Runs of equal settings, code and length, whatever their seeds.

    settings: those in which the groups differ; epoch: the one that was scored last, None if none
    was; scores: by `<protocol>/<metric>`; copies: a sentence for each run that is another one
    again, and counts once.
    """

    settings: dict[str, Any]
    names: list[str]
    seeds: list[Any]
    epoch: int | None
    scores: dict[str, Spread]
    copies: list[str] = field(default_factory=list)


def settings_of(run: Run, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's numbers follow from beside its seed: options, code, number of processes.

    defaults: of train.py's options, for those that an older run did not have.
    """
    options = {**defaults, **run.options}
    settings = {name: options[name] for name in options if name not in BESIDE_THE_POINT}
    settings["code"] = code_of(run)
    settings["processes"] = run.environment.get("processes", "not known")
    return settings


def code_of(run: Run) -> str:
    """The version of the code that ran: commit, and a digest of the changes against it."""
    commit = (run.commit.splitlines() or ["not known"])[0].removeprefix("commit ")[:10]
    digest = hashlib.sha256(run.changes.encode()).hexdigest()[:6]
    return f"{commit} + changes {digest}" if run.changes else commit


def compare(runs: Sequence[Run], defaults: Mapping[str, Any]) -> list[Group]:
    """Groups of runs in the order of their first members."""
    settings = [settings_of(run, defaults) for run in runs]
    names = dict.fromkeys(name for each in settings for name in each)
    differing = [name for name in names if len({_key(each.get(name)) for each in settings}) > 1]
    members: dict[tuple, list[int]] = {}
    for index, run in enumerate(runs):
        own = (_key(settings[index].get(name)) for name in differing)
        members.setdefault((*own, run.last_scored_row().get("epoch")), []).append(index)
    return [
        _group([runs[i] for i in chosen], {n: settings[chosen[0]].get(n) for n in differing})
        for chosen in members.values()
    ]


def _group(runs: Sequence[Run], settings: dict[str, Any]) -> Group:
    """Runs of one group; a score that some of them lack is left out."""
    runs, copies = _independent(runs)
    rows = [run.last_scored_row() for run in runs]
    scores = {}
    for name in runs[0].score_columns():
        if all(name in row for row in rows):
            values = np.array([row[name] for row in rows])
            std = float(values.std(ddof=1)) if len(values) > 1 else None
            scores[name] = Spread(float(values.mean()), std)
    epoch = int(rows[0]["epoch"]) if rows[0] else None
    seeds = [run.options.get("seed") for run in runs]
    return Group(settings, [run.name for run in runs], seeds, epoch, scores, copies)


def _independent(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Runs without those of an earlier one's seed and metrics, and a sentence for each of these."""
    kept: dict[str, Run] = {}
    copies = []
    for run in runs:
        # Runs without an epoch have nothing to be told apart by, and no scores to count twice.
        same = _key([run.options.get("seed"), run.rows or str(run.folder)])
        first = kept.setdefault(same, run)
        if first is not run:
            copies.append(f"{run.folder} has the seed and the metrics of {first.folder}")
    return list(kept.values()), copies


def _key(value: Any) -> str:
    """Something to compare values by, lists too."""
    return json.dumps(value, sort_keys=True)
