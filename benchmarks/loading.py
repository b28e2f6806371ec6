"""From pictures on disk to what the networks see: time and bytes of a sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.material import write_drive
from benchmarks.measure import Effort, Result, Spread, Target, interleaved, processor_seconds
from benchmarks.textbook import TextbookDataset
from benchmarks.turns import Answers, ask, in_turns, side_processes
from datasets import build_dataset
from datasets.cache import PictureCache
from datasets.files import load_pixels
from datasets.keys import SampleIndex
from datasets.mono_dataset import MonoDataset
from datasets.resizing import view
from datasets.to_jpeg import convert, find_files
from freed_memory import keep_freed_memory
from training_step import prepare

TARGET_SIZE = (192, 640)
BATCH = 4
SIDES = ("textbook", "default", "fast", "fast, JPEG", "default, cached", "fast, cached")
FAST_SAMPLE = "loading: a sample, --fast_resize"
FASTER = Target(4, bound=1.8, reason=(
    "decoding three PNGs, inflated by ISA-L, is a third of a sample and Pillow's Lanczos, to the "
    "last bit, another, half of it with --fast_resize; the rest is passing on, floating point and "
    "jitter (see the rows below)"
))
FASTER_STILL = FASTER._replace(bound=2.4)
NEAR_DECODING = Target(1.6, at_most=True, bound=3.3, reason=(
    "decoding takes half of OpenCV's time here, beside which all of a sample is within 1.6"
))
CACHED = Target(3, bound=1.4, reason=(
    "the crop differs in every epoch and is resized by Pillow; passing on and floating point, of "
    "which a cache saves nothing, are a third of an uncached sample"
))


def measure_loading(place: Path, effort: Effort) -> list[Result]:
    """Samples of frames 0 -1 1 with both augmentations, from 1242x375 PNG, one worker.

    Ours includes what was moved from the worker to the device (`training_step.prepare`).
    """
    place = place / "png"
    lines = write_drive(place)
    for path in find_files(place):
        convert(path, place, jpeg_copy(place))
    lines = (lines * effort.samples)[: effort.samples]
    results = []
    for height, width in effort.sizes:
        dataset = training_set(place, lines, height, width, fast_resize=True)
        beside = _beside_textbook(place, lines, dataset, effort.repeats)
        fast = next(each.ours for each in beside if each.name == FAST_SAMPLE)
        results += [*beside, *_where_time_goes(dataset, fast, effort.repeats)]
    return results


def jpeg_copy(place: Path) -> Path:
    """Where `datasets.to_jpeg` puts its copy of the drive."""
    return place.parent / f"{place.name}_jpeg"


def training_set(
    place: Path, lines: list[str], height: int, width: int, **options: bool
) -> MonoDataset:
    """Frames 0 -1 1 with both augmentations; options: fast_resize, jpg."""
    return build_dataset("kitti", place, lines, height, width, is_train=True, local_crop=True,
                         patch_reshuffle=True, **options)  # fmt: skip


def _beside_textbook(
    place: Path, lines: list[str], dataset: MonoDataset, repeats: int
) -> list[Result]:
    shape = dataset.height, dataset.width
    builds = {side: partial(answers, side, place, lines, *shape) for side in SIDES}
    with side_processes(builds) as pipes:
        for pipe in pipes.values():
            ask(pipe, "epoch")  # unmeasured: files, code and the cache are in memory then
        said = {side: values["sample"] for side, values in in_turns(pipes, ("epoch",),
                                                                    repeats).items()}  # fmt: skip
    moved = [Spread.of([sample_bytes(each)]) for each in (dataset, TextbookDataset(dataset))]
    size, judged = f"{dataset.width}x{dataset.height}", shape == TARGET_SIZE

    def row(
        name: str, side: str, beside: str = "textbook", target: Target | None = None
    ) -> Result:
        return Result(name, size, "s", said[side], said[beside], target if judged else None)

    cached = "loading: later epochs, cached, beside uncached"
    return [
        row("loading: a sample", "default", target=FASTER),
        row(FAST_SAMPLE, "fast", target=FASTER_STILL),
        row("loading: a sample, --fast_resize, from a JPEG copy", "fast, JPEG"),
        Result("loading: a sample from the worker", size, "bytes", *moved,
               target=Target(8) if judged else None),
        row(cached, "default, cached", "default", CACHED),
        row(f"{cached}, --fast_resize", "fast, cached", "fast", CACHED),
    ]  # fmt: skip


def answers(side: str, place: Path, lines: list[str], height: int, width: int) -> Answers:
    """A side's of `SIDES`, in its process, which ours sets up as train.py does on the CPU."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    jpg = "JPEG" in side
    dataset = training_set(jpeg_copy(place) if jpg else place, lines, height, width,
                           fast_resize="fast" in side, jpg=jpg)  # fmt: skip
    textbook = TextbookDataset(dataset)
    for each in (dataset, textbook):
        sample_bytes(each)  # so that workers, which are forked, have all imports from their start
    if side == "textbook":
        return {"epoch": partial(_epoch, loader_of(textbook), lambda batch: batch)}
    keep_freed_memory()
    if "cached" in side:
        dataset.cache = PictureCache(place / f"cache_{width}_{side}", gigabytes=1)
    return {"epoch": partial(_epoch, loader_of(dataset), prepare)}


def loader_of(dataset: Dataset) -> DataLoader:
    """With one worker that lives on from epoch to epoch, as train.py's do."""
    # Forked, as by default, but for a process that was spawned.
    return DataLoader(dataset, BATCH, num_workers=1, persistent_workers=True,
                      multiprocessing_context="fork")  # fmt: skip


def _epoch(loader: DataLoader, on_device: Callable[[dict], object]) -> dict[str, float]:
    """Processor seconds of a sample, the worker's and those of what follows."""

    def run() -> None:
        for batch in loader:
            on_device(batch)

    return {"sample": processor_seconds(run) / len(loader.dataset)}


def sample_bytes(dataset: Dataset) -> float:
    """Of all tensors of a sample."""
    return float(sum(each.nbytes for each in dataset[0].values() if torch.is_tensor(each)))


def _where_time_goes(dataset: MonoDataset, whole: Spread, repeats: int) -> list[Result]:
    """Parts of a sample, and the whole beside the bare decoding of its three PNGs."""
    size = f"{dataset.width}x{dataset.height}"
    target = dataset.height, dataset.width
    numbers = range(min(8, len(dataset)))
    paths = [[dataset.image_path(dataset.refs[i], f) for f in dataset.frame_ids] for i in numbers]
    pictures = [[load_pixels(path) for path in sample] for sample in paths]
    crops = [dataset.draw(SampleIndex(0, i)).crop for i in numbers]

    def opencv() -> None:
        for sample in paths:
            for path in sample:
                cv2.imread(path)

    def decoding() -> None:
        for sample in paths:
            for path in sample:
                load_pixels(path)

    def resizing() -> None:
        for sample, crop in zip(pictures, crops, strict=True):
            for picture in sample:
                for box in (None, crop):
                    view(picture, target, box, flip=False, fast=True)

    spent = interleaved({"opencv": opencv, "decode": decoding, "resize": resizing}, repeats,
                        per=len(numbers))  # fmt: skip
    judged = target == TARGET_SIZE
    part = {name: Result(f"loading: of which {name}", size, "s", spent[name])
            for name in ("decode", "resize")}  # fmt: skip
    rest = whole.median - spent["decode"].median - spent["resize"].median
    return [
        *part.values(),
        Result("loading: of which the rest", size, "s", Spread.of([rest])),
        Result("loading: beside bare decoding, ours", size, "s", whole, spent["decode"],
               NEAR_DECODING if judged else None),
        Result("loading: beside bare decoding, OpenCV's", size, "s", whole, spent["opencv"]),
    ]  # fmt: skip
