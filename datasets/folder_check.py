"""What `python -m datasets.check` says of folders of frames beside what it counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from datasets.camera_file import off_centre
from datasets.files import load_rgb, some_of
from datasets.folder_dataset import FolderDataset
from datasets.motion import apparent_motion

STILL = 1.0  # pixels at network width, below which a frame hardly moves
FAST = 0.15  # of the width, above which little of a frame is seen in the next
SAMPLES = 5000  # with fewer, people who trained on videos of their own report overfitting
NOTED = 0.05  # share of frames, above which a verdict is given
ONE_CUT = 0.02


def describe_clips(dataset: FolderDataset) -> str:
    """Clips, frames and sizes, every picture of the list looked at. Raises UserError for a picture
    of another size than its clip's."""
    clips = {ref.folder: ref for ref in dataset.refs}
    sizes = set()
    for ref in dataset.refs:
        for _, path in dataset.needed_files(ref):
            dataset.check_size(ref, path)
        sizes.add("{}x{}".format(*dataset.clip_size(ref)))
    return f"{len(clips):,} clips with targets, pictures of {', '.join(sorted(sizes))}"


def camera_verdicts(dataset: FolderDataset) -> Iterator[str]:
    """What is odd about the clips' cameras, a sentence each."""
    unknown = []
    for clip, ref in sorted({dataset.clip(ref): ref for ref in dataset.refs}.items()):
        if dataset.camera_path(ref) is None:
            unknown.append(clip)
            continue
        camera = dataset.camera(ref)
        odd = off_centre(camera.intrinsics, camera.size)
        if odd:
            yield f"{clip}: {odd}"
    if unknown:
        yield (f"no camera is known of {some_of(unknown)}: train with --learn_intrinsics, or write "
               "an intrinsics.txt")


def measure_motion(dataset: FolderDataset, numbers: Sequence[int]) -> list[float | None]:
    """The apparent motion of targets to their next frames, pixels at network width; None: not
    followed. Raises UserError for a damaged picture."""
    found = []
    for number in tqdm(numbers, "motion", unit="frame", disable=None):
        ref = dataset.refs[number]
        pair = [load_rgb(dataset.image_path(ref, frame)) for frame in (0, 1)]
        moved = apparent_motion(*pair)
        found.append(None if moved is None else moved * dataset.width)
    return found


def describe_motion(motions: Sequence[float | None], width: int) -> str:
    """The distribution of `measure_motion`, in one line."""
    known = [motion for motion in motions if motion is not None]
    text = f"motion to the next frame, pixels at width {width}, of {len(motions):,} frames: "
    if known:
        low, middle, high = np.percentile(known, (10, 50, 90))
        text += f"median {middle:.1f}, 10% below {low:.1f}, 10% above {high:.1f}; "
    return f"{text}{len(motions) - len(known)} not followed"


def verdicts(samples: int, motions: Sequence[float | None], width: int) -> Iterator[str]:
    """What is to be expected of training on so many samples that move so, a sentence each.

    motions: of `measure_motion`, at this network width.
    """
    if samples < SAMPLES:
        yield (f"only {samples:,} training samples: expect overfitting; people report needing "
               f"{SAMPLES:,} or more")
    count = len(motions)
    known = np.array([motion for motion in motions if motion is not None])
    still = float((known < STILL).sum() / count)
    fast = float((known > FAST * width).sum() / count)
    lost = 1 - len(known) / count
    if still > NOTED:
        yield (f"{still:.0%} of frames hardly move (below {STILL:g} px): nothing is learned from "
               f"them; prepare_video.py --min_motion {STILL * 640 / width:.2g} leaves them out")
    if fast > ONE_CUT:
        yield (f"{fast:.0%} of frames move by more than {FAST:.0%} of the width: cuts within a "
               "clip, or too few frames a second")
    if lost > ONE_CUT:
        yield (f"{lost:.0%} of frames could not be followed to the next: cuts, darkness, blur or "
               "bare walls")
