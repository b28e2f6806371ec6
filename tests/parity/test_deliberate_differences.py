"""What is done otherwise than in the published code, both behaviours side by side.

The off-centre crop camera is in test_objective_direct.py, flips that keep cx in test_datasets_b.py.
"""

from __future__ import annotations

import torch
from torchvision.transforms import ColorJitter

from augmentations import IDENTITY_JITTER
from datasets.keys import FrameKey
from training_step import prepare


def test_one_jitter_for_all_pictures_of_a_sample_where_published_ones_differ(goldens):
    """A camera that stands still: its three frames, and its views, are one picture."""
    settings = goldens.settings
    picture = goldens.recipes.picture(settings["seed"], settings["h"], settings["w"])
    image = torch.from_numpy(picture).permute(2, 0, 1)[None]
    jitter = torch.tensor([[1.15, 0.85, 1.1, 0.06, *IDENTITY_JITTER[4:]]])
    batch = {FrameKey("color", frame, 0): image for frame in (0, -1, 1)}
    batch |= {FrameKey("color_local", frame, 0): image for frame in (0, -1, 1)}
    batch |= {"jitter": jitter, "cut": torch.tensor([[8, 24]]), "K": None, "inv_K": None}
    ours = prepare(batch)
    seen = [ours.jittered[0], ours.jittered[-1], ours.jittered[1], ours.local_jittered]
    assert not torch.equal(seen[0], image.float() / 255)
    assert all(torch.equal(seen[0], other) for other in seen[1:])
    assert torch.equal(ours.reshuffled_jittered, seen[0].roll((-8, -24), (-2, -1)))

    torch.manual_seed(settings["seed"])
    draw = ColorJitter(0.2, 0.2, 0.2, 0.1)  # drawn anew at each call, as published ones are
    published = [draw(image.float() / 255) for _ in range(3)]
    assert (published[0] - published[1]).abs().max() > 0.02
    assert (published[1] - published[2]).abs().max() > 0.02
