"""How far a camera's picture moves from one frame to the next; no torch."""

from __future__ import annotations

import numpy as np
from PIL import Image

WIDTH = 320  # of the pictures that are compared: finer ones cost time and tell nothing more
CORNERS = 200  # followed, at most
# Share of them that must be found again. Of real drives, from a frame to the next, at least 0.63
# were; between frames far apart at most 0.1, and 0.26 on a motorway, which looks alike everywhere.
FEWEST = 0.3


def motion_picture(picture: Image.Image) -> Image.Image:
    """What of a picture is compared: grey, WIDTH wide; itself, if it is that already."""
    height = max(1, round(WIDTH * picture.height / picture.width))
    if picture.mode == "L" and picture.size == (WIDTH, height):
        return picture
    return picture.convert("L").resize((WIDTH, height), Image.Resampling.BOX)


def apparent_motion(first: Image.Image, second: Image.Image) -> float | None:
    """The median distance that corners of `first` have moved in `second`, as a share of the width.

    Corners are followed by sparse optical flow at WIDTH. None: too few are found again, as after a
    cut, in the dark or before a bare wall.
    """
    import cv2

    grey = [np.asarray(motion_picture(picture)) for picture in (first, second)]
    corners = cv2.goodFeaturesToTrack(grey[0], CORNERS, 0.01, 5)
    if corners is None:
        return None
    there, found, _ = cv2.calcOpticalFlowPyrLK(*grey, corners, None)
    back, again, _ = cv2.calcOpticalFlowPyrLK(*grey[::-1], there, None)
    # What does not come back to where it was has been taken for another corner.
    returned = np.linalg.norm(back - corners, axis=-1)[:, 0] < 1
    kept = (found[:, 0] == 1) & (again[:, 0] == 1) & returned
    if kept.mean() < FEWEST:
        return None
    return float(np.median(np.linalg.norm(there - corners, axis=-1)[kept])) / WIDTH
