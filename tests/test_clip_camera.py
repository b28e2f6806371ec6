"""A clip's camera through cuts, resizing and undistortion; what is told of it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from clip_camera import (
    EXIF_HEIGHT,
    EXIF_IFD,
    EXIF_WIDTH,
    FOCAL_35MM,
    FOCAL_LENGTH,
    PLANE_UNIT,
    PLANE_X,
    Treatment,
    exif_camera,
    fractions,
    told_cameras,
)
from datasets.camera_file import off_centre
from utils import UserError

CAMERA = (500.0, 510.0, 330.0, 170.0)
SOURCE = (640, 360)


def dot(x: float, y: float, size: tuple[int, int] = SOURCE) -> Image.Image:
    """A bright dot there, from the picture's corner."""
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    grey = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)
    return Image.fromarray(np.repeat(grey.round().astype(np.uint8)[..., None], 3, 2))


def found(picture: Image.Image) -> np.ndarray:
    """(x, y) of the dot, from the picture's corner."""
    weight = np.asarray(picture)[..., 0].astype(float)
    weight[weight < 8] = 0
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


@pytest.mark.parametrize("crop", [0, 0.25, 70])
@pytest.mark.parametrize("size", [(None, None), (320, None), (301, None), (None, 111)])
def test_the_stored_camera_sees_a_point_where_the_stored_picture_shows_it(crop, size):
    treatment = Treatment("a", SOURCE, CAMERA, crop, size)
    for point in ([0.3, 0.1, 2.0], [-0.8, -0.3, 3.0]):
        fx, fy, cx, cy = CAMERA
        picture = treatment(dot(fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy))
        assert picture.size == treatment.stored
        fx, fy, cx, cy = treatment.camera
        seen = fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy
        np.testing.assert_allclose(found(picture), seen, atol=0.05)


@pytest.mark.parametrize(
    ("source", "crop", "size", "stored"),
    [
        (SOURCE, 0, (None, None), (640, 360)),  # nothing is enlarged
        (SOURCE, 0, (1000, None), (640, 360)),
        (SOURCE, 0.25, (None, None), (640, 270)),
        (SOURCE, 90, (320, None), (320, 135)),
        ((1920, 1080), 0, (None, None), (1280, 720)),
        ((1080, 1920), 0, (None, 960), (540, 960)),
    ],
)
def test_the_size_of_stored_pictures_by_hand(source, crop, size, stored):
    treatment = Treatment("a", source, None, crop, size)
    assert treatment.stored == stored
    assert treatment(Image.new("RGB", source)).size == stored


def test_the_lower_part_is_what_is_cut_off():
    picture = Image.new("RGB", SOURCE, (255, 0, 0))
    picture.paste((0, 0, 255), (0, 260, 640, 360))
    cut = np.asarray(Treatment("a", SOURCE, None, 100)(picture))
    assert cut.shape == (260, 640, 3)
    assert (cut == (255, 0, 0)).all()


def test_an_undistorted_point_is_where_the_camera_sees_it():
    """OpenCV's own projection says where a lens shows a point; half a pixel lies between its
    coordinates, from the first pixel's centre, and those of `dot`."""
    distortion = (-0.25, 0.06, 0.001, -0.0005, -0.01)
    fx, fy, cx, cy = CAMERA
    K = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    point = np.array([[0.7, -0.35, 2.0]])
    shown, _ = cv2.projectPoints(point, np.zeros(3), np.zeros(3), K, np.array(distortion))
    treatment = Treatment("a", SOURCE, CAMERA, distortion=distortion)
    seen = np.array([fx * 0.35 + cx, fy * -0.175 + cy])
    assert np.linalg.norm(shown.ravel() - seen) > 5  # there is something to undo
    np.testing.assert_allclose(found(treatment(dot(*(shown.ravel() + 0.5)))), seen + 0.5, atol=0.1)
    assert treatment.camera == CAMERA
    assert treatment.empty_share() == 0
    pincushion = Treatment("a", SOURCE, CAMERA, distortion=(0.25, 0, 0, 0, 0))
    black = (np.asarray(pincushion(Image.new("RGB", SOURCE, (255,) * 3)))[..., 0] < 128).mean()
    assert pincushion.empty_share() == pytest.approx(black, abs=0.01)
    assert black > 0.02


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        ((5000, 5000, 320, 180), "'a.mp4' has fx 7.8125 times the picture's width, expected 0.2"),
        ((500, 500, 960, 180), "'a.mp4' has cx 1.5 times the picture's width, expected 0 to 1"),
        ((500, 60, 320, 180), "has fy 0.166667 times the picture's height"),
        ((500, 500, 320, 340), "'a.mp4, cut' has cy 1.25926 times the picture's height"),
    ],
)
def test_a_camera_that_cannot_be_one_is_named_with_its_number(camera, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Treatment("a.mp4", SOURCE, camera, 0.25)


@pytest.mark.parametrize(
    ("crop", "size", "message"),
    [
        (350, (None, None), r"a\.mp4 is 640x360, 10 rows after --crop_bottom 350"),
        (0, (16, None), r"a\.mp4 would be stored as 16x9"),
    ],
)
def test_pictures_of_which_nothing_is_left_are_refused(crop, size, message):
    with pytest.raises(UserError, match=message):
        Treatment("a.mp4", SOURCE, None, crop, size)


# ---- what is told ----------------------------------------------------------------------------


def test_a_field_of_view_by_hand():
    (told,) = told_cameras([], 90, ["a"]).values()
    np.testing.assert_allclose(told.camera((640, 360)), (320, 320, 320, 180))


def test_one_camera_for_all_and_another_for_one(tmp_path: Path):
    (tmp_path / "own.txt").write_text("# size: 640x360\n500 0 330\n0 510 170\n0 0 1\n")
    told = told_cameras(["400,401,310,190", f"b c={tmp_path / 'own.txt'}"], None, ["a", "b c"])
    assert told["a"].camera(SOURCE) == (400, 401, 310, 190)
    assert told["b c"].camera(SOURCE) == CAMERA
    with pytest.raises(UserError, match=r"own\.txt is the camera of pictures of 640x360, and this "
                       "clip is 320x180"):  # fmt: skip
        told["b c"].camera((320, 180))
    assert told_cameras([], None, ["a"]) == {"a": None}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["moon"], "--intrinsics moon is neither four numbers"),
        (["d=1,2,3,4"], r"nor one of these after CLIP= \(a, b\)"),
        (["1,2,3,4", "5,6,7,8"], "two cameras of all clips"),
        (["a=1,2,3,4", "a=5,6,7,8"], "two cameras of a: "),
    ],
)
def test_what_tells_no_camera_is_refused(texts, message):
    with pytest.raises(UserError, match=message):
        told_cameras(texts, None, ["a", "b"])


def photograph(path: Path, tags: dict[int, object], orientation: int = 1) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(EXIF_IFD).update(tags)
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (400, 300)).save(path, exif=exif)
    return path


def test_exif_by_hand(tmp_path: Path):
    # 4:3, diagonal 500 px, as 43.267 mm: 26 mm are 26 * 500 / 43.267 px.
    told = exif_camera(photograph(tmp_path / "a.jpg", {FOCAL_35MM: 26}))
    focal = 26 * 500 / math.sqrt(36**2 + 24**2)
    np.testing.assert_allclose(told.camera((400, 300)), (focal, focal, 200, 150))
    told = exif_camera(photograph(tmp_path / "a.jpg", {FOCAL_35MM: 26}, orientation=6))
    np.testing.assert_allclose(told.camera((300, 400)), (focal, focal, 150, 200))
    # 5 mm at 2000 px an inch, the unit unless told; another unit is that of cm.
    plane = {FOCAL_LENGTH: 5.0, PLANE_X: 2540.0, EXIF_WIDTH: 400, EXIF_HEIGHT: 300, FOCAL_35MM: 26}
    told = exif_camera(photograph(tmp_path / "a.jpg", plane))
    assert told.camera((400, 300))[0] == pytest.approx(500)
    told = exif_camera(photograph(tmp_path / "a.jpg", plane | {PLANE_UNIT: 3}))
    assert told.camera((400, 300))[0] == pytest.approx(1270)
    # Resized since: pixels a mm are no longer those of this picture.
    told = exif_camera(photograph(tmp_path / "a.jpg", plane | {EXIF_WIDTH: 800, EXIF_HEIGHT: 600}))
    assert told.camera((400, 300))[0] == pytest.approx(focal)
    assert exif_camera(photograph(tmp_path / "a.jpg", {FOCAL_LENGTH: 5.0})) is None
    assert exif_camera(photograph(tmp_path / "a.jpg", {FOCAL_35MM: 0})) is None


def test_a_centre_far_from_the_middle_is_worth_a_warning():
    assert off_centre(fractions(CAMERA, SOURCE), SOURCE) == ""
    odd = off_centre((1, 1, 0.75, 0.5), SOURCE)
    assert odd.startswith("cx of the camera is at 0.75 of the width")


def test_a_centre_that_no_size_explains_is_refused(tmp_path: Path):
    """fx,fy,cx,cy of a picture half as large again."""
    (told,) = told_cameras(["750,750,480,270"], None, ["a"]).values()
    with pytest.raises(UserError, match=r"cx of the camera is at 0\.75 of the width.*# size: 640"):
        told.camera(SOURCE)
    (tmp_path / "camera.txt").write_text("# size: 640x360\n750 750 480 270\n")
    (told,) = told_cameras([str(tmp_path / "camera.txt")], None, ["a"]).values()
    assert told.camera(SOURCE) == (750, 750, 480, 270)
