"""Folders of numbered frames, as prepare_video.py writes them: any video, any camera.

    ROOT/CLIP/0000000000.jpg ...     consecutive numbers are consecutive frames of one shot
    ROOT/CLIP/intrinsics.txt         the camera of this clip; else that of all, ROOT/intrinsics.txt
    ROOT/depth/CLIP/0000000000.png   true depth, where it is known: metres times the number in
                                     ROOT/depth/scale.txt (256 without), or .npy in metres
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.camera_file import check_intrinsics, read_camera_file
from datasets.cityscapes_dataset import read_depth as read_depth_array
from datasets.files import DepthMaps, FileIndex, opened_image, require_folder
from datasets.folder_lists import numbered_frames, split_root
from datasets.mono_dataset import MonoDataset, Pictures
from datasets.resizing import size_of
from datasets.splits import LINE_FORMATS
from kitti_utils import read_depth_png
from utils import UserError, read_lines

DEPTH_STEPS = 256  # what a PNG of true depth holds for a metre, unless depth/scale.txt says
Size = tuple[int, int]  # (width, height)


class FolderRef(NamedTuple):
    """A line of a list."""

    root: str
    clip: str  # folder below the root
    frame: int

    @property
    def folder(self) -> str:
        """Where the clip's frames are."""
        return f"{self.root}/{self.clip}"


class ClipCamera(NamedTuple):
    """A camera file: fx, fy, cx, cy as fractions of the size of the pictures that it is for."""

    intrinsics: tuple[float, float, float, float]
    size: Size


class FolderDataset(MonoDataset):
    """`CLIP/NUMBER.jpg`, `.jpeg` or `.png` of any zero padding, of one root or several."""

    def __init__(
        self,
        data_path: str | Path | Sequence[str],
        lines: Sequence[str],
        *arguments: Any,
        camera_required: bool = True,
        **options: Any,
    ) -> None:
        """data_path: root or roots; lines: of `folder_lists.folder_lines`; the rest: as
        `MonoDataset`. camera_required: refuse clips without intrinsics.txt; else, where any clip
        has none, no sample has a camera. Raises UserError for pictures of another size than their
        camera's too, as far as each clip's first line tells.
        """
        roots = [data_path] if isinstance(data_path, str | Path) else data_path
        self.roots = [str(root) for root in roots]
        self.camera_required = camera_required
        self._frames: dict[str, dict[int, str]] = {}  # by folder
        self._camera_paths: dict[str, str | None] = {}  # by folder
        self._cameras: dict[str, ClipCamera] = {}  # by file
        self._sizes: dict[str, Size] = {}  # of clips without a camera, by folder
        super().__init__(self.roots[0], lines, *arguments, **options)
        self.index_clips()
        for ref in self._first_refs.values():
            if self.intrinsics(ref) is not None:
                self.check_size(ref, self.image_path(ref, 0))

    def index_clips(self) -> None:
        """Note the clips that the lines are of; again where the lines have changed."""
        self._first_refs: dict[str, FolderRef] = {}
        for ref in self.refs:
            self._first_refs.setdefault(ref.folder, ref)
        self._all_known = None not in map(self.camera_path, self._first_refs.values())

    def parse(self, line: str) -> FolderRef:
        """`CLIP FRAME`, after its root where there are several. Raises UserError."""
        root, rest = split_root(line, self.roots)
        found = LINE_FORMATS["folder"].match(rest, "in the split")
        clip = found["clip"]
        if os.path.isabs(clip) or ".." in Path(clip).parts:
            raise UserError(f"in the split: {line!r} leads out of {root}: expected a folder in it")
        return FolderRef(root, clip, int(found["frame"]))

    # ---- pictures ----------------------------------------------------------------------------

    def check_files(self) -> None:
        """As `MonoDataset`, for every root."""
        for root in self.roots:
            require_folder(root)
        super().check_files()

    def image_path(self, ref: FolderRef, frame: int | str) -> str:
        """The file of that number; of one that is not there, as its neighbours are called."""
        names = self._names(ref)
        name = names.get(ref.frame + frame)
        if name is None:
            like = names.get(ref.frame) or next(iter(names.values()), "0000000000.jpg")
            stem, ending = os.path.splitext(like)
            name = f"{ref.frame + frame:0{len(stem)}d}{ending}"
        return f"{ref.folder}/{name}"

    def _names(self, ref: FolderRef) -> dict[int, str]:
        """Names of a clip's frames by number; a folder is listed once."""
        if ref.folder not in self._frames:
            self._frames[ref.folder] = numbered_frames(ref.folder)
        return self._frames[ref.folder]

    def _other_extension(self, path: str, index: FileIndex) -> str:  # noqa: ARG002
        """What the clip has instead."""
        folder = os.path.dirname(path)
        numbers = [*self._frames.get(folder, ())]
        if not numbers:
            return f"; {folder} holds no pictures whose names are numbers"
        return f"; {folder} has {len(numbers):,} frames from {numbers[0]} to {numbers[-1]}"

    def load_frames(self, ref: FolderRef) -> Pictures:
        """Every frame, each of the clip's size."""
        pictures = super().load_frames(ref)
        for frame, picture in pictures.items():
            self._compare_size(ref, self.image_path(ref, frame), size_of(picture))
        return pictures

    # ---- cameras -----------------------------------------------------------------------------

    def camera_path(self, ref: FolderRef) -> str | None:
        """The camera file of a clip, or that of its root; None where there is neither."""
        if ref.folder not in self._camera_paths:
            paths = (f"{folder}/intrinsics.txt" for folder in (ref.folder, ref.root))
            self._camera_paths[ref.folder] = next(filter(os.path.isfile, paths), None)
        return self._camera_paths[ref.folder]

    def intrinsics(self, ref: FolderRef) -> tuple[float, float, float, float] | None:
        if self.camera_required or self._all_known:
            return self.camera(ref).intrinsics
        return None

    def camera(self, ref: FolderRef) -> ClipCamera:
        """The camera of a clip, read once. A file that tells no size is for pictures as large as
        the first that asks for it."""
        path = self.camera_path(ref)
        if path is None:
            raise UserError(
                f"no camera is known of {ref.folder}: write `fx fy cx cy`, in pixels of its "
                f"pictures, to {ref.root}/intrinsics.txt, or train with --learn_intrinsics"
            )
        if path not in self._cameras:
            (fx, fy, cx, cy), size = read_camera_file(path)
            width, height = size or self._size(self.image_path(ref, 0))
            fractions = (fx / width, fy / height, cx / width, cy / height)
            check_intrinsics(fractions, path)
            self._cameras[path] = ClipCamera(fractions, (width, height))
        return self._cameras[path]

    def clip_size(self, ref: FolderRef) -> Size:
        """That the clip's camera is stated for; without one, that of its first line's picture."""
        if self.camera_path(ref) is not None:
            return self.camera(ref).size
        if ref.folder not in self._sizes:
            self._sizes[ref.folder] = self._size(self.image_path(self._first_refs[ref.folder], 0))
        return self._sizes[ref.folder]

    def check_size(self, ref: FolderRef, path: str) -> None:
        """Raise UserError if a picture is not of its clip's size."""
        self._compare_size(ref, path, self._size(path))

    def _compare_size(self, ref: FolderRef, path: str, size: Size) -> None:
        width, height = self.clip_size(ref)
        if size == (width, height):
            return
        camera, first = self.camera_path(ref), self.image_path(self._first_refs[ref.folder], 0)
        like = f"{camera} is the camera of pictures of" if camera else f"{first} is"
        raise UserError(
            f"{path} is {size[0]}x{size[1]} (width x height), and {like} {width}x{height}: "
            "pictures of another size need a folder, and an intrinsics.txt, of their own"
        )

    @staticmethod
    def _size(path: str) -> Size:
        with opened_image(path) as image:
            return image.size

    # ---- what tells a run from another -------------------------------------------------------

    def clip(self, ref: FolderRef) -> str:
        """A clip's name, after the number of its root where there are several: another place is
        not another clip."""
        return ref.clip if len(self.roots) == 1 else f"{self.roots.index(ref.root)}/{ref.clip}"

    def own_lines(self) -> list[str]:
        """Lines with the names of `clip`."""
        return [f"{self.clip(ref)} {ref.frame}" for ref in self.refs]

    def own_cameras(self) -> list[str]:
        """A line a clip."""
        known = ((ref, self.intrinsics(ref)) for ref in self._first_refs.values())
        return sorted(f"{self.clip(ref)} {values}" for ref, values in known if values is not None)

    # ---- true depth --------------------------------------------------------------------------

    def ground_truth(self) -> DepthMaps:
        """`depth/CLIP/NAME.png` or `.npy` of each line, NAME as the picture's."""
        index = FileIndex()
        paths = []
        for ref in self.refs:
            stem = os.path.splitext(self.image_path(ref, 0))[0].removeprefix(ref.root)
            both = [f"{ref.root}/depth{stem}{ending}" for ending in (".png", ".npy")]
            paths.append(next((path for path in both if path in index), both[0]))
        scales = {root: depth_scale(root) for root in self.roots}
        hint = "test_files.txt may name those that have it"
        return DepthMaps(paths, partial(_read_depth, scales), hint)


def depth_scale(root: str | Path) -> float:
    """What the PNGs in `depth/` hold for a metre. Raises UserError if scale.txt is no number."""
    path = Path(root) / "depth" / "scale.txt"
    if not path.is_file():
        return DEPTH_STEPS
    text = " ".join(read_lines(path))
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0 < scale < np.inf:
        raise UserError(f"{path} must hold one number above 0, what the depth maps hold for a "
                        f"metre, got {text!r}")
    return scale


def _read_depth(scales: dict[str, float], path: str | Path) -> np.ndarray:
    """True depth: float32 (height, width), metres, 0 unknown. scales: by root."""
    if str(path).endswith(".npy"):
        return read_depth_array(path)
    root = max((root for root in scales if str(path).startswith(f"{root}/")), key=len)
    return read_depth_png(path, scales[root])
