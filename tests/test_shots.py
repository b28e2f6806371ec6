"""Which frames are kept, on clips whose motion is known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image

from shots import Thinning, Verdict
from tests.sliding_clips import SIZE, slide

LETTERS = {Verdict.KEPT: "k", Verdict.STILL: ".", Verdict.LOST: "?", Verdict.CUT: "C"}
TO_NETWORK = 640 / SIZE[0]  # pixels at network width of one of the clip


def verdicts(pictures: Iterable[Image.Image], min_motion: float = 2.0) -> str:
    thinning = Thinning(min_motion)
    return "".join(LETTERS[thinning.judge(picture)[0]] for picture in pictures)


def test_motion_is_told_in_pixels_at_network_width():
    thinning = Thinning(2.0)
    moved = [thinning.judge(picture)[1] for picture in slide([1, 3, 8])]
    assert moved[0] is None
    assert moved[1:] == pytest.approx([TO_NETWORK * step for step in (1, 3, 8)], abs=0.2)


def test_a_frame_counts_its_motion_from_the_last_one_kept():
    # 1 px of the clip is 2 px of 640: of steps by 1, every second reaches 3.
    assert verdicts(slide([1] * 6), min_motion=3) == "C.k.k.k"
    assert verdicts(slide([1] * 6), min_motion=5) == "C..k..k"


def test_a_camera_that_stands_still_gives_one_frame():
    noise = np.random.default_rng(0)
    frames = [Image.fromarray(np.clip(np.asarray(picture) + noise.normal(0, 3, (*SIZE[::-1], 3)),
                                      0, 255).astype(np.uint8))
              for picture in slide([0] * 5)]  # fmt: skip
    assert verdicts(frames) == "C....."
    assert verdicts(slide([4, 0, 0, 0, 4])) == "Ck...k"


def test_all_are_kept_on_request():
    assert verdicts(slide([0, 1, 0]), min_motion=0) == "Ckkk"


def test_the_frame_after_a_cut_is_lost_and_the_next_begins_a_shot():
    assert verdicts(slide([4] * 3) + slide([4] * 3, seed=1)) == "Ckkk?Ckk"


def test_a_flash_or_a_dark_frame_is_no_cut():
    frames = slide([4] * 5)
    for level in (0, 255):
        frames[2] = Image.new("RGB", SIZE, (level, level, level))
        assert verdicts(frames) == "Ck?kkk"


def test_a_dark_stretch_is_lost_and_ends_in_another_shot_only_where_the_scene_is_another():
    dark = [Image.new("RGB", SIZE)] * 4
    frames = slide([4] * 6)
    assert verdicts(frames[:3] + dark + frames[3:]) == "Ckk????kkkk"
    assert verdicts(frames[:3] + dark + slide([4] * 3, seed=1)) == "Ckk?????Ckk"
