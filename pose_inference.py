"""Camera paths of KITTI odometry sequences from a pose network; for evaluate_pose.py and trainer.

The pose network is used as it is trained: shown frames i and i + 1, in this order, it tells how
points of camera i look from camera i + 1.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from checkpoint import describe_backbone, load_checkpoint, load_parts
from datasets import build_dataset
from datasets.splits import split_lines
from distributed import World, gather_outcomes
from inference import DEFAULTS, choose_settings
from layers import transformation_from_parameters
from networks import build_pose_network
from odometry import (
    PUBLISHED,
    SNIPPET,
    PathScore,
    compose,
    is_sequence,
    read_poses,
    score_path,
    score_table,
)
from stopping import outlive_signals
from utils import UserError

if TYPE_CHECKING:
    from argparse import Namespace


class PosePredictor:
    """A pose network of pairs and the input size it was trained for.

    The network may be one in training: each prediction puts it in evaluation mode and back.
    """

    def __init__(
        self,
        network: nn.Module,
        height: int = DEFAULTS["height"],
        width: int = DEFAULTS["width"],
        device: torch.device | str = "cpu",
    ) -> None:
        """network: as `networks.PoseNetwork`, of two frames; moved to device."""
        self.network = network.to(device)
        self.height, self.width = height, width
        self.device = torch.device(device)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        height: int | None = None,
        width: int | None = None,
        device: torch.device | str = "cpu",
    ) -> PosePredictor:
        """Load `pose_encoder` and `pose`; a size that is None is the checkpoint's, else 192x640.

        Raises UserError if the file is unreadable, holds no pose network of pairs, or records a
        size that cannot be.
        """
        path = Path(path)
        state = load_checkpoint(path)
        encoder = state.get("pose_encoder", {})
        described = describe_backbone({"encoder": encoder})
        first = encoder.get("encoder.conv1.weight")
        if described is None or first is None or first.ndim != 4:
            raise UserError(f"{path} holds no pose network that could be used here: it needs "
                            "`pose_encoder` and `pose`, as a training on video saves them")
        frames = first.shape[1] // 3
        if frames != 2:
            raise UserError(f"the pose network of {path} sees {frames} frames at once: a path is "
                            "predicted by one of two (--pose_model_input pairs)")
        network = build_pose_network(described[1])
        load_parts(network.parts(), state, path)
        size = choose_settings({"height": height, "width": width}, state, path)
        return cls(network, device=device, **size)

    @torch.no_grad()
    def motions(self, frames: Tensor) -> Tensor:
        """next_T_this between consecutive frames: (n - 1, 4, 4) float64, translations unscaled.

        frames: (n, 3, H, W), n > 1, uint8 or float in [0, 1], at network size, in temporal order.
        """
        frames = frames.to(self.device, non_blocking=True)
        if frames.dtype == torch.uint8:
            frames = frames.float() / 255
        was_training = self.network.training
        self.network.eval()
        try:
            axis_angle, translation = self.network([frames[:-1], frames[1:]])
        finally:
            self.network.train(was_training)
        # float64: more than a thousand of them are multiplied.
        return transformation_from_parameters(
            axis_angle[:, 0, 0].double(), translation[:, 0, 0].double()
        )


def predict_path(
    predictor: PosePredictor,
    frames: Dataset[Mapping[Any, Tensor]],
    *,
    world: World | None = None,
    batch_size: int = 4,
    num_workers: int = 0,
    label: str = "predict",
) -> np.ndarray:
    """The path world_T_cam, (frames, 4, 4), from the first frame on; up to scale.

    frames: a data set whose samples' ("color", 0, 0) are consecutive frames at network size. Each
    is read once, and memory does not grow with their number. The processes of `world` share the
    sequence out in consecutive pieces and all return the whole. Raises UserError, on every rank, if
    a frame cannot be read.
    """
    world = world or World()
    count = len(frames) - 1
    begin, end = (count * rank // world.size for rank in (world.rank, world.rank + 1))
    own = range(begin, end + 1)  # end - begin motions lie between end - begin + 1 frames
    loader = DataLoader(
        Subset(frames, own), batch_size, pin_memory=predictor.device.type == "cuda",
        num_workers=min(num_workers, -(-len(own) // batch_size)),  # no worker without a batch
        generator=torch.Generator(),  # its own: an evaluation leaves a training's draws alone
        worker_init_fn=outlive_signals,
    )  # fmt: skip
    bar = tqdm(total=end - begin, desc=label, unit="frame", disable=not world.is_main)
    motions: list[np.ndarray] | UserError = []
    try:
        with bar:
            for images in _overlapping(loader):
                motions.append(predictor.motions(images).cpu().numpy())
                bar.update(len(motions[-1]))
    except UserError as error:  # carried through the gather: the other ranks wait there
        motions = error
    shards = gather_outcomes(world, motions)
    return compose(np.concatenate([piece for shard in shards for piece in shard]))


def _overlapping(loader: Iterable[Mapping[Any, Tensor]]) -> Iterator[Tensor]:
    """The pictures of each batch, the last one of the batch before in front: all pairs once."""
    images = torch.empty(0, dtype=torch.uint8)
    for batch in loader:
        images = torch.cat([images[-1:], batch["color", 0, 0]])
        if len(images) > 1:
            yield images


@dataclass(frozen=True, eq=False)
class OdometrySequence:
    """Consecutive frames of the left camera, and their true path where it is known."""

    name: str  # two digits
    frames: Dataset[Mapping[Any, Tensor]]
    truth: np.ndarray | None  # (frames, 4, 4), metres


def find_sequences(
    data_path: str | Path, names: Sequence[str], height: int, width: int, *, jpg: bool = False
) -> list[OdometrySequence]:
    """Look for frames and true poses of each of `names`, without reading pictures.

    data_path: root of KITTI odometry. A name is `odom_9` or `odom_10`, the published tests, whose
    true poses must be there; or a sequence's number such as `06`: all frames in its folder, with
    true poses if poses/06.txt exists. Raises UserError for what is missing.
    """
    found: dict[str, OdometrySequence] = {}
    for name in names:
        lines = _published_lines(name) if name in PUBLISHED else _all_lines(data_path, name, jpg)
        frames = build_dataset("kitti_odom", data_path, lines, height, width, (0,), jpg=jpg)
        numbers = _consecutive(frames, name)
        sequence = f"{int(frames.refs[0].folder):02d}"
        path = Path(data_path) / "poses" / f"{sequence}.txt"
        truth = read_poses(path) if name in PUBLISHED or os.path.isfile(path) else None
        if truth is not None and numbers[-1] >= len(truth):
            raise UserError(f"{path} holds {len(truth)} poses, none for frame {numbers[-1]}")
        if sequence in found:
            raise UserError(f"--eval_split names sequence {sequence} twice: keep one of them")
        truth = None if truth is None else truth[numbers]
        found[sequence] = OdometrySequence(sequence, frames, truth)
    return list(found.values())


def find_training_sequences(opt: Namespace) -> list[OdometrySequence]:
    """What a run of train.py on kitti_odom is scored on: the sequences that --eval_split names,
    else both published tests; nothing for other runs, nor for one without a pose network.

    Raises UserError for what is missing, true poses too, and for a pose network of all frames.
    """
    if opt.dataset != "kitti_odom" or opt.no_eval or len(opt.frame_ids) == 1:
        return []
    if opt.pose_model_input == "all":
        raise UserError("a path is predicted by a pose network of two frames, and this run has one "
                        "of all frames (--pose_model_input all): add --no_eval")
    names = [name for name in opt.eval_split if is_sequence(name)] or list(PUBLISHED)
    found = find_sequences(opt.data_path, names, opt.height, opt.width, jpg=opt.jpg)
    for sequence in found:
        if sequence.truth is None:
            raise UserError(f"there are no true poses {opt.data_path}/poses/{sequence.name}.txt to "
                            "evaluate with: get KITTI's, or leave the sequence out of --eval_split")
    return found


def _published_lines(name: str) -> list[str]:
    """The test list, whose lines each stand for a frame and the next, and that last next one."""
    lines = split_lines("kitti_odom", "odom", PUBLISHED[name])
    folder, frame, *side = lines[-1].split()
    return [*lines, " ".join([folder, str(int(frame) + 1), *side])]


def _all_lines(data_path: str | Path, name: str, jpg: bool) -> list[str]:
    if not is_sequence(name):
        raise UserError(f"--eval_split {name!r} is no odometry sequence: {', '.join(PUBLISHED)} or "
                        "a number such as 06 is expected")
    folder = Path(data_path) / "sequences" / f"{int(name):02d}" / "image_2"
    extension = ".jpg" if jpg else ".png"
    names = os.listdir(folder) if os.path.isdir(folder) else []
    lines = [f"{name} {int(Path(each).stem)} l" for each in sorted(names)
             if re.fullmatch(r"\d{6}" + re.escape(extension), each)]  # fmt: skip
    if len(lines) < SNIPPET:
        raise UserError(f"sequence {name} has {len(lines)} frames, and {SNIPPET} are the least for "
                        f"a path: {folder}/000000{extension} and so on are expected")
    return lines


def _consecutive(frames: Any, name: str) -> list[int]:
    """The frame numbers of a list. Raises UserError unless each follows on the one before."""
    for last, ref in zip(frames.refs, frames.refs[1:], strict=False):
        if ref != last._replace(frame=last.frame + 1):
            raise UserError(f"--eval_split {name}: frame {ref.frame} follows on frame {last.frame} "
                            "of the sequence, and a path needs all in between, of one camera")
    return [ref.frame for ref in frames.refs]


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """A predicted path (frames, 4, 4); aligned to the truth and scored where that is known."""

    sequence: OdometrySequence
    path: np.ndarray
    aligned: np.ndarray | None
    score: PathScore | None


def evaluate_sequences(
    predictor: PosePredictor,
    sequences: Sequence[OdometrySequence],
    *,
    world: World | None = None,
    batch_size: int = 4,
    num_workers: int = 0,
) -> list[SequenceResult]:
    """Predict the path of each sequence, and score it; other arguments as for `predict_path`."""
    results = []
    for sequence in sequences:
        path = predict_path(
            predictor, sequence.frames, world=world, batch_size=batch_size,
            num_workers=num_workers, label=f"sequence {sequence.name}",
        )  # fmt: skip
        score, aligned = None, None
        if sequence.truth is not None:
            score, aligned = score_path(sequence.truth, path)
        results.append(SequenceResult(sequence, path, aligned, score))
    return results


def evaluate_training(
    network: nn.Module, sequences: Sequence[OdometrySequence], opt: Namespace, world: World
) -> list[SequenceResult]:
    """Score the pose network of a run between two epochs; opt: the options of train.py."""
    predictor = PosePredictor(network, opt.height, opt.width, world.device)
    return evaluate_sequences(
        predictor, sequences, world=world, batch_size=opt.batch_size, num_workers=opt.num_workers
    )


def results_table(results: Sequence[SequenceResult]) -> str:
    """A line a sequence, under a header."""
    return score_table([(r.sequence.name, len(r.path), r.score) for r in results])


def results_scores(results: Sequence[SequenceResult]) -> dict[str, float]:
    """Scores by names such as `kitti_odom_09/ate`; the fields of `PathScore`, for those scored."""
    return {
        f"kitti_odom_{result.sequence.name}/{name}": value
        for result in results if result.score is not None
        for name, value in asdict(result.score).items()
    }  # fmt: skip
