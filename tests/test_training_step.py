"""One step: what the networks are shown, in which order, and that every mode trains every part."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from augmentations import IDENTITY_JITTER, color_jitter
from datasets.keys import FrameKey
from losses import Objective
from networks import build_depth_network, build_mask_network, build_pose_network
from training_step import TrainingStep, prepare

HEIGHT, WIDTH, BATCH = 32, 64, 2
JITTER = ((0.9, 1.1, 1.2, 0.05, 3.0, 0.0, 2.0, 1.0), IDENTITY_JITTER)


def noise(scale: int = 0) -> torch.Tensor:
    return torch.randint(256, (BATCH, 3, HEIGHT >> scale, WIDTH >> scale), dtype=torch.uint8)


def make_batch(frame_ids, num_scales=1, extra_views=True, pyramid_of_sources=False) -> dict:
    """A collated batch of noise, as `datasets` hands it over."""
    torch.manual_seed(0)
    K = torch.eye(4).repeat(BATCH, 1, 1)
    K[:, 0, 0], K[:, 1, 1] = 0.58 * WIDTH, 1.92 * HEIGHT
    K[:, 0, 2], K[:, 1, 2] = WIDTH / 2, HEIGHT / 2
    batch = {"K": K, "inv_K": torch.linalg.inv(K), "jitter": torch.tensor(JITTER)}
    for kind in ("color", "color_local")[: 1 + extra_views]:
        for frame in frame_ids:
            for scale in range(num_scales if frame == 0 or pyramid_of_sources else 1):
                batch[FrameKey(kind, frame, scale)] = noise(scale)
    if extra_views:
        crops = [(1.5, 48, 96, 5, 20), (1.25, 40, 80, 8, 0)]
        batch["crop"] = torch.tensor(crops, dtype=torch.float64)
        batch["cut"] = torch.tensor([[9, 50], [20, 11]])
    if "s" in frame_ids:
        batch["stereo_T"] = torch.eye(4).repeat(BATCH, 1, 1)
        batch["stereo_T"][:, 0, 3] = torch.tensor([-0.1, 0.1])
    batch["index"] = torch.arange(BATCH)
    return batch


def make_step(frame_ids, num_scales=1, pose_input="pairs", mask=False, **objective) -> TrainingStep:
    torch.manual_seed(1)
    frames = len([frame for frame in frame_ids if frame != "s"])
    depth = build_depth_network("resnet", 18, range(num_scales))
    pose = None
    if frames > 1:
        inputs, motions = (frames, max(frames - 1, 2)) if pose_input == "all" else (2, 2)
        pose = build_pose_network(18, inputs, num_motions=motions)
    decoder = build_mask_network(depth, range(num_scales), len(frame_ids) - 1) if mask else None
    return TrainingStep(depth, pose, Objective(**objective), frame_ids, pose_input, decoder)


# ---- from batch to inputs -----------------------------------------------------------------------


def test_prepared_pictures_are_floats_of_the_batch():
    batch = make_batch((0, -1, "s"), num_scales=3)
    inputs = prepare(batch)
    assert set(inputs.full) == {(0, 0), (0, 1), (0, 2), (-1, 0), ("s", 0)}
    assert set(inputs.local) == set(inputs.full)
    for (frame, scale), image in inputs.full.items():
        assert_close(image, batch["color", frame, scale] / 255)
        assert_close(inputs.local[frame, scale], batch["color_local", frame, scale] / 255)
    assert set(inputs.jittered) == {0, -1}  # the pose of the stereo partner is known


def test_one_jitter_for_all_frames_and_views_of_a_sample():
    batch = make_batch((0, -1, 1))
    inputs = prepare(batch)
    jitter = torch.tensor(JITTER)
    for frame in (0, -1, 1):
        assert_close(inputs.jittered[frame], color_jitter(inputs.full[frame, 0], jitter))
    assert_close(inputs.local_jittered, color_jitter(inputs.local[0, 0], jitter))
    for image, (rows, columns), shuffled in zip(
        inputs.jittered[0], batch["cut"].tolist(), inputs.reshuffled_jittered, strict=True
    ):
        assert torch.equal(shuffled, torch.roll(image, (-rows, -columns), (-2, -1)))
    assert torch.equal(inputs.jittered[0][1], inputs.full[0, 0][1])  # the second has none
    assert not torch.equal(inputs.jittered[0][0], inputs.full[0, 0][0])


def test_views_that_are_not_asked_for_are_not_made():
    inputs = prepare(make_batch((0, -1, 1), extra_views=False))
    assert inputs.local is inputs.local_jittered is inputs.reshuffled_jittered is None


# ---- what the networks see ----------------------------------------------------------------------


def test_each_view_and_each_pair_is_a_pass_of_its_own_in_order():
    """Full, crop, reshuffled; pairs in temporal order. Batch norm sees each pass alone."""
    batch, step = make_batch((0, -1, 1)), make_step((0, -1, 1)).train()
    seen = {"depth": [], "pose": []}
    step.depth_network.encoder.register_forward_pre_hook(lambda _, x: seen["depth"].append(x[0]))
    step.pose_network.register_forward_pre_hook(lambda _, x: seen["pose"].append(x[0]))
    step(batch)
    inputs = prepare(batch)
    expected = [inputs.jittered[0], inputs.local_jittered, inputs.reshuffled_jittered]
    assert len(seen["depth"]) == 3
    assert all(map(torch.equal, seen["depth"], expected))
    pairs = [(-1, 0), (0, 1)]
    assert len(seen["pose"]) == 2
    for pair, frames in zip(pairs, seen["pose"], strict=True):
        assert all(torch.equal(x, inputs.jittered[f]) for x, f in zip(frames, pair, strict=True))
    updates = {
        part: {int(n) for name, n in module.state_dict().items() if "num_batches" in name}
        for part, module in step.parts().items()
    }
    assert updates == {"encoder": {3}, "depth": set(), "pose_encoder": {2}, "pose": set()}


def test_a_source_before_the_target_has_the_inverse_motion():
    """With equal pictures both pairs look alike, so -1 gets the inverse of what +1 gets."""
    batch, step = make_batch((0, -1, 1)), make_step((0, -1, 1)).eval()
    for frame in (-1, 1):
        batch[FrameKey("color", frame, 0)] = batch["color", 0, 0]
    motions = step.motions(prepare(batch))
    assert (motions[:, 0] - torch.eye(4)).abs().max() > 1e-5
    assert_close(motions[:, 0] @ motions[:, 1], torch.eye(4).expand(2, 4, 4), atol=1e-6, rtol=0)


def test_all_frames_go_in_order_of_frame_ids_and_motion_i_is_of_source_i():
    ids = (0, -2, 1, "s")
    batch, step = make_batch(ids), make_step(ids, pose_input="all").eval()
    inputs = prepare(batch)
    motions = step.motions(inputs)
    axis_angle, translation = step.pose_network([inputs.jittered[f] for f in (0, -2, 1)])
    for i in range(2):
        assert_close(motions[:, i, :3, 3], translation[:, i, 0])
        assert_close(motions[:, i, 2, 1], axis_angle[:, i, 0, 0], atol=1e-4, rtol=0)  # small
    assert torch.equal(motions[:, 2], batch["stereo_T"])


def test_the_reshuffled_views_disparity_is_in_the_order_of_the_full_one():
    """A network of 1x1 windows does not see where a pixel is: both disparities are equal."""
    batch, step = make_batch((0, -1, 1), num_scales=2), make_step((0, -1, 1), 2).eval()

    class Pointwise(torch.nn.Module):
        def forward(self, image):
            grey = image.mean(1, keepdim=True)
            return {0: grey, 1: grey[..., ::2, ::2]}

    step.depth_network.encoder, step.depth_network.depth = torch.nn.Identity(), Pointwise()
    batch["cut"] = torch.tensor([[8, 50], [20, 12]])  # even, so that scale 1 matches too
    views = step.views(prepare(batch))
    for scale in range(2):
        assert torch.equal(views["reshuffled"].disp[scale], views["full"].disp[scale])


def test_terms_of_the_step_add_up_to_the_loss():
    batch, step = make_batch((0, -1, 1)), make_step((0, -1, 1)).eval()
    terms, pictures = step(batch)
    assert list(terms) == [
        "loss",
        "full/photometric",
        "full/smoothness",
        "local/photometric",
        "local/smoothness",
        "reshuffled/photometric",
        "reshuffled/smoothness",
        "local/consistency",
        "reshuffled/consistency",
    ]
    views = ("full", "local", "reshuffled")
    base = sum(terms[f"{v}/photometric"] + 1e-3 * terms[f"{v}/smoothness"] for v in views) / 3
    pair = terms["local/consistency"] + terms["reshuffled/consistency"]
    assert_close(terms["loss"], base + 0.07 * pair)
    assert pictures["disp"].shape == (BATCH, 1, HEIGHT, WIDTH)
    assert pictures["warped"].shape == (BATCH, 2, 3, HEIGHT, WIDTH)
    assert pictures["automask"].shape == (BATCH, HEIGHT, WIDTH)


# ---- modes --------------------------------------------------------------------------------------

MODES = {
    "mono": {"frame_ids": (0, -1, 1)},
    "stereo": {"frame_ids": (0, "s")},
    "mono and stereo": {"frame_ids": (0, -1, 1, "s")},
    "all of three": {"frame_ids": (0, -1, 1), "pose_input": "all"},
    "all of five": {"frame_ids": (0, -2, -1, 1, 2), "pose_input": "all"},
    "wide pairs": {"frame_ids": (0, -2, 3)},
    "predictive mask": {"frame_ids": (0, -1, 1), "mask": True, "automask": False, "num_scales": 2},
    "v1 multiscale": {"frame_ids": (0, -1, 1), "v1_multiscale": True, "num_scales": 4},
    "average": {"frame_ids": (0, -1, 1), "avg_reprojection": True},
    "no ssim, no automask": {"frame_ids": (0, -1, 1), "ssim": False, "automask": False},
    "four scales": {"frame_ids": (0, -1, 1), "num_scales": 4},
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_finite_and_trains_every_parameter(mode):
    settings = dict(MODES[mode])
    frame_ids, num_scales = settings["frame_ids"], settings.get("num_scales", 1)
    pyramid = settings.get("v1_multiscale", False)
    batch = make_batch(frame_ids, num_scales, pyramid_of_sources=pyramid)
    step = make_step(settings.pop("frame_ids"), **settings).train()
    terms, _ = step(batch)
    assert all(value.ndim == 0 and value.isfinite() for value in terms.values())
    assert ("full/mask" in terms) == ("mask" in settings)
    terms["loss"].backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for part, module in step.parts().items():
        assert any(parameter.grad.any() for parameter in module.parameters()), part
