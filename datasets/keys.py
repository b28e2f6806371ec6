"""Names for what a sample holds and for which sample is meant."""

from __future__ import annotations

from typing import NamedTuple


class FrameKey(NamedTuple):
    """A picture of a sample; equals, and hashes as, the plain tuple."""

    kind: str  # "color", or "color_local" for the crop
    frame: int | str  # 0 target, -1 and 1 neighbours, "s" stereo partner
    scale: int  # size / 2**scale


class SampleIndex(NamedTuple):
    """A line of the list in an epoch: with the seed, all that an augmentation depends on."""

    epoch: int
    index: int
