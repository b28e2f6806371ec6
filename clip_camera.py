"""A clip's camera, told by the user or by EXIF, and what becomes of it and of the pictures.

Pictures are undistorted, cut at the bottom and resized, in this order. Coordinates count from the
picture's edge, so that resizing scales all four numbers, as everywhere here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from datasets.camera_file import (
    Camera,
    camera_numbers,
    check_intrinsics,
    off_centre,
    read_camera_file,
)
from datasets.files import opened_image
from utils import UserError

Size = tuple[int, int]  # (width, height)

WIDTH = 1280  # of stored pictures, unless told: twice what networks are usually trained at
SMALLEST = 32  # pixels of a stored picture's side
# Of the size, from the middle: where a centre is not believed of a camera that does not say for
# which size it is.
FAR_OFF = 0.2
ZOOMED = 0.02  # change of focal length that is none of focusing
FILM_DIAGONAL = math.hypot(36, 24)  # mm; "35 mm film" is meant by the diagonal (CIPA DCG-001)
# EXIF's tags, and what the numbers of FocalPlaneResolutionUnit are in mm.
EXIF_IFD = 0x8769
FOCAL_LENGTH, FOCAL_35MM, PLANE_X, PLANE_UNIT, EXIF_WIDTH, EXIF_HEIGHT = (
    0x920A, 0xA405, 0xA20E, 0xA210, 0xA002, 0xA003
)  # fmt: skip
UNITS = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


class Told(NamedTuple):
    """What the command line says of a clip's camera; no field: nothing."""

    numbers: Camera | None = None  # in pixels of the clip
    size: Size | None = None  # of the pictures that they are for, if their file tells it
    hfov: float | None = None  # degrees
    source: str = ""  # in words

    def camera(self, size: Size) -> Camera:
        """In pixels of a clip of this size. Raises UserError if the file is for another one."""
        width, height = size
        if self.numbers is None:
            focal = width / 2 / math.tan(math.radians(self.hfov) / 2)
            return focal, focal, width / 2, height / 2
        if self.size not in (None, size):
            raise UserError(
                f"{self.source} is the camera of pictures of {self.size[0]}x{self.size[1]}, and "
                f"this clip is {width}x{height}: expected a camera for the clip's own size"
            )
        if self.size is None:
            odd = off_centre(fractions(self.numbers, size), size, FAR_OFF)
            if odd:
                raise UserError(f"{self.source}: {odd} If it is, give a file with the line "
                                f"`# size: {width}x{height}` beside the numbers")
        return self.numbers


def told_cameras(
    texts: Sequence[str], hfov: float | None, names: Sequence[str]
) -> dict[str, Told | None]:
    """What `--intrinsics` (CAMERA or CLIP=CAMERA) or `--hfov` say of each clip; None: nothing.

    Raises UserError for what is no camera, for one of a clip that is not there, and for two of one.
    """
    found: dict[str | None, Told] = {}
    for text in texts:
        owner = next((name for name in names if text.startswith(f"{name}=")), None)
        camera = text[len(owner) + 1 :] if owner else text
        if owner in found:
            raise UserError(f"--intrinsics names two cameras of {owner or 'all clips'}: give one")
        found[owner] = _told(camera, names)
    rest = found.get(None) or (Told(hfov=hfov, source=f"--hfov {hfov:g}") if hfov else None)
    return {name: found.get(name, rest) for name in names}


def _told(text: str, names: Sequence[str]) -> Told:
    if os.path.isfile(text):
        numbers, size = read_camera_file(text)
        return Told(numbers, size, source=text)
    numbers = camera_numbers(text)
    if numbers is None:
        raise UserError(
            f"--intrinsics {text} is neither four numbers fx,fy,cx,cy in pixels, nor a file of "
            f"them or of the 3x3 matrix, nor one of these after CLIP= ({', '.join(names)})"
        )
    return Told(numbers, source=f"--intrinsics {text}")


def exif_camera(path: str | Path) -> Told | None:
    """A centred camera from what a photograph tells of its lens and sensor; None: it does not.

    Pixels a millimetre (FocalPlaneXResolution) are exact where they are there and the picture still
    has its size; else FocalLengthIn35mmFilm, whole millimetres of an equal diagonal.
    """
    try:
        with opened_image(path) as image:
            size, tags = image.size, image.getexif().get_ifd(EXIF_IFD)
            upright = image.getexif().get(0x0112, 1) < 5
    except UserError:
        return None  # whoever reads the frames names it
    numbers = {}
    for tag in (FOCAL_LENGTH, FOCAL_35MM, PLANE_X, EXIF_WIDTH, EXIF_HEIGHT):
        try:
            numbers[tag] = float(tags.get(tag) or 0)
        except (TypeError, ValueError, ZeroDivisionError):
            numbers[tag] = 0.0
    unit = UNITS.get(tags.get(PLANE_UNIT, 2), 0)
    whole = (numbers[EXIF_WIDTH], numbers[EXIF_HEIGHT]) == size
    focal, source = 0.0, ""
    if whole and unit and numbers[PLANE_X] > 0 and numbers[FOCAL_LENGTH] > 0:
        focal = numbers[FOCAL_LENGTH] * numbers[PLANE_X] / unit
        source = f"EXIF: {numbers[FOCAL_LENGTH]:g} mm, {numbers[PLANE_X] / unit:.0f} pixels a mm"
    elif numbers[FOCAL_35MM] > 0:
        focal = numbers[FOCAL_35MM] * math.hypot(*size) / FILM_DIAGONAL
        source = f"EXIF: as {numbers[FOCAL_35MM]:g} mm on 35 mm film"
    if not 0 < focal < math.inf:
        return None
    width, height = size if upright else size[::-1]
    return Told((focal, focal, width / 2, height / 2), (width, height), source=source)


class Treatment:
    """From a clip's frames to stored pictures, and from its camera to theirs."""

    def __init__(
        self,
        name: str,
        source: Size,
        camera: Camera | None,
        crop_bottom: float = 0,
        size: tuple[int | None, int | None] = (None, None),
        distortion: Sequence[float] | None = None,
    ) -> None:
        """name: for messages; source: of the clip; camera: in its pixels; crop_bottom: share of its
        height below 1, else pixels; size: width or height to store; distortion: OpenCV's five.

        Raises UserError for a camera that cannot be one, and where nothing is left of the picture.
        """
        width, height = source
        if camera is not None:
            check_intrinsics(fractions(camera, source), name)
        cut = round(crop_bottom * height) if crop_bottom < 1 else int(crop_bottom)
        rows = height - cut
        if rows < SMALLEST or width < SMALLEST:
            raise UserError(f"{name} is {width}x{height}, {rows} rows after --crop_bottom "
                            f"{crop_bottom:g}: at least {SMALLEST} columns and rows are needed")
        wanted_width, wanted_height = size
        scale = wanted_height / rows if wanted_height else (wanted_width or WIDTH) / width
        scale = min(1.0, scale)
        self.source, self.rows = source, rows
        self.stored = max(1, round(width * scale)), max(1, round(rows * scale))
        if min(self.stored) < SMALLEST:
            raise UserError(f"{name} would be stored as {self.stored[0]}x{self.stored[1]}: at "
                            f"least {SMALLEST} columns and rows are needed: see --width, --height")
        self.camera: Camera | None = None
        if camera is not None:
            x, y = self.stored[0] / width, self.stored[1] / rows
            self.camera = camera[0] * x, camera[1] * y, camera[2] * x, camera[3] * y
            check_intrinsics(fractions(self.camera, self.stored), f"{name}, cut")
        self._maps = undistortion(camera, source, distortion) if camera and distortion else None

    def __call__(self, picture: Image.Image) -> Image.Image:
        """A stored picture of an RGB frame; Lanczos with antialiasing."""
        if self._maps is not None:
            import cv2

            picture = Image.fromarray(
                cv2.remap(np.asarray(picture), *self._maps, cv2.INTER_LINEAR)
            )
        box = (0, 0, self.source[0], self.rows)
        if self.stored == box[2:]:
            return picture.crop(box)
        return picture.resize(self.stored, Image.Resampling.LANCZOS, box=box)

    def empty_share(self) -> float:
        """Of a stored picture, what the lens has not seen and undistortion leaves black."""
        if self._maps is None:
            return 0.0
        x, y = (part[: self.rows] for part in self._maps)
        width, height = self.source
        return 1 - float(((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).mean())


def undistortion(
    camera: Camera, size: Size, distortion: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """x and y, float32 (height, width), of each pixel of an undistorted picture in the distorted
    one; the camera stays as it is. The centre is taken as OpenCV's calibration states it."""
    import cv2

    fx, fy, cx, cy = camera
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    return cv2.initUndistortRectifyMap(K, np.array(distortion), None, K, size, cv2.CV_32FC1)


def check_zoom(first: Told, path: str) -> None:
    """Raise UserError if EXIF tells another focal length of a picture than of its clip's first."""
    other = exif_camera(path)
    if other is not None and abs(other.numbers[0] / first.numbers[0] - 1) > ZOOMED:
        raise UserError(f"{path} was taken with another focal length ({other.source}) than the "
                        f"first picture ({first.source}): a clip has one camera; give --intrinsics "
                        "or --hfov if it did not zoom")


def fractions(camera: Camera, size: Size) -> Camera:
    """A camera in pixels as fractions of the picture's width, height, width, height."""
    fx, fy, cx, cy = camera
    return fx / size[0], fy / size[1], cx / size[0], cy / size[1]
