"""From pictures on disk to a training sample, for any data set of consecutive frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import __version__ as PIL_VERSION
from torch import Tensor
from torch.utils.data import Dataset

from augmentations import Augmentation, draw_augmentation
from datasets.camera_file import check_intrinsics
from datasets.files import (
    DepthMaps,
    FileIndex,
    load_pixels,
    load_rgb,  # noqa: F401 (it, `resize` and `to_tensor` are looked for here)
    require_folder,
    some_of,
)
from datasets.keys import FrameKey, SampleIndex
from datasets.png import load_decoders
from datasets.resizing import (
    Picture,
    method,
    resize,  # noqa: F401
    size_of,
    smaller,
    to_tensor,  # noqa: F401
    view,
)
from utils import UserError

if TYPE_CHECKING:
    from datasets.cache import PictureCache

Sample = dict[FrameKey | str, Tensor]
Pictures = dict[int | str, Picture]


class MonoDataset(Dataset[Sample]):
    """Samples of a target frame and its sources, ready for the default collation.

    What a sample holds, of network input size (height, width) = (H, W):

    * `FrameKey("color", frame, scale)`: uint8 (3, H / 2**scale, W / 2**scale). Scale 0 of every
      frame; further scales of the target (of all frames with `pyramid_of_sources`).
    * `FrameKey("color_local", frame, scale)`: alike, the resized crop.
    * `K`, `inv_K`: float32 (4, 4), in pixels of scale 0, where the camera is known; or, after
      `learn_cameras`, `clip`, int64, the clip's number, and `flip`, bool, whether it is mirrored.
    * `crop`: float64 (5,), ratio, resized height, resized width, y0, x0 (`CropBox`).
    * `cut`: int64 (2,), height, width (`Cut`), of a reshuffle that is left to the device.
    * `jitter`: float32 (8,) (`Augmentation`), a colour change that is left to the device.
    * `stereo_T`: float32 (4, 4), target to stereo partner, if frame "s" is asked for.
    * `index`: int64, the line's number in the list.

    Training alone has crops, cuts, jitter and scales above 0. The augmentation depends on (seed,
    epoch, index) and nothing else: not on the worker, nor on what was read before.

    A data set states what differs: `parse`, `image_path` and `intrinsics`; `FRAMES` where not every
    neighbour exists; `stereo_offset` where there is a partner; `load_image` or `load_frames` where
    a frame is more than an image file, `needed_files` where a sample is; `ground_truth`.
    """

    FRAMES: tuple[int, ...] | None = None  # neighbours that a line has; None: any may be there
    FRAMES_IN_A_FILE = False  # whether a file holds more frames than one

    def __init__(
        self,
        data_path: str | Path,
        lines: Sequence[str],
        height: int,
        width: int,
        frame_ids: Sequence[int | str] = (0, -1, 1),
        num_scales: int = 1,
        *,
        is_train: bool = False,
        seed: int = 0,
        local_crop: bool = False,
        patch_reshuffle: bool = False,
        jpg: bool = False,
        pyramid_of_sources: bool = False,
        fast_resize: bool = False,
        cache: PictureCache | None = None,
    ) -> None:
        """data_path: root of the data set; lines: of a split, see `datasets.splits`.

        fast_resize: by torch's Lanczos instead of Pillow's, see `datasets.resizing`. cache: of
        decoded pictures, from which samples are the same.

        Raises UserError for a line it cannot parse and for files that are not there.
        """
        self.data_path = Path(data_path)
        self.height = height
        self.width = width
        self.frame_ids = tuple(frame_ids)
        self.num_scales = num_scales
        self.is_train = is_train
        self.seed = seed
        self.local_crop = local_crop
        self.patch_reshuffle = patch_reshuffle
        self.extension = ".jpg" if jpg else ".png"
        self.pyramid_of_sources = pyramid_of_sources
        self.clip_numbers: dict[str, int] | None = None  # of those whose cameras are learned
        self.fast_resize = fast_resize
        self.cache = cache
        self.lines = list(lines)
        self.refs = [self.parse(line) for line in self.lines]
        self.check_frames()
        self.check_files()
        load_decoders()

    # ---- what a data set states ------------------------------------------------------------

    def parse(self, line: str) -> Any:
        """A line of the list as whatever the other methods need. Raises UserError."""
        raise NotImplementedError

    def image_path(self, ref: Any, frame: int | str) -> str:
        """The file of a frame, as an absolute or working path."""
        raise NotImplementedError

    def intrinsics(self, ref: Any) -> tuple[float, float, float, float] | None:
        """fx, fy, cx, cy as fractions of the width, height, width, height; None: unknown."""
        raise NotImplementedError

    def clip(self, ref: Any) -> str:
        """What a sample shares its camera with: the folder of its pictures, below the root."""
        return os.path.relpath(os.path.dirname(self.image_path(ref, 0)), self.data_path)

    def stereo_offset(self, ref: Any) -> float:  # noqa: ARG002
        """x of the translation from target to stereo partner, before any mirroring."""
        raise UserError(f"{type(self).__name__} has no stereo partner: leave frame 's' out")

    def load_frames(self, ref: Any) -> Pictures:
        """Every frame of a sample, RGB at native size: one decoding each."""
        return {frame: self.load_kept(self.image_path(ref, frame)) for frame in self.frame_ids}

    def load_image(self, path: str) -> Picture:
        """A file as RGB. Raises UserError naming a file that is missing or no image."""
        return load_pixels(path)

    def needed_files(self, ref: Any) -> Iterator[tuple[str, str]]:
        """What it is, in words, and path of every file that a sample is read from."""
        return ((f"frame {frame}", self.image_path(ref, frame)) for frame in self.frame_ids)

    def ground_truth(self) -> DepthMaps:
        """True depth of every line, cut as the picture is. Raises UserError if files are missing,
        and where the layout holds none."""
        raise UserError(f"{type(self).__name__} has no ground truth beside its pictures")

    def own_lines(self) -> list[str]:
        """What tells the list from another, wherever the data lies."""
        return self.lines

    def own_cameras(self) -> list[str]:
        """What tells the cameras from others, where a user states them: a line each."""
        return []

    # ---- what all of them share ------------------------------------------------------------

    def check_frames(self) -> None:
        """Raise UserError for a frame that no line has."""
        if "s" in self.frame_ids:
            self.stereo_offset(self.refs[0])
        unknown = set(self.frame_ids) - set(self.FRAMES or self.frame_ids) - {"s"}
        if unknown:
            raise UserError(f"{type(self).__name__} has no frame {some_of(sorted(unknown))}: its "
                            f"frames are {', '.join(map(str, sorted(self.FRAMES)))}")

    def clips(self) -> dict[str, int]:
        """Every clip's first line, its number by the clip's name, in order of names."""
        first: dict[str, int] = {}
        for number, ref in enumerate(self.refs):
            first.setdefault(self.clip(ref), number)
        return dict(sorted(first.items()))

    def learn_cameras(self, clips: Sequence[str] | None = None) -> None:
        """Leave the cameras to be learned: samples tell their clip instead of what is known.

        clips: names of those that are trained on, in order; None: this list's own.
        """
        names = self.clips() if clips is None else clips
        self.clip_numbers = {name: number for number, name in enumerate(names)}

    def shape(self) -> tuple[int, int]:
        """(width, height) of the first line's target, before it is resized."""
        return size_of(self.load_frames(self.refs[0])[0])

    def check_cameras(self) -> None:
        """Raise UserError unless a camera is known of every clip, as its first line tells."""
        for clip, number in self.clips().items():
            if self.intrinsics(self.refs[number]) is None:
                raise UserError(f"the camera of the clip {clip} is not known: state its "
                                "intrinsics, or add --learn_intrinsics")

    def check_files(self) -> None:
        """Look for every file of the list. Raises UserError naming the first that are missing."""
        require_folder(self.data_path)
        index = FileIndex()
        missing: dict[str, tuple[str, str]] = {}  # path: the first line that needs it, and as what
        for line, ref in zip(self.lines, self.refs, strict=True):
            for what, path in self.needed_files(ref):
                if path not in index:
                    missing.setdefault(path, (line, what))
        if missing:
            path, *others = missing
            line, what = missing[path]
            also = f"; also missing: {some_of(others)}" if others else ""
            raise UserError(f"{what} of the split line {line!r} is missing: {path} does not "
                            f"exist{self._other_extension(path, index)}{also}")

    def _other_extension(self, path: str, index: FileIndex) -> str:
        """A hint for who forgot, or should not have passed, `--jpg`."""
        stem, extension = os.path.splitext(path)
        if extension == ".png" and f"{stem}.jpg" in index:
            return "; there is a .jpg file of that name, which --jpg reads"
        if extension == ".jpg" and f"{stem}.png" in index:
            return "; there is a .png file of that name, which is read without --jpg"
        return ""

    def draw(self, where: SampleIndex) -> Augmentation:
        """The augmentation of a training sample."""
        uniform = np.random.default_rng([self.seed, *where]).random
        return draw_augmentation(uniform, self.height, self.width, local_crop=self.local_crop,
                                 patch_reshuffle=self.patch_reshuffle)

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int | SampleIndex) -> Sample:
        """The sample of a line, in the epoch that comes with it, or in epoch 0."""
        where = index if isinstance(index, SampleIndex) else SampleIndex(0, int(index))
        ref = self.refs[where.index]
        drawn = self.draw(where) if self.is_train else Augmentation()
        # Read where they are first needed: not at all, where the cache has all that is asked for.
        load = once(lambda: self.load_frames(ref))
        sample: Sample = {}
        for frame in self.frame_ids:
            whole = self._whole(ref, frame, load, drawn.flip)
            self._add_scales(sample, "color", frame, whole)
            if drawn.crop is not None:
                size = self.height, self.width
                crop = view(load()[frame], size, drawn.crop, drawn.flip, self.fast_resize)
                self._add_scales(sample, "color_local", frame, crop)
        self._add_camera(sample, where.index, drawn.flip)
        if "s" in self.frame_ids:
            sample["stereo_T"] = torch.eye(4)
            sample["stereo_T"][0, 3] = self.stereo_offset(ref) * (-1 if drawn.flip else 1)
        if drawn.crop is not None:
            sample["crop"] = torch.tensor(drawn.crop, dtype=torch.float64)
        if drawn.cut is not None:
            sample["cut"] = torch.tensor(drawn.cut)
        if self.is_train:
            sample["jitter"] = torch.tensor(drawn.jitter, dtype=torch.float32)
        sample["index"] = torch.tensor(where.index)
        return sample

    def load_kept(self, path: str) -> Picture:
        """`load_image`, from the cache if there is one and it is needed anew in each epoch, for its
        crop. Raises UserError as `load_image` does."""
        if self.cache is None or not self.local_crop:
            return self.load_image(path)
        name = f"{type(self).__name__} {PIL_VERSION} {os.path.abspath(path)}"
        return self.cache.get(name, path, lambda: np.asarray(self.load_image(path)))

    def _whole(
        self, ref: Any, frame: int | str, load: Callable[[], Pictures], flip: bool
    ) -> Tensor:
        """A frame at network size, from the cache if there is one."""

        def make(flip: bool) -> Tensor:
            return view(load()[frame], (self.height, self.width), None, flip, self.fast_resize)

        if self.cache is None:
            return make(flip)
        path = self.image_path(ref, frame)
        place = frame if self.FRAMES_IN_A_FILE else ""
        name = f"{type(self).__name__} {PIL_VERSION} {method(self.fast_resize)} " \
               f"{self.width}x{self.height} {place} {os.path.abspath(path)}"
        whole = torch.from_numpy(self.cache.get(name, path, lambda: make(flip=False).numpy()))
        return whole.flip(-1) if flip else whole

    def _add_scales(
        self, sample: Sample, kind: str, frame: int | str, picture: Tensor
    ) -> None:
        """A view of a frame, and the scales below it that training looks at."""
        sample[FrameKey(kind, frame, 0)] = picture
        if self.is_train and (frame == 0 or self.pyramid_of_sources):
            for scale in range(1, self.num_scales):
                size = (self.height >> scale, self.width >> scale)
                picture = smaller(picture, size, self.fast_resize)
                sample[FrameKey(kind, frame, scale)] = picture

    def _add_camera(self, sample: Sample, index: int, flip: bool) -> None:
        """K and its inverse; a mirrored picture has its principal point mirrored. Or what a camera
        is learned by."""
        if self.clip_numbers is not None:
            number = self.clip_numbers.get(self.clip(self.refs[index]), -1)
            sample["clip"], sample["flip"] = torch.tensor(number), torch.tensor(flip)
            return
        intrinsics = self.intrinsics(self.refs[index])
        if intrinsics is None:
            return
        check_intrinsics(intrinsics, self.lines[index])
        fx, fy, cx, cy = intrinsics
        K = np.eye(4)
        K[0, :3] = np.array([fx, 0, 1 - cx if flip else cx]) * self.width
        K[1, :3] = np.array([0, fy, cy]) * self.height
        sample["K"] = torch.from_numpy(K).float()
        sample["inv_K"] = torch.from_numpy(np.linalg.inv(K)).float()


