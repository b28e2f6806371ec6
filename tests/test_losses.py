"""The objective on cases worked out by hand, and whole batches against one sample at a time."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from augmentations import reshuffle
from layers import transformation_from_parameters
from losses import (
    CropOverlay,
    Frames,
    Objective,
    View,
    edge_aware_smoothness,
    in_order,
    mean_normalised,
    photometric_error,
    scale_invariant_log,
)

HEIGHT, WIDTH = 32, 64
L1 = Objective(ssim=False, automask=False)


def intrinsics(fx=0.58, fy=1.92, cx=0.5, cy=0.5) -> torch.Tensor:
    """K (1, 4, 4) in pixels of HEIGHT, WIDTH."""
    K = torch.eye(4)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = fx * WIDTH, fy * HEIGHT, cx * WIDTH, cy * HEIGHT
    return K[None]


def constant(*values: float) -> torch.Tensor:
    """Pictures of one grey each, (1, N, 3, HEIGHT, WIDTH)."""
    return torch.tensor(values)[None, :, None, None, None].expand(1, -1, 3, HEIGHT, WIDTH)


def shrunk(images: torch.Tensor, scales: int = 4) -> dict[int, torch.Tensor]:
    """A pyramid of (B, [N,] 3, H, W) by averaging."""
    return {0: images} | {
        s: F.avg_pool2d(images.flatten(0, -4), 2**s).unflatten(0, images.shape[:-3])
        for s in range(1, scales)
    }


def one_view(target, sources, disp=None, motion=None, mask=None) -> View:
    """A view at scale 0 of pictures (1, 3, H, W) and (1, N, 3, H, W); no motion by default."""
    disp = torch.full((1, 1, HEIGHT, WIDTH), 0.1) if disp is None else disp
    motion = torch.eye(4).expand(1, sources.shape[1], 4, 4) if motion is None else motion
    K = intrinsics()
    frames = Frames({0: target}, {0: sources}, K, torch.linalg.inv(K))
    return View(frames, {0: disp}, motion, None if mask is None else {0: mask})


def random_view(seed: int, batch: int = 1, scales: int = 1, cameras=None) -> View:
    """Noise pictures, disparities and small motions of two sources; the same for each sample
    whatever the batch."""

    def noise(*shape: int) -> torch.Tensor:
        each = [
            torch.rand(shape, generator=torch.Generator().manual_seed(seed + b))
            for b in range(batch)
        ]
        return torch.stack(each)

    K = cameras if cameras is not None else intrinsics().expand(batch, 4, 4)
    target, sources = noise(3, HEIGHT, WIDTH), noise(2, 3, HEIGHT, WIDTH)
    disp = {s: 0.05 + 0.5 * noise(1, HEIGHT >> s, WIDTH >> s) for s in range(scales)}
    motion = transformation_from_parameters(noise(2, 3) * 0.02, noise(2, 3) * 0.1)
    frames = Frames(shrunk(target), shrunk(sources), K, torch.linalg.inv(K))
    return View(frames, disp, motion)


def forward_step(distance: float) -> torch.Tensor:
    motion = torch.eye(4)
    motion[0, 3] = distance
    return motion[None, None]


# ---- photometric error and minimum --------------------------------------------------------------


def test_photometric_error_of_constant_pictures():
    a, b = 0.2, 0.8
    luminance = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    expected = 0.85 * (1 - luminance) / 2 + 0.15 * (b - a)
    error = photometric_error(constant(a), constant(b)[:, 0])
    assert_close(error, torch.full((1, 1, HEIGHT, WIDTH), expected), atol=2e-5, rtol=0)


def test_without_ssim_the_error_is_the_mean_difference_of_channels():
    images = torch.zeros(1, 1, 3, 4, 4)
    target = torch.tensor([0.1, 0.2, 0.6])[None, :, None, None].expand(1, 3, 4, 4)
    assert_close(photometric_error(images, target, ssim=False), torch.full((1, 1, 4, 4), 0.3))


def test_a_static_scene_is_masked_whatever_motion_is_predicted():
    target = torch.rand(1, 3, HEIGHT, WIDTH)
    disp = torch.full((1, 1, HEIGHT, WIDTH), 0.3, requires_grad=True)
    view = one_view(target, target[:, None], disp, forward_step(0.5))
    terms, pictures = Objective().reconstruction(view)
    assert not pictures["automask"].any()
    assert abs(terms["photometric"].item()) < 1e-6  # the mean of the tie-breaking noise
    terms["photometric"].backward()
    assert not disp.grad.any()


def test_a_static_scene_and_a_camera_at_rest_tie_and_the_noise_decides():
    target = torch.rand(1, 3, HEIGHT, WIDTH)
    torch.manual_seed(0)
    terms, pictures = Objective().reconstruction(one_view(target, target[:, None]))
    assert 0.3 < pictures["automask"].mean() < 0.7
    assert abs(terms["photometric"].item()) < 1e-5


def test_a_moving_scene_that_is_explained_is_not_masked():
    source = torch.rand(1, 1, 3, HEIGHT, WIDTH)
    disp = torch.full((1, 1, HEIGHT, WIDTH), 0.01)
    depth = 1 / (0.01 + 9.99 * 0.01)
    step = 5 * depth / (0.58 * WIDTH)  # five pixels
    target = torch.roll(source[:, 0], -5, -1)
    view = one_view(target, source, disp, forward_step(step))
    _, pictures = Objective().reconstruction(view)
    assert_close(pictures["warped"][..., :-6], target[:, None, ..., :-6], atol=1e-3, rtol=0)
    assert pictures["automask"][..., 2:-8].all()


@pytest.mark.parametrize(("average", "expected"), [(False, 0.2), (True, 0.3)])
def test_minimum_or_mean_over_sources(average, expected):
    objective = Objective(ssim=False, automask=False, avg_reprojection=average)
    view = one_view(constant(0.5)[:, 0], constant(0.3, 0.9))
    terms, _ = objective.reconstruction(view)
    assert terms["photometric"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("average", "expected"), [(False, 0.1), (True, 0.2)])
def test_the_automask_takes_part_in_the_minimum_after_the_mean(average, expected):
    """Unwarped errors are .1 and .3; warped ones, of other sources put in afterwards, .4, .6."""
    objective = Objective(ssim=False, avg_reprojection=average, tie_break=0)
    view = one_view(constant(0.5)[:, 0], constant(0.4, 0.8))
    view.frames.identity_error(0, ssim=False)
    view.frames.sources = {0: constant(0.1, 1.1)}
    terms, pictures = objective.reconstruction(view)
    assert terms["photometric"].item() == pytest.approx(expected, abs=1e-6)
    assert not pictures["automask"].any()


def test_a_predictive_mask_multiplies_the_error_and_pays_for_it():
    mask = torch.tensor([0.5, 0.25])[None, :, None, None].expand(1, 2, HEIGHT, WIDTH)
    view = one_view(constant(0.5)[:, 0], constant(0.3, 0.9), mask=mask)
    terms, _ = L1.reconstruction(view)
    assert terms["photometric"].item() == pytest.approx(0.1, abs=1e-6)  # min(.2 / 2, .4 / 4)
    cost = (math.log(2) + math.log(4)) / 2
    assert terms["mask"].item() == pytest.approx(cost, abs=1e-5)
    total = L1.total({f"full/{name}": value for name, value in terms.items()})
    assert total.item() == pytest.approx(0.1 + 0.2 * cost, abs=1e-5)


def test_multiscale_as_in_v1_is_the_plain_loss_of_every_size():
    objective = Objective(v1_multiscale=True, automask=False)
    view = random_view(0, scales=4)
    terms, _ = objective.reconstruction(view)
    plain = []
    for s in range(4):
        K = view.frames.K.clone()
        K[:, :2] /= 2**s
        frames = Frames(
            {0: view.frames.target[s]},
            {0: view.frames.sources[s]},
            K,
            torch.linalg.inv(K),
        )
        small = View(frames, {0: view.disp[s]}, view.src_T_tgt)
        plain.append(Objective(automask=False).reconstruction(small)[0])
    photometric = sum(each["photometric"] for each in plain) / 4
    smoothness = sum(each["smoothness"] / 2**s for s, each in enumerate(plain)) / 4
    assert_close(terms["photometric"], photometric, atol=1e-5, rtol=0)
    assert_close(terms["smoothness"], smoothness)


def test_otherwise_every_scale_is_scored_at_full_size():
    view = random_view(1, scales=3)
    terms, _ = L1.reconstruction(view)
    each = []
    for s in range(3):
        disp = F.interpolate(view.disp[s], (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        full = View(view.frames, {0: disp}, view.src_T_tgt)
        each.append(L1.reconstruction(full)[0]["photometric"])
    assert_close(terms["photometric"], sum(each) / 3)


# ---- smoothness and consistency -----------------------------------------------------------------


def test_smoothness_by_hand():
    disp = torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 4.0]])[None, None]
    image = torch.zeros(1, 3, 2, 3)
    image[:, :, :, 2] = torch.tensor([0.3, 0.6, 0.9])[:, None]  # an edge of mean height 0.6
    along_x = (1 + 2 * math.exp(-0.6)) / 2
    assert edge_aware_smoothness(disp, image).item() == pytest.approx(along_x, abs=1e-6)
    turned = edge_aware_smoothness(disp.transpose(-1, -2), image.transpose(-1, -2))
    assert turned.item() == pytest.approx(along_x, abs=1e-6)
    both = edge_aware_smoothness(disp + disp.new_tensor([[0.0], [3.0]]), image)
    assert both.item() == pytest.approx(along_x + 3, abs=1e-6)


def test_disparity_is_divided_by_the_mean_of_its_own_picture():
    disp = torch.tensor([1.0, 3.0, 10.0, 30.0]).view(2, 1, 1, 2)
    expected = torch.tensor([0.5, 1.5, 0.5, 1.5]).view(2, 1, 1, 2)
    assert_close(mean_normalised(disp), expected, atol=1e-6, rtol=0)


def test_scale_invariant_log_by_hand():
    a = torch.tensor([math.e, math.e**3, 1.0, 1.0]).view(2, 1, 1, 2)
    b = torch.ones(2, 1, 1, 2)
    # First picture: d = 1, 3: 5 - 2**2 / 2 = 3. Second: 0.
    assert scale_invariant_log(a, b).item() == pytest.approx(1.5, abs=1e-5)
    mask = torch.tensor([True, False, True, True]).view(2, 1, 1, 2)
    assert scale_invariant_log(a, b, mask).item() == pytest.approx(0.25, abs=1e-5)


def test_full_variance_focus_ignores_scale():
    a, b = torch.rand(2, 3, 1, 4, 5, dtype=torch.float64) + 0.5
    value = scale_invariant_log(a, b, variance_focus=1)
    assert_close(scale_invariant_log(7 * a, b, variance_focus=1), value, atol=1e-6, rtol=0)
    assert scale_invariant_log(7 * a, b) > scale_invariant_log(a, b)


CROPS = torch.tensor(
    [
        (1.27, int(32 * 1.27), int(64 * 1.27), 3, 11),
        (1.9, int(32 * 1.9), int(64 * 1.9), 0, 56),
        (1.5, 48, 96, 16, 32),
        (1.999, 63, 127, 31, 63),
    ],
    dtype=torch.float64,
)


def box_of(crop: torch.Tensor) -> tuple[float, int, int, int, int]:
    """Ratio, then y0, x0, height and width of the crop's box, by Python's own rounding."""
    ratio, resized_height, resized_width, y0, x0 = crop.tolist()
    top = round(HEIGHT * y0 / (resized_height - 1))
    left = round(WIDTH * x0 / (resized_width - 1))
    return ratio, top, left, round(HEIGHT / ratio), round(WIDTH / ratio)


@pytest.mark.parametrize("scale", [0, 1, 3])
def test_a_crops_map_is_laid_over_its_box(scale):
    maps = torch.rand(len(CROPS), 1, HEIGHT >> scale, WIDTH >> scale)
    overlay = CropOverlay(CROPS, HEIGHT, WIDTH)
    laid = overlay.lay(maps)
    for b, crop in enumerate(CROPS):
        ratio, top, left, height, width = box_of(crop)
        box = (slice(top, top + height), slice(left, left + width))
        expected = F.interpolate(maps[b : b + 1], (height, width), mode="bilinear")[0, 0]
        shown = laid[b, 0][box]
        assert_close(shown, expected[: shown.shape[0], : shown.shape[1]], atol=1e-5, rtol=0)
        inside = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        inside[box] = True
        assert torch.equal(overlay.mask[b, 0], inside)
        assert overlay.ratio[b].item() == pytest.approx(ratio)


@pytest.mark.parametrize("seed", range(3))
def test_crop_consistency_is_the_published_loop_over_samples(seed):
    objective = Objective()
    full = random_view(seed, batch=4, scales=2)
    local = random_view(seed + 10, batch=4, scales=2)
    expected = []
    for b, crop in enumerate(CROPS):
        ratio, top, left, height, width = box_of(crop)
        for s in range(2):
            small = F.interpolate(local.disp[s][b : b + 1], (height, width), mode="bilinear")
            large = F.interpolate(full.disp[s][b : b + 1], (HEIGHT, WIDTH), mode="bilinear")
            whole = objective.depth(large)[..., top : top + height, left : left + width]
            part = objective.depth(small) * ratio
            part = part[..., : whole.shape[-2], : whole.shape[-1]]
            expected.append(scale_invariant_log(part, whole))
    value = objective.crop_consistency(full, local, CROPS)
    assert_close(value, torch.stack(expected).mean(), atol=1e-5, rtol=1e-5)


def test_a_crop_that_agrees_costs_nothing():
    """An even depth looks nearer by the ratio in the crop."""
    objective = Objective()
    full, local = random_view(0, batch=4), random_view(1, batch=4)
    full.disp = {0: torch.full((4, 1, HEIGHT, WIDTH), 0.1)}
    depth = objective.depth(full.disp[0]) / CROPS[:, 0].float()[:, None, None, None]
    local.disp = {0: (1 / depth - 0.01) / 9.99}
    assert objective.crop_consistency(full, local, CROPS).item() == pytest.approx(0, abs=1e-9)


def test_consistency_reaches_both_predictions():
    objective = Objective()
    for consistency in ("crop", "reshuffle"):
        views = random_view(0, batch=4), random_view(1, batch=4)
        for view in views:
            view.disp[0].requires_grad_()
        if consistency == "crop":
            objective.crop_consistency(*views, CROPS).backward()
        else:
            objective.reshuffle_consistency(*views).backward()
        assert all(view.disp[0].grad.any() for view in views)


def test_a_reshuffled_prediction_that_agrees_costs_nothing():
    full = random_view(0, batch=2)
    cut = torch.tensor([[9, 40], [25, 7]])
    disp = in_order({0: reshuffle(full.disp[0], cut)}, cut, (HEIGHT, WIDTH))
    view = View(full.frames, disp, full.src_T_tgt)
    assert Objective().reshuffle_consistency(full, view).item() == 0


def test_reshuffle_consistency_compares_each_scale_at_its_own_size():
    objective = Objective()
    full, view = random_view(0, scales=2), random_view(1, scales=2)
    expected = [
        scale_invariant_log(objective.depth(view.disp[s]), objective.depth(full.disp[s]))
        for s in range(2)
    ]
    assert_close(objective.reshuffle_consistency(full, view), sum(expected) / 2)


# ---- batches and the sum ------------------------------------------------------------------------


def test_every_sample_counts_with_its_own_camera():
    cameras = torch.cat([intrinsics(), intrinsics(1.1, 2.93, 0.536, 0.668)])
    objective = Objective(tie_break=0)
    together, pictures = objective.reconstruction(random_view(3, 2, cameras=cameras))
    alone = []
    for b in range(2):
        terms, own = objective.reconstruction(random_view(3 + b, cameras=cameras[b : b + 1]))
        assert_close(pictures["warped"][b], own["warped"][0])
        assert torch.equal(pictures["automask"][b], own["automask"][0])
        alone.append(terms)
    for name, value in together.items():
        assert_close(value, (alone[0][name] + alone[1][name]) / 2)


def test_the_loss_is_the_mean_of_views_plus_weighted_consistency():
    values = {
        "full/photometric": 0.1,
        "full/smoothness": 2.0,
        "local/photometric": 0.4,
        "local/smoothness": 5.0,
        "local/consistency": 10.0,
        "reshuffled/photometric": 0.7,
        "reshuffled/smoothness": 8.0,
        "reshuffled/consistency": 20.0,
    }
    total = Objective().total({name: torch.tensor(value) for name, value in values.items()})
    assert total.item() == pytest.approx(0.4 + 1e-3 * 5 + 0.07 * 30, abs=1e-6)
    one = {name: torch.tensor(value) for name, value in values.items() if name.startswith("full")}
    assert Objective(disparity_smoothness=0.5).total(one).item() == pytest.approx(1.1, abs=1e-6)
