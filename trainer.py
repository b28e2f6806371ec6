"""A training run: the parts assembled, the epochs, what is logged, evaluated and saved."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from assembly import (
    build_optimisation,
    build_training_set,
    build_training_step,
    frame_ids,
)
from checkpoint import load_checkpoint, load_parts, save_checkpoint
from datasets.samplers import EpochSampler
from distributed import World, gather_objects, mean_over_ranks, run_on_main
from evaluation import evaluate
from evaluation_sets import cautions, find_benchmarks, fixed_scale
from inference import DepthPredictor, colourise
from optimisation import clip_gradients
from pose_inference import (
    evaluate_training,
    find_training_sequences,
    results_scores,
    results_table,
)
from run_log import Clock, Progress, RunLog
from utils import UserError, check_writable

if TYPE_CHECKING:
    from argparse import Namespace

PICTURES_SHOWN = 4  # of a batch, in TensorBoard
# The options that a run's steps follow from: a resumed run must keep them. The others, such as
# paths, workers, logging, evaluation and the number of epochs, are free.
COURSE = (
    "dataset", "jpg", "height", "width", "frame_ids", "use_stereo", "pose_model_input",
    "use_local_crop", "use_patch_reshuffle", "num_scales", "disparity_smoothness", "min_depth",
    "max_depth", "v1_multiscale", "avg_reprojection", "disable_automasking", "predictive_mask",
    "no_ssim", "optimizer", "learning_rate", "weight_decay", "beta1", "beta2", "momentum",
    "clip_grad", "lr_sche_type", "decay_step", "decay_rate", "eta_min", "warm_up", "batch_size",
    "seed",
)  # fmt: skip


class Trainer:
    """Everything one process needs to train; `run` does it.

    What a step computes depends on the weights, the batch and (seed, step, rank) alone: the noise
    of the auto-mask is seeded anew at each step, so a checkpoint need not carry generators.
    """

    def __init__(self, opt: Namespace, world: World) -> None:
        """Assemble the run from the options of train.py. Raises UserError before any long work if
        data, ground truth, weights or a checkpoint are missing or do not fit."""
        self.opt, self.world = opt, world
        self.folder = Path(opt.log_dir) / opt.exp_name
        self.checkpoint_path = self.folder / "ckpt.pth"
        resumed = self._find_checkpoint()
        check_writable(self.folder)
        torch.manual_seed(opt.seed)  # the same initial weights on every rank
        self._build_data()
        self.benchmarks = (
            [] if opt.no_eval else find_benchmarks(opt, opt.height, opt.width, trained=True)
        )
        self.sequences = find_training_sequences(opt)
        self._build_networks()
        self.epoch = self.batch = self.step = 0  # where the run stands: the next to be done
        self.sums: dict[str, Tensor] = {}  # of every loss term since the epoch began
        if resumed is not None:
            self._restore(resumed)
        elif opt.pretrained_path:
            self._start_from(Path(opt.pretrained_path))
        self.model = self._wrap()
        self.predictor = DepthPredictor(
            self.networks.depth_network,
            opt.height,
            opt.width,
            opt.min_depth,
            opt.max_depth,
            world.device,
        )
        log = run_on_main(world, lambda: RunLog(self.folder, True, self.step))
        self.log = log or RunLog(self.folder, False)
        run_on_main(world, lambda: self.log.record(vars(opt)))

    # ---- assembly ----------------------------------------------------------------------------

    def _find_checkpoint(self) -> dict | None:
        """The state to resume from. An earlier run is never overwritten in silence."""
        exists = self.checkpoint_path.is_file()
        if exists and not self.opt.resume:
            raise UserError(
                f"{self.folder} already holds a run: add --resume to go on with it, or give "
                "another --exp_name"
            )
        return load_checkpoint(self.checkpoint_path) if exists else None

    def _build_data(self) -> None:
        opt, world = self.opt, self.world
        self.frame_ids = frame_ids(opt)
        self.dataset = build_training_set(opt)
        self.sampler = EpochSampler(len(self.dataset), opt.seed, world.size, world.rank)
        self.steps_per_epoch = len(self.sampler) // opt.batch_size
        if not self.steps_per_epoch:
            raise UserError(
                f"the training list has {len(self.dataset)} samples, too few for one batch of "
                f"{opt.batch_size} on each of {world.size} processes: lower --batch_size"
            )
        self.loader = DataLoader(
            self.dataset,
            opt.batch_size,
            sampler=self.sampler,
            num_workers=opt.num_workers,
            drop_last=True,
            pin_memory=world.device.type == "cuda",
            persistent_workers=opt.num_workers > 0,
        )

    def _build_networks(self) -> None:
        opt = self.opt
        pretrained = opt.weights_init == "pretrained" and not self._weights_come_later()
        self.networks = build_training_step(opt, pretrained).to(self.world.device)
        self.optimizer, self.scheduler = build_optimisation(
            opt, self.networks.parameters(), self.steps_per_epoch
        )

    def _weights_come_later(self) -> bool:
        """Whether a checkpoint fills every network, so that ImageNet weights need not be there."""
        opt = self.opt
        return self.checkpoint_path.is_file() or (
            opt.pretrained_path is not None
            and {"encoder", "pose_encoder"} <= set(opt.models_to_load)
        )

    def _start_from(self, path: Path) -> None:
        """Load the networks of --models_to_load from another run's checkpoint."""
        parts, wanted = self.networks.parts(), self.opt.models_to_load
        chosen = {name: parts[name] for name in wanted if name in parts}
        # A run by stereo alone has no pose network, which the default list names all the same.
        absent = set(wanted) - set(parts) - {"pose_encoder", "pose"}
        if absent or not chosen:
            raise UserError(
                f"--models_to_load {' '.join(wanted)}: this run has the networks {', '.join(parts)}"
            )
        load_parts(chosen, load_checkpoint(path), path)

    def _wrap(self) -> nn.Module:
        """The step as DDP runs it. Batch norm sees the global batch on CUDA; elsewhere every
        process normalises by its own, and takes over rank 0's running statistics at each step."""
        if self.world.size == 1:
            return self.networks
        on_cuda = self.world.device.type == "cuda"
        if on_cuda:
            self.networks = nn.SyncBatchNorm.convert_sync_batchnorm(self.networks)
        devices = [self.world.device.index] if on_cuda else None
        return DistributedDataParallel(self.networks, device_ids=devices)

    # ---- the run -----------------------------------------------------------------------------

    def run(self) -> None:
        """Train from where the run stands to the last epoch, evaluating after each."""
        log, opt = self.log.logger, self.opt
        log.info(
            "%d samples; a step takes %d (%d on each of %d processes), an epoch %d steps; %s",
            len(self.dataset),
            opt.batch_size * self.world.size,
            opt.batch_size,
            self.world.size,
            self.steps_per_epoch,
            self.world.device,
        )
        if self.step:
            log.info("resumed at epoch %d, batch %d", self.epoch, self.batch)
        while self.epoch < opt.num_epochs:
            self._train_epoch()
            if self.benchmarks or self.sequences:
                self._save_checkpoint()  # whatever happens while evaluating
            means = self._epoch_means()
            scores = self._evaluate()
            row = {"epoch": self.epoch, "step": self.step, **means, "lr": self.rate, **scores}
            run_on_main(self.world, lambda row=row: self.log.metrics(row))
            self.log.scalars({f"eval/{name}": value for name, value in scores.items()}, self.step)
            self._save_epoch()
        self.log.close()
        log.info("done: the run is in %s", self.folder)

    def _train_epoch(self) -> None:
        """The rest of the current epoch, a line in the log every --log_frequency batches."""
        opt = self.opt
        self.networks.train()
        self.sampler.set_epoch(self.epoch, self.batch * opt.batch_size)
        bar = tqdm(
            initial=self.batch,
            total=self.steps_per_epoch,
            desc=f"epoch {self.epoch}",
            unit="batch",
            disable=None if self.world.is_main else True,
        )
        clock = Clock()
        with bar, logging_redirect_tqdm([self.log.logger]):
            for batch in self.loader:
                clock.data_is_here()
                pictures = self.train_step(batch)
                bar.update()
                clock.step_is_done()
                last = self.batch == self.steps_per_epoch
                if self.batch % opt.log_frequency == 0 or last:
                    self._log(clock, batch, pictures)
                    clock = Clock()
                if self.batch % opt.save_frequency == 0 and not last:
                    self._save_checkpoint()

    def train_step(self, batch: Mapping) -> dict[str, Tensor]:
        """One optimiser step on a collated batch; returns its pictures. Waits for no device."""
        torch.manual_seed(self._step_seed())
        batch = {
            key: value.to(self.world.device, non_blocking=True) for key, value in batch.items()
        }
        terms, pictures = self.model(batch)
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        if self.opt.clip_grad > 0:
            clip_gradients(self.networks.parameters(), self.opt.clip_grad)
        self.optimizer.step()
        self.scheduler.step()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.step += 1
        self.batch += 1
        return pictures

    @property
    def rate(self) -> float:
        """The learning rate of the last step (the optimiser holds that of the next)."""
        schedule = self.scheduler
        return schedule.base_lrs[0] * schedule.lr_lambdas[0](max(self.step - 1, 0))

    def _step_seed(self) -> int:
        """A seed of this step's own noise, another on every rank."""
        own = (self.opt.seed * self.world.size + self.world.rank) * 2**32 + self.step
        return own % 2**63

    def _epoch_means(self) -> dict[str, float]:
        """Each loss term's mean over the epoch's steps and all ranks; the next epoch begins."""
        means = mean_over_ranks(self.world, self.sums)
        means = {name: value / self.steps_per_epoch for name, value in means.items()}
        self.sums = {}
        return means

    def _evaluate(self) -> dict[str, float]:
        """Scores named `<protocol>/<metric>` of every benchmark; tables go to the log.

        None in the epochs that --eval_every leaves out; the last is always evaluated.
        """
        scores: dict[str, float] = {}
        done = self.epoch + 1
        left_out = done % self.opt.eval_every and done < self.opt.num_epochs
        if left_out or not (self.benchmarks or self.sequences):
            return scores
        self._share_buffers()
        scale = fixed_scale(self.opt)
        for protocol, data, lines, truth in self.benchmarks:
            result = evaluate(
                self.predictor,
                data,
                truth,
                protocol,
                names=lines,
                world=self.world,
                post_process=self.opt.post_process,
                scale=scale,
                batch_size=self.opt.batch_size,
                num_workers=self.opt.num_workers,
            )
            self.log.logger.info("epoch %d: %s", self.epoch, result.table())
            for sentence in cautions(protocol, self.opt.max_depth, scale):
                self.log.logger.info("warning: %s", sentence)
            scores |= {f"{protocol.name}/{name}": value for name, value in result.mean().items()}
        if self.sequences:
            results = evaluate_training(
                self.networks.pose_network, self.sequences, self.opt, self.world
            )
            self.log.logger.info("epoch %d: %s", self.epoch, results_table(results))
            scores |= results_scores(results)
        return scores

    def _share_buffers(self) -> None:
        """Give every rank the batch norm statistics of rank 0, which are the ones saved."""
        if self.world.size > 1:
            for buffer in self.networks.buffers():
                torch.distributed.broadcast(buffer, 0)

    # ---- what is kept ------------------------------------------------------------------------

    def _log(self, clock: Clock, batch: Mapping, pictures: Mapping[str, Tensor]) -> None:
        """A line in the log, points and pictures in TensorBoard; and a look for bad numbers."""
        means = mean_over_ranks(self.world, self.sums)
        means = {name: value / self.batch for name, value in means.items()}
        self._stop_if_not_finite(means)
        if not self.world.is_main:
            return
        progress = Progress(
            self.epoch,
            self.batch,
            self.steps_per_epoch,
            self.step,
            self.opt.num_epochs * self.steps_per_epoch,
            self.opt.batch_size * self.world.size,
        )
        self.log.progress(progress, clock, means, self.rate)
        self.log.images(self._shown(batch, pictures), self.step)

    def _shown(self, batch: Mapping, pictures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first pictures of a batch, under the names that users of this family know."""
        shown = {}
        for i in range(min(PICTURES_SHOWN, self.opt.batch_size)):
            shown[f"color_0_0/{i}"] = batch["color", 0, 0][i].float() / 255
            for n, frame in enumerate(self.frame_ids[1:]):
                shown[f"color_{frame}_0/{i}"] = batch["color", frame, 0][i].float() / 255
                shown[f"color_pred_{frame}_0/{i}"] = pictures["warped"][i, n].clamp(0, 1)
            disp = colourise(pictures["disp"][i, 0].cpu().numpy())
            shown[f"disp_0/{i}"] = torch.from_numpy(disp.copy()).permute(2, 0, 1)
            shown[f"automask_0/{i}"] = pictures["automask"][i][None]
        return shown

    def _stop_if_not_finite(self, means: Mapping[str, float]) -> None:
        """Raise UserError on every rank if any term stopped being a number since the epoch began,
        or a weight is none: neither ever recovers, so a look now and then is enough."""
        weights = torch.stack([p.detach().isfinite().all() for p in self.networks.parameters()])
        values = {**means, "weights": 0.0 if weights.all() else math.nan}
        if not all(map(math.isfinite, values.values())):
            terms = ", ".join(f"{name} {value:g}" for name, value in values.items())
            raise UserError(
                f"the loss is no longer a number (epoch {self.epoch}, at or before step "
                f"{self.step}: {terms}); nothing of it was saved: lower --learning_rate, set "
                "--clip_grad, or check the data and its intrinsics"
            )

    def _networks_state(self) -> dict:
        """What every checkpoint holds: networks, and how they were trained."""
        opt = self.opt
        parts = self.networks.parts()
        return {name: module.state_dict() for name, module in parts.items()} | {
            "height": opt.height,
            "width": opt.width,
            "use_stereo": opt.use_stereo,
            "min_depth": opt.min_depth,
            "max_depth": opt.max_depth,
            "backbone": opt.backbone,
            "num_layers": opt.num_layers,
        }

    def _save_epoch(self) -> None:
        """models/model{epoch}.pth, then ckpt.pth, which says that the next epoch is to be done."""
        path = self.folder / "models" / f"model{self.epoch}.pth"
        run_on_main(self.world, lambda: save_checkpoint(path, self._networks_state()))
        self.epoch, self.batch = self.epoch + 1, 0
        self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        """ckpt.pth: all that going on needs. Bad numbers are not saved, but stop the run."""
        self._stop_if_not_finite(mean_over_ranks(self.world, self.sums) if self.sums else {})
        sums = gather_objects(self.world, {name: s.item() for name, s in self.sums.items()})
        run_on_main(self.world, lambda: save_checkpoint(self.checkpoint_path, self._state(sums)))

    def _state(self, sums: list[dict[str, float]]) -> dict:
        """All that ckpt.pth holds; sums: of every rank."""
        return self._networks_state() | {
            "epoch": self.epoch,
            "batch_idx": self.batch,
            "step_in_total": self.step,
            "course": self._course(),
            "sums": sums,
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.scheduler.state_dict(),
        }

    def _course(self) -> dict[str, object]:
        """What must not change within a run: else its steps are other ones, or do not fit."""
        opt = self.opt
        course = {name: vars(opt)[name] for name in COURSE}
        if opt.lr_sche_type == "cos" or opt.warm_up:  # their rates follow from the last step
            course["num_epochs"] = opt.num_epochs
        lines = "\n".join(self.dataset.lines).encode()
        course["training list (digest)"] = hashlib.sha256(lines).hexdigest()[:12]
        return course | {
            "number of processes": self.world.size,
            "batches an epoch": self.steps_per_epoch,
        }

    def _restore(self, state: dict) -> None:
        """Take up a run of ours where its checkpoint left it."""
        path = self.checkpoint_path
        if "course" not in state:
            raise UserError(
                f"{path} holds networks, but not the state of a run of this project: start from "
                "its networks with --pretrained_path, under another --exp_name"
            )
        for name, now in self._course().items():
            before = state["course"].get(name)
            if before != now:
                raise UserError(
                    f"{path} was written with another {name}: {before}, now {now}; resume with the "
                    "settings it was started with, or start anew under another --exp_name"
                )
        load_parts(self.networks.parts(), state, path)
        self.epoch, self.batch = state["epoch"], state["batch_idx"]
        self.step = state["step_in_total"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["lr_scheduler"])
        own = state["sums"][self.world.rank]
        self.sums = {name: torch.tensor(s, device=self.world.device) for name, s in own.items()}

