"""Turn videos, or folders of frames, into a data set that `--dataset folder` trains on.

    python prepare_video.py drive.mp4 holiday.mov PICTURES --out DIR --hfov 65

Frames that hardly move are left out, cuts begin another folder, and the end of each clip is kept
for validation. Started again, it makes the clips that are missing; later runs may add clips.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils import UserError, check_writable, run_script
from video_options import prepare_video_options

if TYPE_CHECKING:
    import argparse

    from clip_preparation import Clip
    from prepared_folder import ClipRecord


def shared_settings(opt: argparse.Namespace) -> dict[str, Any]:
    """What the frames of all clips in a folder were made with."""
    return {
        "crop_bottom": opt.crop_bottom,
        "distortion": opt.distortion and list(opt.distortion),
        "width": opt.width,
        "height": opt.height,
        "quality": opt.quality,
        "min_motion": opt.min_motion,
    }


def plan_clips(opt: argparse.Namespace) -> list[Clip]:
    """Every source under its name. Raises UserError for one that is missing, two of one name, and a
    camera that is none."""
    from clip_camera import told_cameras
    from clip_preparation import Clip, clip_name, picture_ending

    sources: dict[str, str] = {}
    for source in opt.clips:
        if not os.path.exists(source):
            raise UserError(f"{source} does not exist: expected a video file or a folder of "
                            "pictures")
        name = clip_name(source)
        if name in sources:
            raise UserError(f"{sources[name]} and {source} would both be called {name} in --out: "
                            "rename one, or give them different --out folders")
        sources[name] = source
    told = told_cameras(opt.intrinsics, opt.hfov, list(sources))
    shared = shared_settings(opt)
    folders = [source for source in sources.values() if os.path.isdir(source)]
    if opt.ext and not folders:
        raise UserError(f"--ext {opt.ext} is for folders of pictures, and none is given")
    clips = []
    for name, source in sources.items():
        camera = told[name]
        if opt.distortion and (camera is None or camera.numbers is None):
            raise UserError("--distortion needs the camera that it was measured with: give "
                            f"--intrinsics of {name}")
        ext = (opt.ext or picture_ending(source)) if source in folders else ""
        settings: dict[str, Any] = shared | {
            "source": os.path.abspath(source), "ext": ext, "contents": _contents(source),
            "intrinsics": camera and list(camera.numbers or ()), "hfov": camera and camera.hfov,
        }  # fmt: skip
        clips.append(Clip(name, source, ext, camera, settings))
    return clips


def _contents(source: str) -> list[int]:
    """What tells a file, or a folder of files, from what it was: size or count, and time."""
    if os.path.isfile(source):
        status = os.stat(source)
        return [status.st_size, status.st_mtime_ns]
    times = [entry.stat().st_mtime_ns for entry in os.scandir(source) if entry.is_file()]
    return [len(times), max(times, default=0)]


def to_make(
    clips: Sequence[Clip], records: dict[str, ClipRecord], opt: argparse.Namespace
) -> list[Clip]:
    """The clips that are not there. Raises UserError, naming the setting, where one that is there
    was made differently, and is not to be made anew, and where another one lacks frames.

    records: of clips that are whole.
    """
    from prepared_folder import is_there

    out = Path(opt.out)
    named = {clip.name for clip in clips}
    for name, record in records.items():
        if name in named:
            continue
        _compare(record, shared_settings(opt), out)
        if not is_there(out, record):
            raise UserError(f"the clip {name} in {out} lacks frames that it had: with "
                            f"{record.settings['source']} beside the others it is made anew")
    if opt.overwrite:
        return list(clips)
    there = [records[clip.name] for clip in clips if clip.name in records]
    settings = {clip.name: clip.settings for clip in clips}
    for record in there:
        _compare(record, settings[record.name], out)
    kept = {record.name for record in there if is_there(out, record)}
    return [clip for clip in clips if clip.name not in kept]


def _compare(record: ClipRecord, settings: dict[str, Any], out: Path) -> None:
    for key, value in settings.items():
        then = record.settings.get(key)
        if then == value:
            continue
        what = {"contents": "its file or folder has changed", "source": f"it was made from {then}"}
        said = what.get(key, f"--{key} was {_shown(then)} and is {_shown(value)}")
        raise UserError(f"the clip {record.name} in {out} was made otherwise: {said}; --overwrite "
                        f"with {record.settings['source']} makes it anew, another --out beside it")


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ",".join(f"{each:g}" for each in value) or "not given"
    return "not given" if value is None else str(value)


def check_folder(out: Path, sources: Sequence[str]) -> None:
    """Raise UserError for an --out that others have written, that cannot be written or that lies in
    what is read."""
    from prepared_folder import OWN

    for source in sources:
        if os.path.isdir(source) and out.resolve().is_relative_to(Path(source).resolve()):
            raise UserError(f"--out {out} lies in {source}, which is read: give a folder beside it")
    check_writable(out)
    if out.is_dir() and any(out.iterdir()) and not (out / OWN).is_dir():
        raise UserError(f"--out {out} holds files that prepare_video.py did not write: give a new "
                        "folder, or one that it wrote")


def make_clips(
    clips: Sequence[Clip], records: dict[str, ClipRecord], out: Path, num_workers: int
) -> list[str]:
    """Make each clip, several at once; records get theirs, and lose those of which nothing is left.

    Returns what was wrong, a sentence a clip that could not be made.
    """
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    from tqdm import tqdm

    from clip_preparation import clean_up, prepare_clip
    from prepared_folder import read_records

    stop, failures = Event(), []
    # Threads: decoding, resizing, following corners and encoding all leave Python's lock.
    with tqdm(unit="frame", disable=None) as bar, ThreadPoolExecutor(num_workers) as pool:
        try:
            jobs = {
                clip.name: pool.submit(
                    prepare_clip, clip, out, records.get(clip.name), bar, stop
                )
                for clip in clips
            }
            for name, job in jobs.items():
                try:
                    records[name] = job.result()
                except UserError as error:
                    failures.append(str(error))
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    if failures:
        records.clear()
        records |= read_records(out)
        clean_up(out, records)
    return failures


def finish(out: Path, records: Sequence[ClipRecord], val_share: float, min_motion: float) -> None:
    """Lists, cameras and the report of all clips in --out, and what is to be said of them."""
    from prepared_folder import (
        describe,
        has_camera,
        plot_motion,
        write_cameras,
        write_lists,
        write_report,
    )

    kept = write_cameras(out, records)
    targets = write_lists(out, records, val_share)
    write_report(out, records, targets)
    plot_motion(out / "motion.png", records, min_motion)
    for record in records:
        print("\n".join(describe(record)))
    for path in kept:
        print(f"warning: {path} was not written here and stays as it is", file=sys.stderr)
    unknown = [record.name for record in records
               if record.camera is None and not has_camera(out, record)]  # fmt: skip
    if val_share and not targets[1]:
        print("warning: no clip is long enough to leave frames for validation: epochs will end "
              "without a validation loss", file=sys.stderr)  # fmt: skip
    if unknown:
        print(f"warning: no camera is known of {', '.join(unknown)}: give --intrinsics or --hfov, "
              "or train with --learn_intrinsics", file=sys.stderr)  # fmt: skip
    print(f"{targets[0]:,} training and {targets[1]:,} validation targets: train with --dataset "
          f"folder --data_path {out}")


def main(argv: Sequence[str] | None = None) -> None:
    """See the top of this file. Raises UserError for bad input, once all other clips are made."""
    opt = prepare_video_options(argv)
    from clip_preparation import clean_up
    from prepared_folder import OWN, alone, read_records

    out = Path(opt.out)
    clips = plan_clips(opt)
    check_folder(out, opt.clips)
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    (out / OWN).mkdir(parents=True, exist_ok=True)
    try:
        with alone(out):
            records = read_records(out)
            whole = {name: record for name, record in records.items() if record.whole}
            chosen = to_make(clips, whole, opt)
            clean_up(out, records)
            failures = make_clips(chosen, records, out, opt.num_workers)
            if records:
                finish(out, list(records.values()), opt.val_share, opt.min_motion)
    finally:
        if not any((out / OWN).iterdir()):  # nothing was made: nothing stays
            for folder in (out / OWN, *new):
                folder.rmdir()
    if failures:
        *others, last = failures
        for failure in others:
            print(f"error: {failure}", file=sys.stderr)
        raise UserError(last)


if __name__ == "__main__":
    run_script(main)
