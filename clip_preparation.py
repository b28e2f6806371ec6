"""One clip, frame by frame, to the numbered pictures of its shots."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from clip_camera import Told, Treatment, check_zoom, exif_camera, fractions
from datasets.camera_file import off_centre
from datasets.to_jpeg import SUBSAMPLING
from pictures import Skips
from prepared_folder import FEWEST, OWN, ClipRecord, record_path, remove_clip, write_record
from shots import Thinning, Verdict
from utils import Interrupted, UserError, reason
from video import Frames, frame_steps, open_frames

if TYPE_CHECKING:
    from tqdm import tqdm

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp")
# Names that mean something in a folder of frames.
TAKEN = ("depth", "intrinsics.txt", "motion.png", "report.json", "test_files.txt",
         "train_files.txt", "val_files.txt")  # fmt: skip
UNEVEN, NOTED = 0.5, 0.01  # of the median step, and of the frames: what is worth a warning


class Clip(NamedTuple):
    """What is to be made of a source."""

    name: str
    source: str  # a video file or a folder
    ext: str  # of a folder's pictures
    told: Told | None
    settings: dict[str, Any]

    def frames(self, skips: Skips) -> Frames:
        """The clip's frames. Raises UserError if it cannot be opened."""
        return open_frames(self.source, self.ext, skips)


def clip_name(source: str) -> str:
    """What a clip is called: its file without the ending, or its folder; spaces made single.

    Raises UserError for one that cannot name a folder in a list.
    """
    path = Path(os.path.abspath(source))
    stem = path.name if os.path.isdir(source) else path.stem
    name = " ".join(stem.split()).lstrip(".")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name of {source!r} is no text in UTF-8: rename it") from error
    if not name or name in TAKEN:
        raise UserError(f"{source} cannot be called {name!r} in --out, where {', '.join(TAKEN)} "
                        "stand for other things: rename it")
    return name


def picture_ending(folder: str) -> str:
    """The only ending of a folder's pictures. Raises UserError if there is none, or several."""
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except OSError as error:
        raise UserError(f"cannot list the folder {folder}: {reason(error)}") from error
    endings = {os.path.splitext(name)[1].lower() for name in names} & set(PICTURES)
    if len(endings) != 1:
        found = f"pictures of several kinds, {', '.join(sorted(endings))}" if endings else "none"
        raise UserError(f"{folder} holds {found}: expected pictures of one kind "
                        f"({', '.join(PICTURES)}), or --ext to choose")
    return endings.pop()


class _Shots:
    """Folders of frames, one a shot, in a folder of their own until the clip is whole."""

    def __init__(self, folder: Path, quality: int) -> None:
        self.folder, self.quality = folder, quality
        self.counts: list[int] = []  # of frames; of shots that are too short too

    def begin(self) -> None:
        """The next frame is the first of a shot."""
        self._path().mkdir(parents=True)
        self.counts.append(0)

    def append(self, picture: Image.Image, origin: str) -> None:
        """The next frame of the shot that was begun last; origin: where it comes from."""
        shot = self.folder / str(len(self.counts) - 1)
        path = shot / f"{self.counts[-1]:010d}.jpg"
        picture.save(path, quality=self.quality, subsampling=SUBSAMPLING)
        with (shot / "frames.txt").open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{path.name} {origin}\n")
        self.counts[-1] += 1

    def _path(self) -> Path:
        return self.folder / str(len(self.counts))

    def long_enough(self) -> list[tuple[Path, int]]:
        """Folders that hold a target, and their frames."""
        shots = ((self.folder / str(i), count) for i, count in enumerate(self.counts))
        return [(path, count) for path, count in shots if count >= FEWEST]


def prepare_clip(
    clip: Clip, out: Path, earlier: ClipRecord | None, bar: tqdm, stop: Event
) -> ClipRecord:
    """Make a clip's folders in `out`, whole or not at all, and its record.

    earlier: of a clip of that name, whose folders are replaced once the new ones are whole;
    bar: goes on by each frame; stop: set to end the work. Raises UserError, naming it, for a clip
    that cannot be used, and Interrupted.
    """
    partial = out / OWN / f"{clip.name}.partial"
    try:
        shots = _Shots(partial, clip.settings["quality"])
        record = _write_shots(clip, shots, bar, stop)
        _publish(out, record, shots, earlier)
    except OSError as error:
        raise UserError(f"cannot write {out / clip.name}: {reason(error)}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def _write_shots(clip: Clip, shots: _Shots, bar: tqdm, stop: Event) -> ClipRecord:
    """Every frame judged, those that are kept written."""
    skips = Skips(strict=False)
    frames = clip.frames(skips)
    record = ClipRecord(clip.name, clip.settings)
    thinning = Thinning(clip.settings["min_motion"])
    treatment: Treatment | None = None
    is_folder, exif = os.path.isdir(clip.source), None
    bar.total = (bar.total or 0) + (frames.count or 0)
    for what, picture in frames.pictures:
        if stop.is_set():
            raise Interrupted(signal.SIGINT)
        bar.update()
        if treatment is None:
            exif = exif_camera(what) if is_folder and clip.told is None else None
            treatment = _treatment(clip, clip.told or exif, picture.size, record)
        if picture.size != treatment.source:
            width, height = treatment.source
            raise UserError(f"{what} is {picture.width}x{picture.height} and what comes before it "
                            f"{width}x{height}: frames of another size need a clip of their own")
        if exif:
            check_zoom(exif, what)
        number = record.frames + skips.count  # in the source, from 0
        record.frames += 1
        stored = treatment(picture)
        verdict, moved = thinning.judge(stored)
        _count(record, verdict, moved)
        if verdict is Verdict.CUT:
            shots.begin()
        if verdict in (Verdict.CUT, Verdict.KEPT):
            origin = f"{number} {os.path.basename(what)}" if is_folder else str(number)
            shots.append(stored, origin)
    record.damaged, record.cuts = skips.count, max(0, len(shots.counts) - 1)
    if os.path.isfile(clip.source):
        record.warnings += uneven_steps(frame_steps(clip.source))
    return record


def _count(record: ClipRecord, verdict: Verdict, moved: float | None) -> None:
    if verdict is Verdict.STILL:
        record.still += 1
        record.still_motion.append(round(moved, 2))
    elif verdict is Verdict.LOST:
        record.lost += 1
    elif verdict is Verdict.KEPT:
        record.kept_motion.append(round(moved, 2))


def _treatment(
    clip: Clip, told: Told | None, size: tuple[int, int], record: ClipRecord
) -> Treatment:
    """How frames of this size are stored, noted in the record with the camera. Raises UserError."""
    camera = told.camera(size) if told else None
    settings = clip.settings
    treatment = Treatment(
        clip.source, size, camera, settings["crop_bottom"],
        (settings["width"], settings["height"]), settings["distortion"],
    )  # fmt: skip
    record.source_size, record.size, record.camera = size, treatment.stored, treatment.camera
    if camera is not None:
        record.camera_from = told.source
        record.warnings += filter(None, [off_centre(fractions(camera, size), size)])
    empty = treatment.empty_share()
    if empty > NOTED:
        record.warnings.append(f"--distortion leaves {empty:.0%} of the picture black, which the "
                               "lens has not seen")
    return treatment


def uneven_steps(steps: np.ndarray) -> list[str]:
    """A warning about frames that do not come at a steady pace; steps: seconds between them."""
    if not len(steps):
        return []
    middle = float(np.median(steps))
    share = float((np.abs(steps - middle) > UNEVEN * middle).mean())
    if share <= NOTED:
        return []
    return [f"the frame rate varies: {share:.0%} of frames come at another pace than every "
            f"{1000 * middle:.0f} ms (up to {1000 * steps.max():.0f} ms); they are taken as they "
            "are, and motion tells which to keep"]  # fmt: skip


def _publish(
    out: Path, record: ClipRecord, shots: _Shots, earlier: ClipRecord | None
) -> None:
    """Move the shots to their places. Raises UserError if there is none, or a place is taken."""
    if not record.frames:
        raise UserError(f"{record.settings['source']} holds no frame that can be read")
    long_enough = shots.long_enough()
    if not long_enough:
        raise UserError(_nothing_left(record, sum(shots.counts)))
    own = {folder for folder, _ in earlier.shots} if earlier else set()
    for number, (_, count) in enumerate(long_enough, 1):
        folder = record.name if number == 1 else f"{record.name}_shot{number:02d}"
        if folder not in own and os.path.lexists(out / folder):
            raise UserError(f"{out / folder} is there already and is not of the clip "
                            f"{record.name}: rename either")
        record.shots.append((folder, count))
    record.in_short_shots = sum(shots.counts) - record.kept
    # A record owns folders before they are there, and as long as they are.
    new = {folder for folder, _ in record.shots}
    old = [shot for shot in earlier.shots if shot[0] not in new] if earlier else []
    write_record(out, replace(record, shots=[*record.shots, *old]))
    if earlier:
        remove_clip(out, earlier)
    for (path, _), (folder, _) in zip(long_enough, record.shots, strict=True):
        os.replace(path, out / folder)
    record.whole = True
    write_record(out, record)


def _nothing_left(record: ClipRecord, kept: int) -> str:
    """Why a clip gives no target."""
    source = record.settings["source"]
    if record.frames < FEWEST:
        return f"{source} has {record.frames} frames that can be read: at least {FEWEST} are needed"
    motion = record.kept_motion + record.still_motion
    most = f", and the largest motion is {max(motion):.2f}" if motion else ""
    least = record.settings["min_motion"]
    return (f"{source} gives no {FEWEST} frames in a row: of {record.frames:,}, {kept:,} are kept, "
            f"{record.still:,} hardly move (--min_motion {least:g} pixels at width 640{most}) and "
            f"{record.lost:,} cannot be followed")


def clean_up(out: Path, records: dict[str, ClipRecord]) -> None:
    """Remove what a killed run has left: half a clip, and folders of one that is not whole, which
    leaves the records."""
    for partial in (out / OWN).glob("*.partial"):
        shutil.rmtree(partial)
    for partial in (*out.glob(".*.partial.*"), *(out / OWN).glob(".*.partial.*")):
        partial.unlink(missing_ok=True)  # of `atomic_path`
    for record in [record for record in records.values() if not record.whole]:
        remove_clip(out, record)
        record_path(out, record.name).unlink(missing_ok=True)
        del records[record.name]
