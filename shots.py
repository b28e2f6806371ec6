"""Which frames of a clip are kept: those that moved, apart where the scene is cut."""

from __future__ import annotations

from enum import Enum, auto

from PIL import Image

from datasets.motion import apparent_motion, motion_picture

NETWORK_WIDTH = 640  # at which motion is stated in pixels


class Verdict(Enum):
    """What becomes of a frame."""

    KEPT = auto()
    STILL = auto()  # hardly moved since the last one kept
    LOST = auto()  # cannot be followed: dark, blurred, a flash, or the first one after a cut
    CUT = auto()  # kept, and nothing before it is its neighbour


class Thinning:
    """Judges the frames of a clip as they come.

    A frame is compared with the last one kept. Where it cannot be followed, the next frame tells a
    flash, which the last one kept is followed across, from a cut, after which frames are followed
    from one another again. So the first frame after a cut is lost, and dark stretches are.
    """

    def __init__(self, min_motion: float) -> None:
        """min_motion: pixels at NETWORK_WIDTH; a frame that moved by less is still."""
        self.min_motion = min_motion
        self._kept: Image.Image | None = None
        self._lost: Image.Image | None = None  # the frame before, where that was lost

    def judge(self, picture: Image.Image) -> tuple[Verdict, float | None]:
        """The verdict on the next frame, and how far it moved since the last one kept (pixels at
        NETWORK_WIDTH), where it was followed."""
        small = motion_picture(picture)
        if self._kept is None:
            self._kept = small
            return Verdict.CUT, None
        moved = apparent_motion(self._kept, small)
        if moved is None:
            before, self._lost = self._lost, small
            if before is None or apparent_motion(before, small) is None:
                return Verdict.LOST, None
            self._kept, self._lost = small, None
            return Verdict.CUT, None
        self._lost = None
        moved *= NETWORK_WIDTH
        if moved < self.min_motion:
            return Verdict.STILL, moved
        self._kept = small
        return Verdict.KEPT, moved
