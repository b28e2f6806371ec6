"""Protocols, metrics and the sharded evaluation against answers worked out by hand."""

from __future__ import annotations

import json
import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import distributed
import evaluation
from distributed import World
from evaluation import (
    GARG_CROP,
    PROTOCOLS,
    SEVEN,
    STEREO_SCALE,
    Crop,
    EvaluationResult,
    ImageScore,
    Protocol,
    depth_errors,
    evaluate,
    score,
    score_image,
)
from utils import UserError

PLAIN = Protocol("plain", "plain", 0.0, 100.0, (1e-3, 100.0))


def test_metrics_by_hand():
    gt, pred = torch.tensor([2.0, 4.0, 10.0]), torch.tensor([3.0, 4.0, 5.5])
    abs_rel, sq_rel, rmse, rmse_log, a1, a2, a3 = depth_errors(gt, pred)
    assert abs_rel == pytest.approx((0.5 + 0 + 0.45) / 3)
    assert sq_rel == pytest.approx((0.5 + 0 + 2.025) / 3)
    assert rmse == pytest.approx(math.sqrt((1 + 0 + 20.25) / 3))
    assert rmse_log == pytest.approx(
        math.sqrt((math.log(1.5) ** 2 + math.log(10 / 5.5) ** 2) / 3), rel=1e-6
    )
    # Off by factors 1.5, 1, 1.82; the limits are 1.25, 1.5625, 1.953.
    assert (a1, a2, a3) == pytest.approx((1 / 3, 2 / 3, 1.0))
    (log10,) = depth_errors(gt, pred, ["rmse_log10"])
    assert log10 == pytest.approx(rmse_log / math.log(10), rel=1e-6)


def test_median_of_an_even_number_is_the_lower_one():
    gt = np.array([[1.0, 2.0, 4.0, 8.0]], dtype=np.float32)
    scaled_disp = 1 / torch.tensor([[1.0, 10.0, 20.0, 30.0]])
    assert score_image(PLAIN, scaled_disp, gt).ratio == pytest.approx(2 / 10)
    result = EvaluationResult(PLAIN, np.zeros((4, 7)), np.array([1.0, 2.0, 4.0, 8.0]))
    assert result.ratio_median == 2.0
    assert result.ratio_std == pytest.approx(np.std([0.5, 1, 2, 4], ddof=1))


def test_a_scaled_copy_of_the_truth_is_perfect_and_a_fixed_scale_is_not():
    gt = np.random.default_rng(0).uniform(1, 50, (6, 8)).astype(np.float32)
    scaled_disp = 3 / torch.from_numpy(gt)
    median = score_image(PLAIN, scaled_disp, gt)
    assert median.ratio == pytest.approx(3, rel=1e-5)
    assert median.metrics == pytest.approx((0, 0, 0, 0, 1, 1, 1), abs=1e-5)
    fixed = score_image(PLAIN, scaled_disp, gt, scale=STEREO_SCALE)
    assert fixed.ratio is None
    assert fixed.metrics[0] == pytest.approx(5.4 / 3 - 1, rel=1e-5)


def test_garg_crop_indices():
    # int(375 * 0.40810811) = 153, int(375 * 0.99189189) = 371; columns of 1242: 44 to 1197.
    assert GARG_CROP.window(375, 1242) == (slice(153, 371), slice(44, 1197))


def test_only_pixels_in_crop_and_range_are_scored():
    gt = np.full((4, 4), 10.0, dtype=np.float32)
    gt[1, 1:3] = (0.0, 99.0)  # unknown, beyond the range
    protocol = replace(PLAIN, max_depth=80.0, crop=Crop(0.25, 0.75, 0.25, 0.75, fractions=True))
    depth = torch.full((4, 4), 1000.0, dtype=torch.float64)
    depth[2, 1:3] = torch.tensor([8.0, 12.0])  # the two pixels that count
    abs_rel, *_ = score_image(protocol, 1 / depth, gt, scale=1.0).metrics
    assert abs_rel == pytest.approx(0.2)


def test_cityscapes_drops_the_car_and_the_borders():
    gt = np.zeros((1024, 2048), dtype=np.float32)
    gt[:, ::8] = 20.0
    kept = np.zeros_like(gt)
    kept[256:768, 192:1856] = gt[256:768, 192:1856]
    scaled_disp = torch.rand(24, 64, generator=torch.Generator().manual_seed(0)) + 0.1
    protocol = PROTOCOLS["cityscapes"]
    assert score_image(protocol, scaled_disp, gt) == score_image(protocol, scaled_disp, kept)


def test_cap_clamps_after_scaling():
    gt = np.full((1, 3), 70.0, dtype=np.float32)
    far, near = torch.full((1, 3), 1 / 1000), torch.full((1, 3), 1 / 1e-5)
    kitti = PROTOCOLS["kitti_eigen_benchmark"]
    assert score_image(kitti, far, gt, scale=1.0).metrics[2] == pytest.approx(10, rel=1e-5)
    assert score_image(kitti, near, gt, scale=1.0).metrics[2] == pytest.approx(70 - 1e-3)
    # Median scaling comes first: a constant prediction becomes the median, below the cap.
    assert score_image(kitti, far, gt).metrics[2] == pytest.approx(0, abs=1e-4)
    # NYUv2 caps from above only.
    nyu_gt = np.full((1, 3), 5.0, dtype=np.float32)
    score = score_image(PROTOCOLS["nyuv2"], near, nyu_gt, scale=1.0)
    assert score.metrics[2] == pytest.approx(5 - 1e-5)


def test_the_resize_convention_is_applied_and_named():
    disp, size = torch.tensor([[0.0, 1.0]]) + 1, (1, 3)
    published = PROTOCOLS["kitti_eigen"]
    half_pixel = replace(published, align_corners=False)
    torch.testing.assert_close(published.resized_depth(disp, size), 1 / torch.tensor([[1, 1.5, 2]]))
    corner = 1 / half_pixel.resized_depth(disp, (1, 4))
    torch.testing.assert_close(corner, torch.tensor([[1.0, 1.25, 1.75, 2.0]]))
    assert "align_corners=True" in published.resize_name
    assert "align_corners=False" in half_pixel.resize_name
    assert "nearest" in PROTOCOLS["make3d"].resize_name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("protocol", [
    PROTOCOLS["kitti_eigen"], replace(PROTOCOLS["kitti_eigen"], align_corners=False),
    PROTOCOLS["nyuv2"],
])  # fmt: skip
@pytest.mark.parametrize("size", [(47, 131), (5, 9), (12, 20)])
def test_depth_at_pixels_is_that_of_the_resized_map(protocol, dtype, size):
    """PyTorch's resizing is the answer: larger, smaller and as it is; corners too."""
    scaled_disp = torch.rand(12, 20, generator=torch.Generator().manual_seed(0), dtype=dtype) + 0.1
    whole = protocol.resized_depth(scaled_disp, size)
    rows = np.array([0, size[0] - 1, size[0] - 1, 0, 3, 2])
    columns = np.array([0, size[1] - 1, 0, size[1] - 1, 7, 4])
    few = protocol.depth_at(scaled_disp, size, rows, columns)
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(few, whole[rows, columns], rtol=tolerance, atol=0)
    every = np.divmod(np.arange(size[0] * size[1]), size[1])
    torch.testing.assert_close(
        protocol.depth_at(scaled_disp, size, *every), whole.flatten(), rtol=0, atol=0
    )


def test_an_image_without_a_scored_pixel_is_named():
    with pytest.raises(UserError, match=r"drive_9 7 l.*no pixel to score"):
        score_image(PLAIN, torch.ones(2, 2), np.zeros((2, 2), np.float32), name="drive_9 7 l")


MEANS = ["mean", "0.200", "2.000", "6.000", "0.300", "0.700", "0.800", "0.900"]


def test_table():
    per_image = np.array([[0.1, 1, 5, 0.2, 0.8, 0.9, 1.0], [0.3, 3, 7, 0.4, 0.6, 0.7, 0.8]])
    result = EvaluationResult(PROTOCOLS["kitti_eigen"], per_image, np.array([30.0, 30.0]))
    lines = result.table().splitlines()
    assert "KITTI Eigen" in lines[0]
    assert "align_corners=True" in lines[0]
    assert lines[1] == "images: 2; median scaling, ratios: median 30.000, std 0.000"
    assert lines[2].split() == list(SEVEN)
    assert lines[3].split() == MEANS
    assert lines[4].split()[:3] == ["std", "err", "0.100"]
    assert len({len(line) for line in lines[2:]}) == 1
    stereo = EvaluationResult(PROTOCOLS["kitti_eigen"], per_image[:1], None, True, STEREO_SCALE)
    assert "images: 1, post-processed; fixed scale 5.4, no median scaling" in stereo.table()
    assert math.isnan(stereo.standard_error()["rmse"])


class Pictures(torch.utils.data.Dataset):
    """Pictures whose grey level is their number, as the KITTI data set's samples hold them."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {("color", 0, 0): torch.full((3, 4, 6), index, dtype=torch.uint8), "index": index}


class Brightness:
    """A stand-in network: disparity grows to the right, and with the picture's grey level."""

    def __init__(self):
        self.calls = []

    def scaled_disp(self, images, post_process=False):
        self.calls.append((len(images), post_process))
        grey = images[:, :1].float() / 255 + 0.01
        return grey * torch.linspace(1, 2, images.shape[-1])


def truths(count, height=8, width=12):
    rng = np.random.default_rng(1)
    sizes = [(height + i % 2, width) for i in range(count)]
    return [rng.uniform(1, 60, size).astype(np.float32) for size in sizes]


def run_as(world_size, count, monkeypatch):
    """The results of `world_size` ranks, run as threads that meet in gather_objects."""
    barrier, shards, results = threading.Barrier(world_size), [None] * world_size, {}

    def gather(world, shard):
        shards[world.rank] = shard
        barrier.wait(timeout=30)
        return list(shards)

    def work(rank):
        world, predictor = World(rank, world_size), Brightness()
        try:
            results[rank] = evaluate(
                predictor, Pictures(count), truths(count), PLAIN, world=world, batch_size=2
            )
        except UserError as error:
            results[rank] = error

    monkeypatch.setattr(distributed, "gather_objects", gather)
    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world_size)]


@pytest.mark.parametrize(("world_size", "count"), [(2, 7), (3, 7), (3, 2)])
def test_sharded_equals_single(world_size, count, monkeypatch):
    single = evaluate(Brightness(), Pictures(count), truths(count), PLAIN, batch_size=3)
    assert single.per_image.shape == (count, 7)
    for result in run_as(world_size, count, monkeypatch):
        np.testing.assert_array_equal(result.per_image, single.per_image)
        np.testing.assert_array_equal(result.ratios, single.ratios)
        assert result.mean() == single.mean()


def test_every_rank_hears_of_an_image_that_cannot_be_scored(monkeypatch):
    depths = truths(5)
    depths[3][:] = 0
    monkeypatch.setattr(f"{__name__}.truths", lambda count: depths)  # noqa: ARG005
    for result in run_as(2, 5, monkeypatch):
        assert isinstance(result, UserError)
        assert "image 3 has no pixel" in str(result)


def test_predictions_are_scored_with_their_own_truth():
    """Image i's truth is image i's prediction: any mix-up of rows would show."""
    predictor, count = Brightness(), 5
    depths = [
        1 / predictor.scaled_disp(Pictures(count)[i]["color", 0, 0][None])[0, 0].numpy()
        for i in range(count)
    ]
    result = evaluate(predictor, Pictures(count), depths, PLAIN, batch_size=2)
    assert result.mean()["abs_rel"] < 1e-6
    np.testing.assert_allclose(result.ratios, 1)


def test_an_evaluation_draws_no_global_random_number():
    before = torch.get_rng_state()
    evaluate(Brightness(), Pictures(2), truths(2), PLAIN)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("device", "pinned"), [(None, False), ("cpu", False), ("cuda", True)])
def test_memory_is_pinned_for_a_gpu_that_predicts(monkeypatch, device, pinned):
    """Not for one that is there while the CPU predicts (--no_cuda)."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    seen = []
    monkeypatch.setattr(
        evaluation, "DataLoader", lambda *_, **options: seen.append(options["pin_memory"]) or []
    )
    predictor = Brightness()
    if device is not None:
        predictor.device = torch.device(device)
    assert list(evaluation.predictions(predictor, Pictures(2), range(2))) == []
    assert seen == [pinned]


def test_post_processing_and_stereo_reach_their_places():
    predictor = Brightness()
    result = evaluate(
        predictor, Pictures(3), truths(3), PLAIN, post_process=True, scale=5.4, batch_size=2
    )
    assert predictor.calls == [(2, True), (1, True)]
    assert (result.ratios, result.scale) == (None, 5.4)
    assert result.ratio_median is None
    assert result.ratio_std is None
    assert result.post_process


def test_a_wrong_number_of_depth_maps_is_refused_before_predicting():
    predictor = Brightness()
    with pytest.raises(UserError, match="4 depth maps for 5 test images"):
        evaluate(predictor, Pictures(5), truths(4), PLAIN)
    assert not predictor.calls


def test_a_report_is_json_without_nan():
    per_image = np.array([[0.1, 1, 5, 0.2, 0.8, 0.9, 1.0]])
    result = EvaluationResult(PROTOCOLS["kitti_eigen"], per_image, np.array([30.0]))
    report = json.loads(json.dumps(result.report(), allow_nan=False))
    assert report["metrics"] == dict(zip(SEVEN, per_image[0], strict=True))
    assert (report["images"], report["scale"], report["ratio_median"]) == (1, "median", 30)
    assert report["ratio_std"] is report["standard_errors"]["rmse"] is None
    fixed = EvaluationResult(PLAIN, per_image, None, scale=2.0).report()
    assert (fixed["scale"], fixed["ratio_median"]) == (2.0, None)


def test_few_predictions_wait_however_many_images_there_are(monkeypatch):
    """Scoring is slower than predicting here: predicting waits for it."""
    made, scored, gap = 0, 0, 0

    def disps():
        nonlocal made
        for _ in range(60):
            made += 1
            yield torch.ones(2, 2)

    def slow(*_):
        nonlocal scored, gap
        gap = max(gap, made - scored)
        time.sleep(0.001)
        scored += 1
        return ImageScore((float(scored),), 1.0)

    monkeypatch.setattr(evaluation, "score_image", slow)
    result = score(disps(), [np.ones((2, 2))] * 60, replace(PLAIN, metrics=("rmse",)))
    assert result.per_image[:, 0].tolist() == list(range(1, 61))
    assert 1 < gap <= evaluation.AHEAD + 2
