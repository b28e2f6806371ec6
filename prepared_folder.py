"""The folder that prepare_video.py writes: what is known of each clip, lists, cameras, the report.

    DIR/CLIP/0000000000.jpg, DIR/CLIP_shot02/...     frames; a cut begins another folder
    DIR/intrinsics.txt or DIR/CLIP/intrinsics.txt    the camera of all, or of each
    DIR/CLIP/frames.txt                              which frames of the source they are
    DIR/train_files.txt, DIR/val_files.txt           lines `CLIP FRAME`
    DIR/report.json, DIR/motion.png                  what was kept and why
    DIR/.prepare/CLIP.json                           how each clip was made, so that none is twice
    DIR/.prepare/cameras                             texts of intrinsics.txt, to know them again
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.camera_file import camera_text
from datasets.folder_lists import numbered_frames
from utils import UserError, atomic_path, reason, write_text

OWN = ".prepare"  # folder of our own, in the folder that is written
FEWEST = 3  # frames of a shot: a target and its neighbours
GAP = 2  # targets between training and validation, so that no frame is in samples of both
FEWEST_TARGETS = 10  # of a shot, or of a clip in shots, that gives some to validation
BARS = 200  # of the plot of motion, at most
PERCENTILES = (1, 10, 50, 90, 99)


@dataclass
class ClipRecord:
    """What became of a clip."""

    name: str
    settings: dict[str, Any]  # all that its frames depend on
    shots: list[tuple[str, int]] = field(default_factory=list)  # folders and their frames
    source_size: tuple[int, int] = (0, 0)  # (width, height), as it is shown
    size: tuple[int, int] = (0, 0)  # of stored pictures
    camera: tuple[float, float, float, float] | None = None  # in their pixels
    camera_from: str = ""
    frames: int = 0  # read
    still: int = 0
    lost: int = 0
    cuts: int = 0
    in_short_shots: int = 0  # left out, as their shot has no target
    damaged: int = 0
    kept_motion: list[float] = field(default_factory=list)  # pixels at 640, since the last one kept
    still_motion: list[float] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    whole: bool = False  # its folders are all there

    @property
    def kept(self) -> int:
        """Frames that are stored."""
        return sum(count for _, count in self.shots)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keep others from writing a folder meanwhile. Raises UserError if one does."""
    handle = os.open(out / OWN, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another prepare_video.py writes {out}: wait for it, or give "
                                "another --out") from error
        yield
    finally:
        os.close(handle)


def record_path(out: Path, name: str) -> Path:
    """The file of a clip's record."""
    return out / OWN / f"{name}.json"


def write_record(out: Path, record: ClipRecord) -> None:
    """Raises UserError if it cannot be written."""
    write_text(record_path(out, record.name), json.dumps(asdict(record)))


def read_records(out: Path) -> dict[str, ClipRecord]:
    """All clips that were begun, by name. Raises UserError for a damaged record."""
    records = {}
    paths = (path for path in (out / OWN).glob("*.json") if not path.name.startswith("."))
    for path in sorted(paths):
        try:
            record = ClipRecord(**json.loads(path.read_text(encoding="utf-8")))
            record.shots = [(folder, int(count)) for folder, count in record.shots]
            record.size = tuple(record.size)
            record.camera = record.camera and tuple(record.camera)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{path} is damaged: {reason(error)}; delete it, and its clip is made "
                            "anew") from error
        records[record.name] = record
    return records


def is_there(out: Path, record: ClipRecord) -> bool:
    """Whether a clip's folders hold all of its frames."""
    return record.whole and all(
        [*numbered_frames(out / folder)] == [*range(count)] for folder, count in record.shots
    )


def remove_clip(out: Path, record: ClipRecord) -> None:
    """Delete a clip's folders, and the lists, which name its frames; its record stays."""
    for name in ("train_files.txt", "val_files.txt"):
        (out / name).unlink(missing_ok=True)
    for folder, _ in record.shots:
        if (out / folder).is_dir():
            shutil.rmtree(out / folder)


def split_targets(count: int, val_share: float) -> tuple[range, range]:
    """Frames of a shot that are targets of training and of validation, which is its end.

    First and last have a neighbour on one side only. Of GAP targets between the two neither takes
    any: a training target and its neighbours are in no sample of validation.
    """
    targets = range(1, count - 1)
    val = round(val_share * len(targets)) if len(targets) >= FEWEST_TARGETS else 0
    if not val:
        return targets, range(0)
    return targets[: max(0, len(targets) - val - GAP)], targets[len(targets) - val :]


def split_clip(
    counts: Sequence[int], val_share: float
) -> list[tuple[range, range]]:
    """`split_targets` of each shot of a clip, counts: their frames. Where every shot is too short
    to be cut, and the clip is not, its last shots are for validation as they are."""
    splits = [split_targets(count, val_share) for count in counts]
    total = sum(len(train) for train, _ in splits)
    if total < FEWEST_TARGETS or any(val for _, val in splits):
        return splits
    missing, last = round(val_share * total), len(counts)
    while missing > 0 and last > 1:
        last -= 1
        missing -= len(splits[last][0])
    return [*splits[:last], *((range(0), train) for train, _ in splits[last:])]


def write_lists(out: Path, records: Sequence[ClipRecord], val_share: float) -> tuple[int, int]:
    """Both lists of all clips; returns how many targets each has. An empty one is not written."""
    shots = [
        (folder, targets)
        for record in records
        for (folder, _), targets in zip(
            record.shots, split_clip([count for _, count in record.shots], val_share), strict=True
        )
    ]
    counts = []
    for part, name in enumerate(("train_files.txt", "val_files.txt")):
        lines = [f"{folder} {frame}" for folder, targets in shots for frame in targets[part]]
        if lines:
            write_text(out / name, "\n".join(lines))
        else:
            (out / name).unlink(missing_ok=True)
        counts.append(len(lines))
    return counts[0], counts[1]


def write_cameras(out: Path, records: Sequence[ClipRecord]) -> list[Path]:
    """One intrinsics.txt where all clips share a camera and a size; else one in each folder.

    Files that were not written here are left as they are; returns those that stand in the place of
    ours.
    """
    cameras = {(record.camera, record.size) for record in records}
    shared = len(cameras) == 1 and records[0].camera is not None
    texts = {"intrinsics.txt": camera_text(records[0].camera, records[0].size)} if shared else {}
    if not shared:
        for record in records:
            if record.camera is not None:
                text = camera_text(record.camera, record.size)
                texts |= {f"{folder}/intrinsics.txt": text for folder, _ in record.shots}
    before = _written_cameras(out)
    theirs = {place for place in texts.keys() | before.keys()
              if _text(out / place) not in ("", before.get(place), texts.get(place))}  # fmt: skip
    for place in before.keys() - texts.keys() - theirs:
        (out / place).unlink(missing_ok=True)
    ours = {place: text for place, text in texts.items() if place not in theirs}
    for place, text in ours.items():
        write_text(out / place, text)
    write_text(out / OWN / "cameras", json.dumps(ours))
    return sorted(out / place for place in theirs & texts.keys())


def has_camera(out: Path, record: ClipRecord) -> bool:
    """Whether there is a camera file for every folder of a clip."""
    folders = [out / folder for folder, _ in record.shots]
    return (out / "intrinsics.txt").is_file() or all(
        (folder / "intrinsics.txt").is_file() for folder in folders
    )


def _written_cameras(out: Path) -> dict[str, str]:
    """Texts of the camera files that were written here, by place; none that can be read: none."""
    try:
        return dict(json.loads((out / OWN / "cameras").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _text(path: Path) -> str:
    """Of a file without the space around it; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def write_report(out: Path, records: Sequence[ClipRecord], targets: tuple[int, int]) -> None:
    """report.json, without the single frames' motion."""
    clips = []
    for record in records:
        fields = asdict(record) | {"kept": record.kept, "motion": percentiles(record.kept_motion)}
        for name in ("kept_motion", "still_motion", "whole"):
            del fields[name]
        clips.append(fields)
    text = {"train": targets[0], "val": targets[1], "clips": clips}
    write_text(out / "report.json", json.dumps(text, indent=1, ensure_ascii=False))


def percentiles(motion: Sequence[float]) -> dict[str, float]:
    """The distribution of motion, in its unit; nothing of nothing."""
    if not motion:
        return {}
    values = np.percentile(motion, PERCENTILES).round(2).tolist()
    return {f"{share}%": value for share, value in zip(PERCENTILES, values, strict=True)}


def describe(record: ClipRecord) -> Iterator[str]:
    """What became of a clip, a line each."""
    width, height = record.size
    parts = [f"{record.frames:,} frames", f"{record.kept:,} kept", f"{record.still:,} still"]
    parts += [f"{record.lost:,} not followed", f"{record.cuts:,} cuts"]
    parts += [f"{record.in_short_shots:,} in shots too short"] if record.in_short_shots else []
    parts += [f"{record.damaged:,} damaged"] if record.damaged else []
    yield f"{record.name}: {', '.join(parts)}; stored as {width}x{height}"
    if record.kept_motion:
        shares = (f"{share} {value:g}" for share, value in percentiles(record.kept_motion).items())
        yield f"  motion between kept frames, pixels at width 640: {', '.join(shares)}"
    if record.camera is not None:
        numbers = ", ".join(f"{value:.1f}" for value in record.camera)
        yield f"  camera ({record.camera_from}): fx, fy, cx, cy = {numbers}"
    for warning in record.warnings:
        yield f"  warning: {warning}"


def plot_motion(path: Path, records: Sequence[ClipRecord], min_motion: float) -> None:
    """How far frames moved since the last one kept, all clips together. Raises UserError."""
    from matplotlib.figure import Figure

    kept = np.concatenate([record.kept_motion for record in records])
    still = np.concatenate([record.still_motion for record in records])
    last = max(4 * min_motion, 1.0, float(np.percentile(kept, 99)) if len(kept) else 0.0)
    step = last / 60
    if min_motion > last / BARS:
        step = min_motion / np.ceil(60 * min_motion / last)  # it is between two bars
    bins = np.arange(0, last + step, step)
    figure = Figure((7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.hist([np.minimum(kept, last), np.minimum(still, last)], bins, stacked=True,
              label=[f"kept ({len(kept):,})", f"dropped as still ({len(still):,})"],
              color=["tab:blue", "tab:orange"])  # fmt: skip
    axes.axvline(min_motion, color="black", linewidth=1, label=f"--min_motion {min_motion:g}")
    axes.set_xlabel("motion since the last frame kept: pixels at width 640, median of corners")
    axes.set_ylabel("frames")
    axes.legend()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)
