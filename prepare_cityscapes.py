"""Make Cityscapes' training triplets: small, without the bonnet, each in one file with its camera.

    python prepare_cityscapes.py --dataset_dir RAW --dump_root OUT --img_width 1024 --img_height 512

Of each frame t of `leftImg8bit_sequence/train` that has t - 2 and t + 2: `CITY/FRAME.png`, the
three from top to bottom, and `CITY/FRAME_cam.txt`. Started again, it makes what is missing.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tool_options import prepare_cityscapes_options
from utils import UserError, atomic_path, reason, run_script

if TYPE_CHECKING:
    from PIL import Image

STEP = 2  # frames between neighbours: at 17 Hz, consecutive ones hardly move
SNIPPET_GAP = 5  # frames whose numbers differ by more belong to two snippets of a long sequence
TRAINING_SIZE = (1024, 512)  # what `--dataset cityscapes` reads, before the cut

FRAME_NAME = re.compile(r"(?P<sequence>.+_\d{6})_(?P<frame>\d{6})_leftImg8bit\.png")
CAMERA_NAME = re.compile(r"(?P<sequence>.+_\d{6})_(?P<frame>\d{6})_camera\.json")


class Snippet(NamedTuple):
    """Frames in a row: everything that their triplets need, and nothing shared with others."""

    folder: Path  # of the frames
    name: str  # CITY_SEQUENCE
    numbers: tuple[int, ...]  # of the frames, ascending
    cameras: dict[int, Path]  # of the sequence, by the number of the frame they were made at

    def frame_path(self, number: int) -> Path:
        """The raw picture of a frame."""
        return self.folder / f"{self.name}_{number:06d}_leftImg8bit.png"


@dataclass
class Report:
    """What became of the frames; the lists hold names of files."""

    made: int = 0
    there: int = 0
    ends: int = 0  # first and last of a snippet, which have no neighbour on one side
    lonely: list[str] = field(default_factory=list)  # with a hole where a neighbour belongs
    blind: list[str] = field(default_factory=list)  # sequences without a camera
    unreadable: list[str] = field(default_factory=list)  # sentences that name a file

    def add(self, other: Report) -> None:
        """Count another report's frames too."""
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        from datasets.files import some_of

        lines = [f"{self.made:,} triplets made, {self.there:,} were there",
                 f"{self.ends:,} frames at the ends of their snippets have none"]
        for what, names in {
            "frames without a triplet, as a neighbour is missing": self.lonely,
            "snippets without triplets, as camera files are missing": self.blind,
        }.items():
            lines += [f"{len(names):,} {what}: {some_of(names)}"] if names else []
        return "\n".join(lines)


def find_snippets(root: Path) -> list[Snippet]:
    """Every snippet under `leftImg8bit_sequence/train`. Raises UserError if there is none."""
    pictures = root / "leftImg8bit_sequence" / "train"
    if not os.path.isdir(pictures):  # False too for a name that is too long: Path.is_dir raises
        raise UserError(f"{root} is no Cityscapes folder: {pictures} does not exist")
    snippets = []
    for city in sorted(path for path in pictures.iterdir() if path.is_dir()):
        cameras = _by_sequence(root / "camera" / "train" / city.name, CAMERA_NAME)
        for name, frames in sorted(_by_sequence(city, FRAME_NAME).items()):
            for numbers in _without_gaps(sorted(frames)):
                snippets.append(Snippet(city, name, numbers, cameras.get(name, {})))
    if not snippets:
        raise UserError(f"{pictures} holds no frame CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png")
    return snippets


def _by_sequence(folder: Path, pattern: re.Pattern[str]) -> dict[str, dict[int, Path]]:
    """The files of a folder by sequence and frame number; none where there is no folder."""
    found: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in folder.iterdir() if folder.is_dir() else ():
        if name := pattern.fullmatch(path.name):
            found[name["sequence"]][int(name["frame"])] = path
    return found


def _without_gaps(numbers: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Ascending numbers, taken apart where they jump."""
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] - numbers[end - 1] > SNIPPET_GAP:
            yield tuple(numbers[start:end])
            start = end


def make_triplets(
    snippet: Snippet, dump_root: Path, size: tuple[int, int], fast_png: bool = False
) -> Report:
    """Make the triplets of a snippet that are not there; size: (width, height) before the cut.

    fast_png: the same pixels, in other bytes than the published ones, much sooner. A photograph
    repeats little that is worth looking for, once PNG's filters have run.

    A triplet is there if its camera's text is the one of this size: that is written last.
    """
    report = Report()
    targets = _targets(snippet, report)
    if not targets:
        return report
    if not snippet.cameras:
        report.blind.append(f"{snippet.name}_*_camera.json")
        return report
    frames = Frames(snippet, size)
    compression = {"compress_type": zlib.Z_RLE} if fast_png else {}
    for target in targets:
        name = f"{snippet.name}_{target:06d}"
        folder = dump_root / snippet.folder.name
        picture, camera = folder / f"{name}.png", folder / f"{name}_cam.txt"
        try:
            text = frames.camera_text(target)
            if camera.is_file() and picture.is_file() and camera.read_text() == text:
                report.there += 1
                continue
            triplet = frames.stacked(target)
        except UnreadableError as error:
            report.unreadable.append(str(error))
            continue
        with atomic_path(picture) as partial:
            triplet.save(partial, **compression)
        with atomic_path(camera) as partial:
            partial.write_text(text)
        report.made += 1
    report.unreadable = list(dict.fromkeys(report.unreadable))  # three triplets share a frame
    return report


def _targets(snippet: Snippet, report: Report) -> list[int]:
    """The frames that have both neighbours; the others go into the report."""
    present = set(snippet.numbers)
    first, last = snippet.numbers[0], snippet.numbers[-1]
    targets = []
    for number in snippet.numbers:
        if not first + STEP <= number <= last - STEP:
            report.ends += 1
        elif {number - STEP, number + STEP} <= present:
            targets.append(number)
        else:
            report.lonely.append(snippet.frame_path(number).name)
    return targets


class UnreadableError(UserError):
    """A damaged file: counted, so that the other triplets are made nevertheless."""


class Frames:
    """The frames of a snippet, small and cut, each decoded once as its triplets come by."""

    def __init__(self, snippet: Snippet, size: tuple[int, int]) -> None:
        """size: (width, height) before the cut."""
        self.snippet, self.size = snippet, size
        self._kept: dict[int, Image.Image | UnreadableError] = {}

    def camera_text(self, target: int) -> str:
        """The matrix of a frame's camera, row by row, in pixels of `size`.

        A long sequence has several files: the one made nearest to the frame counts. Raises
        UnreadableError naming a file.
        """
        from PIL import Image

        from datasets.cityscapes_raw import read_camera

        cameras, path = self.snippet.cameras, self.snippet.frame_path(target)
        nearest = min(cameras, key=lambda number: (abs(number - target), number))
        try:
            fx, fy, cx, cy = read_camera(cameras[nearest])
            with Image.open(path) as raw:
                x, y = self.size[0] / raw.width, self.size[1] / raw.height
        except UserError as error:
            raise UnreadableError(str(error)) from error
        except (OSError, SyntaxError) as error:
            raise UnreadableError(f"cannot read the image {path}: {reason(error)}") from error
        return f"{fx * x:f},0.,{cx * x:f},0.,{fy * y:f},{cy * y:f},0.,0.,1."

    def stacked(self, target: int) -> Image.Image:
        """The triplet of a frame, its neighbours above and below; targets must ascend.

        Raises UnreadableError naming a file.
        """
        from PIL import Image

        numbers = (target - STEP, target, target + STEP)
        self._kept = {n: kept for n, kept in self._kept.items() if n >= numbers[0]}
        frames = [self._frame(number) for number in numbers]
        width, height = frames[0].size
        triplet = Image.new("RGB", (width, len(frames) * height))
        for place, frame in enumerate(frames):
            triplet.paste(frame, (0, place * height))
        return triplet

    def _frame(self, number: int) -> Image.Image:
        if number not in self._kept:
            self._kept[number] = self._read(self.snippet.frame_path(number))
        frame = self._kept[number]
        if isinstance(frame, UnreadableError):
            raise frame
        return frame

    def _read(self, path: Path) -> Image.Image | UnreadableError:
        from PIL import Image

        from datasets.cityscapes_raw import without_bonnet
        from datasets.files import load_rgb

        try:
            return without_bonnet(load_rgb(path).resize(self.size, Image.Resampling.LANCZOS))
        except UserError as error:
            return UnreadableError(str(error))


def main(argv: Sequence[str] | None = None) -> None:
    """Make what is missing, then say what there is and what could not be made."""
    opt = prepare_cityscapes_options(argv)
    from joblib import Parallel, delayed
    from tqdm import tqdm

    from datasets.files import some_of

    size, dump_root = (opt.img_width, opt.img_height), Path(opt.dump_root)
    snippets = find_snippets(Path(opt.dataset_dir))
    total = Report()
    parallel = Parallel(n_jobs=min(opt.num_threads, len(snippets)), return_as="generator")
    make = delayed(make_triplets)
    reports = parallel(make(snippet, dump_root, size, opt.fast_png) for snippet in snippets)
    with tqdm(total=sum(len(snippet.numbers) for snippet in snippets), unit="frame") as bar:
        for snippet, report in zip(snippets, reports, strict=True):
            total.add(report)
            bar.update(len(snippet.numbers))
    print(total)
    if size != TRAINING_SIZE:
        width, height = TRAINING_SIZE
        print(f"--dataset cityscapes reads triplets made with --img_width {width} --img_height "
              f"{height}, these are of {opt.img_width} x {opt.img_height}")
    if total.unreadable:
        raise UserError(f"{len(total.unreadable)} files are damaged, start again when they are "
                        f"mended: {some_of(total.unreadable)}")
    if not total.made + total.there:
        raise UserError(f"no triplet could be made from {opt.dataset_dir}")


if __name__ == "__main__":
    run_script(main)
