"""Prepared Cityscapes triplets, against the published preparation's, pixel by pixel."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prepare_cityscapes import main


@pytest.fixture(scope="module")
def prepared(goldens, tmp_path_factory) -> Path:
    """The folder of the triplets of six frames, by the recipe."""
    root = tmp_path_factory.mktemp("cityscapes")
    facts = goldens.json("cityscapes_triplets")
    city, sequence = facts["city"], facts["sequence"]
    pictures = root / "raw/leftImg8bit_sequence/train" / city
    cameras = root / "raw/camera/train" / city
    for folder in (pictures, cameras):
        folder.mkdir(parents=True)
    first, last = map(int, facts["frames"].split(".."))
    for i, frame in enumerate(range(first, last + 1)):
        picture = goldens.recipes.picture(facts["seed"], *facts["source_size"], du=i, noise=0)
        name = f"{city}_{sequence}_{frame:06d}_leftImg8bit.png"
        Image.fromarray(picture).save(pictures / name)
    camera = cameras / f"{city}_{sequence}_{last:06d}_camera.json"
    camera.write_text(json.dumps(facts["camera.json"]))
    main(["--dataset_dir", str(root / "raw"), "--dump_root", str(root / "out"), "--num_threads",
          "1", "--seq_length", str(facts["seq_length"]), "--img_height", str(facts["img_height"]),
          "--img_width", str(facts["img_width"])])  # fmt: skip
    return root / "out"


def test_the_same_files_are_written(goldens, prepared):
    files = {path.relative_to(prepared).as_posix() for path in prepared.rglob("*.*")}
    assert files == goldens.json("cityscapes_triplets")["files"].keys()


def test_their_content_is_the_same(goldens, prepared):
    arrays = goldens.npz("cityscapes_triplets")
    for name, expected in goldens.json("cityscapes_triplets")["files"].items():
        if "text" in expected:
            assert (prepared / name).read_text() == expected["text"]
            continue
        picture = np.asarray(Image.open(prepared / name))
        np.testing.assert_array_equal(picture, arrays[name])
        content = b"uint8" + str(picture.shape).encode() + picture.tobytes()
        assert hashlib.sha256(content).hexdigest() == expected["sha256"]
