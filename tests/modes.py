"""Every way to train, in one table: each mode of train.py for a few steps on a rendered street.

    python -m tests.modes                    all of them, a few minutes
    python -m tests.modes stereo "no ssim"   some of them

A row tells a mode's first and last loss, what the plain reference of tests/reference_objective.py
makes of the same first batch, by how much they differ, and the speed. A mode fails if its run does,
leaves no checkpoint, or is off the reference by more than TOLERANCE; then the exit code is 1.
"""

from __future__ import annotations

import contextlib
import io
import math
import shlex
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Module

import render_demo
import train
import trainer
from rendering.kitti_raw import drive_name
from tests.reference_objective import Said, motion, reference_terms
from training_step import TrainingStep

FRAMES = 7  # of the street; the three in the middle have two neighbours on either side
STEPS = 3  # of an epoch: those three frames, left and right, in batches of two
TOLERANCE = 1e-4  # of a loss in float32 against one in float64, relative
BASE = (
    "--no_cuda --no_eval --num_workers 0 --backbone resnet --weights_init scratch "
    "--height 32 --width 96 --batch_size 2 --num_epochs 1 --min_depth 0.5 --max_depth 40"
)
VIEWS = "--use_local_crop --use_patch_reshuffle"


class Mode(NamedTuple):
    """Flags of train.py beside BASE's, and whether they change what a batch's loss is.

    `{earlier}` in the flags is the checkpoint of a run of the mode "mono".
    """

    flags: str
    own_loss: bool = True


MODES = {
    "mono": Mode(""),
    "resizing-cropping": Mode("--use_local_crop"),
    "splitting-permuting": Mode("--use_patch_reshuffle"),
    "both views": Mode(VIEWS),
    "stereo": Mode("--use_stereo --frame_ids 0"),
    "mono and stereo": Mode("--use_stereo"),
    "mono and stereo, both views": Mode(f"--use_stereo {VIEWS}"),
    "wider frames": Mode("--frame_ids 0 -2 -1 1 2"),
    "one source": Mode("--frame_ids 0 1"),
    "pose from all frames": Mode("--pose_model_input all"),
    "pose from five frames": Mode("--pose_model_input all --frame_ids 0 -2 -1 1 2"),
    "four scales": Mode("--num_scales 4"),
    "four scales, both views": Mode(f"--num_scales 4 {VIEWS}"),
    "v1 multiscale": Mode("--v1_multiscale --num_scales 4"),
    "v1 multiscale, both views": Mode(
        f"--v1_multiscale --num_scales 3 --disable_automasking {VIEWS}"
    ),
    "mean over sources": Mode("--avg_reprojection"),
    "no auto-mask": Mode("--disable_automasking"),
    "no auto-mask, mean": Mode("--disable_automasking --avg_reprojection"),
    "no ssim": Mode("--no_ssim"),
    "predictive mask": Mode("--predictive_mask --disable_automasking"),
    "predictive mask, all": Mode(
        "--predictive_mask --disable_automasking --num_scales 2 --use_stereo "
        f"--avg_reprojection {VIEWS}"
    ),
    "a camera for each clip": Mode(f"--learn_intrinsics {VIEWS}"),
    "a camera for each frame": Mode(f"--learn_intrinsics frame --use_stereo {VIEWS}"),
    "one camera, all frames": Mode("--learn_intrinsics frame --pose_model_input all"),
    "stronger smoothness": Mode("--disparity_smoothness 0.1 --num_scales 2"),
    "other depth limits": Mode(f"--min_depth 0.1 --max_depth 100 {VIEWS}"),
    "from another run": Mode("--pretrained_path {earlier} --models_to_load encoder depth", False),
    "adam": Mode("--optimizer adam --beta1 0.8 --beta2 0.99", False),
    "sgd": Mode("--optimizer sgd --momentum 0.8 --learning_rate 0.01", False),
    "step schedule": Mode("--decay_step 1 --decay_rate 0.5 --num_epochs 2", False),
    "cosine schedule": Mode("--lr_sche_type cos --eta_min 1e-5", False),
    "warm-up, then steps": Mode("--warm_up 0.7", False),
    "warm-up, then cosine": Mode("--warm_up 0.7 --lr_sche_type cos", False),
    "clipped gradients": Mode("--clip_grad 0.01", False),
    "accumulated batches": Mode("--accumulate 2 --batch_size 1", False),
    "bfloat16": Mode(f"--amp bf16 {VIEWS}", False),
    "channels last": Mode("--channels_last", False),
    "resnet 50": Mode("--num_layers 50", False),
    "hrnet 18": Mode("--backbone hrnet", False),
    "hrnet small": Mode("--backbone hrnet_small", False),
}


class Listener:
    """Hears what the networks of a training step say in its first forward pass, and every loss.

    In the first pass the tie-breaking noise is off, as the reference has none.
    """

    def __init__(self, step: TrainingStep, opt: Namespace) -> None:
        self.opt = opt
        self.losses: list[float] = []
        self.times: list[float] = []
        self.terms: dict[str, Tensor] = {}
        self.said: dict[str, list] = {"disp": [], "mask": [], "pose": [], "camera": []}
        self._hooks = [step.register_forward_pre_hook(self._begin)]
        for name, module in (
            ("disp", step.depth_network.depth),
            ("mask", step.mask_decoder),
            ("pose", step.pose_network),
            ("camera", step.camera),
        ):
            if module is not None:
                hook = module.register_forward_hook(partial(self._hear, name))
                self._hooks.append(hook)
        step.register_forward_hook(self._end)

    def _hear(self, name: str, _module: Module, _inputs: tuple, output: object) -> None:
        self.said[name].append(output)

    def _begin(self, step: TrainingStep, inputs: tuple[Mapping]) -> None:
        (self.batch,), self.objective = inputs, step.objective
        step.objective = replace(step.objective, tie_break=0)

    def _end(self, step: TrainingStep, _inputs: tuple, output: tuple) -> None:
        self.losses.append(output[0]["loss"].item())
        self.times.append(time.perf_counter())
        if not self.terms:
            self.terms = output[0]
            step.objective = self.objective
            for hook in self._hooks:
                hook.remove()

    def outputs(self) -> list[Tensor]:
        """Everything that the networks said, one tensor after the other."""
        by_view = self.said["disp"] + self.said["mask"]
        return [each for maps in by_view for each in maps.values()] + [
            each for pose in self.said["pose"] for each in pose
        ] + self.said["camera"]

    def reference(self, outputs: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """The reference's terms; outputs: to be taken for `outputs()`, in float64."""
        if outputs is None:
            outputs = [tensor.detach().double() for tensor in self.outputs()]
        left = iter(outputs)
        views = ["full"]
        views += ["local"] * self.opt.use_local_crop + ["reshuffled"] * self.opt.use_patch_reshuffle
        said = Said()
        for name, kept in (("disp", said.disp), ("mask", said.mask)):
            for view, maps in zip(views, self.said[name], strict=bool(self.said[name])):
                kept[view] = {scale: next(left) for scale in maps}
        poses = [(next(left), next(left)) for _ in self.said["pose"]]
        said.src_T_tgt = self._motions(poses)
        said.camera = next(left, None)
        return reference_terms(self.batch, said, self.opt)

    def _motions(self, poses: list[tuple[Tensor, Tensor]]) -> Tensor:
        """src_T_tgt (B, N, 4, 4) from axis-angles and translations (B, motions, 1, 3)."""
        together, motions = self.opt.pose_model_input == "all", []
        for n, frame in enumerate(self.opt.frame_ids[1:]):
            axis_angle, translation = poses[0 if together else n]
            which, invert = (n, False) if together else (0, frame < 0)
            pairs = zip(axis_angle[:, which, 0], translation[:, which, 0], strict=True)
            motions.append(torch.stack([motion(a, t, invert) for a, t in pairs]))
        if self.opt.use_stereo:
            motions.append(self.batch["stereo_T"].double())
        return torch.stack(motions, 1)


class Result(NamedTuple):
    """What became of a mode: its row."""

    first: float
    last: float
    reference: float
    steps_per_second: float

    @property
    def difference(self) -> float:
        """Of the first loss from the reference, relative."""
        return abs(self.first - self.reference) / abs(self.reference)

    @property
    def sound(self) -> bool:
        return math.isfinite(self.last) and self.difference <= TOLERANCE


def render(folder: Path) -> None:
    """A street in KITTI's layout, and a list of the frames with two neighbours on either side."""
    size = ["--height", "96", "--width", "288"]
    render_demo.main(["--out", str(folder), "--streets", "2", "--frames", str(FRAMES), *size])
    lines = [f"{drive_name(1)} {n} {side}\n" for n in range(2, FRAMES - 2) for side in "lr"]
    (folder / "split/train_files.txt").write_text("".join(lines))


def command_line(data: Path, split: Path, logs: Path, name: str) -> list[str]:
    """The arguments of train.py for a mode, on KITTI's layout; its run is `logs/name`."""
    flags = shlex.split(f"{BASE} {MODES[name].flags}")
    earlier = str(logs / "mono/models/model0.pth")
    flags = [flag.format(earlier=earlier) for flag in flags]
    places = {"data_path": data, "split": split, "log_dir": logs, "exp_name": name}
    return [*flags, *(f"--{flag}={value}" for flag, value in places.items())]


def run_mode(street: Path, logs: Path, name: str) -> Result:
    """Train a mode on the street as train.py does, once; its run is in `logs/name`."""
    heard: list[Listener] = []

    class HeardTrainer(trainer.Trainer):
        def run(self) -> None:
            heard.append(Listener(self.networks, self.opt))
            super().run()

    original, trainer.Trainer = trainer.Trainer, HeardTrainer
    try:
        train.main(command_line(street, street / "split", logs, name))
    finally:
        trainer.Trainer = original
    (listener,) = heard
    if not (logs / name / "ckpt.pth").is_file():
        raise FileNotFoundError(f"{logs / name} holds no checkpoint")
    times = listener.times
    return Result(
        listener.losses[0],
        listener.losses[-1],
        listener.reference()["loss"].item(),
        (len(times) - 1) / (times[-1] - times[0]),
    )


@contextlib.contextmanager
def hidden() -> Iterator[io.StringIO]:
    """Keeps what is printed from the table."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


def row(name: str, street: Path, logs: Path) -> tuple[str, bool]:
    """A mode's line of the table, and whether it is sound. What it prints is hidden."""
    try:
        with hidden() as printed:
            result = run_mode(street, logs, name)
    except (Exception, SystemExit) as error:  # whatever it is, the other modes are to be seen
        last = (printed.getvalue().splitlines() or [""])[-1]
        return f"{name:28}failed: {type(error).__name__}: {error} {last}", False
    numbers = f"{result.first:10.6f}{result.last:10.6f}{result.reference:11.6f}"
    speed = f"{result.difference:12.1e}{result.steps_per_second:9.1f}"
    mark = "" if result.sound else "FAILED "
    return f"{name:28}{numbers}{speed}  {mark}{MODES[name].flags}", result.sound


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table of all modes, or of those named; 1 if some mode is not as it should be."""
    names = list(sys.argv[1:] if argv is None else argv) or list(MODES)
    unknown = [name for name in names if name not in MODES]
    if unknown:
        print(f"error: no mode {unknown[0]!r}; there are {', '.join(MODES)}", file=sys.stderr)
        return 2
    if any("{earlier}" in MODES[name].flags for name in names):
        names = ["mono", *(name for name in names if name != "mono")]
    failed, started = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        street, logs = Path(folder) / "street", Path(folder) / "logs"
        with hidden():
            render(street)
        print(f"every mode: train.py {BASE}")
        head = f"{'first':>10}{'last':>10}{'reference':>11}{'difference':>12}{'steps/s':>9}"
        print(f"{'mode':28}{head}  flags")
        for name in names:
            line, sound = row(name, street, logs)
            print(line, flush=True)
            failed += not sound
            if name != "mono":  # which others may start from; a run takes half a gigabyte
                shutil.rmtree(logs / name, ignore_errors=True)
    verdict = f"{failed} failed" if failed else "all as the reference says"
    print(f"{len(names)} modes, {verdict}, {time.perf_counter() - started:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
