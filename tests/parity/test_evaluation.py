"""Every benchmark's scores, with and without post-processing and stereo scaling."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from evaluation import PROTOCOLS, STEREO_SCALE, EvaluationResult, score_image
from inference import blend_mirrored
from layers import disp_to_depth

CASES = [
    (name, post, stereo)
    for name in PROTOCOLS
    for post in (0, 1)
    for stereo in (0, 1)
    if not (name == "nyuv2" and stereo)  # no stereo rig there: nothing was recorded
]


@pytest.fixture(scope="module")
def pictures(goldens):
    """A function: benchmark to its recorded disparities, their mirrored twins and ground truth."""
    settings, arrays = goldens.json("evaluation"), goldens.npz("evaluation")

    @cache
    def of(name):
        entry = settings["benchmarks"][name]
        recipe = entry["gt_recipe"]
        seed = int(recipe["seed"].split("+")[0])
        disps, mirrored = arrays[f"{name}/disp"], arrays[f"{name}/disp_mirrored"]
        depths = [
            goldens.recipes.eval_ground_truth(
                seed + i, disps[i], *size, recipe["scale"], recipe["density"]
            )
            for i, size in enumerate(entry["gt_sizes"])
        ]
        for depth, digest in zip(depths, entry["gt_sha256"], strict=True):
            described = b"float32" + str(depth.shape).encode() + depth.tobytes()
            assert hashlib.sha256(described).hexdigest() == digest
        return torch.from_numpy(disps), torch.from_numpy(mirrored), depths

    return of


def evaluated(settings, protocol, pictures, post, stereo):
    """Our result for one benchmark's pictures, from disparities in [0, 1]."""
    disps, mirrored, depths = pictures
    if post:
        disps = blend_mirrored(disps, mirrored.flip(-1))
    limits = settings["max_depth"]
    max_depth = limits.get(protocol.name, limits["others"])
    scaled, _ = disp_to_depth(disps, settings["min_depth"], max_depth)
    scale = STEREO_SCALE if stereo else None
    scores = [score_image(protocol, s, d, scale) for s, d in zip(scaled, depths, strict=True)]
    assert scaled.dtype == (torch.float64 if post else torch.float32)  # as recorded
    per_image = np.array([score.metrics for score in scores])
    ratios = None if stereo else np.array([score.ratio for score in scores])
    return EvaluationResult(protocol, per_image, ratios, bool(post))


def assert_equals_recorded(result, recorded, names):
    errors = [i for i, name in enumerate(names) if name[0] != "a" or name == "abs_rel"]
    shares = [i for i in range(len(names)) if i not in errors]
    for ours, golden in (
        (result.per_image, recorded["per_image"]),
        (np.array(list(result.mean().values()))[None], [recorded["mean"]]),
    ):
        golden = np.array(golden)
        assert ours.shape == golden.shape
        np.testing.assert_allclose(ours[:, errors], golden[:, errors], rtol=1e-5)
        np.testing.assert_allclose(ours[:, shares], golden[:, shares], rtol=0, atol=1e-4)
    if result.ratios is None:
        assert "ratios" not in recorded
    else:
        np.testing.assert_allclose(result.ratios, recorded["ratios"], rtol=1e-5)
        assert result.ratio_median == pytest.approx(recorded["ratio_med"], rel=1e-5)
        # A difference of nearly equal numbers: the ratios' own tolerance, absolute.
        assert result.ratio_std == pytest.approx(recorded["ratio_std"], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("name", "post", "stereo"), CASES)
def test_evaluation_script(goldens, pictures, name, post, stereo):
    settings = goldens.json("evaluation")
    recorded = settings["benchmarks"][name]["results"][f"post{post}_stereo{stereo}"]
    protocol = PROTOCOLS[name]
    result = evaluated(settings, protocol, pictures(name), post, stereo)
    key = "metrics_make3d" if name == "make3d" else "metrics"
    assert [metric.replace("rmse_log10", "rmse_log") for metric in protocol.metrics] == [
        metric.replace("rmse_log10", "rmse_log") for metric in settings[key]
    ]
    assert_equals_recorded(result, recorded, protocol.metrics)
    assert recorded["dtype"] == ("float64" if post else "float32")
    printed = [float(cell) for cell in recorded["printed"][-1].split("|") if cell.strip()]
    assert list(result.mean().values()) == pytest.approx(printed, abs=5.1e-4)


def test_evaluation_after_an_epoch(goldens, pictures):
    """The published trainer resizes KITTI on the half-pixel grid; it is our other convention."""
    settings = goldens.json("evaluation")
    for key, recorded in settings["trainer"].items():
        name, stereo = key.split("/stereo")
        half_pixel = name.startswith("kitti")
        protocol = replace(PROTOCOLS[name], align_corners=not half_pixel)
        result = evaluated(settings, protocol, pictures(name), 0, int(stereo))
        assert_equals_recorded(result, recorded, protocol.metrics)


def test_blend(goldens):
    arrays = goldens.npz("evaluation")
    names = [name.split("/")[1] for name in arrays.files if name.startswith("blend/")]
    assert names
    for name in names:
        disp, mirrored = (
            torch.from_numpy(arrays[f"{name}/{kind}"]) for kind in ("disp", "disp_mirrored")
        )
        blended = blend_mirrored(disp, mirrored.flip(-1)).numpy()
        np.testing.assert_allclose(blended, arrays[f"blend/{name}"], rtol=1e-5)
        assert blended.dtype == np.dtype(goldens.json("evaluation")["blend_dtype"])
