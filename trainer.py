"""A training run: the parts assembled, the epochs, what is logged and saved, and when."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from assembly import (
    build_optimisation,
    build_training_set,
    build_training_step,
    frame_ids,
    place,
    start_from,
    wrap,
)
from background import Background
from checkpoint import (
    delete_models,
    load_newest,
    load_parts,
    previous_path,
    remove_partial_files,
    save_checkpoint,
    snapshot,
)
from course import check_course, course_of
from datasets.samplers import EpochSampler
from distributed import World, gather_objects, gather_outcomes, mean_over_ranks, run_on_main
from health import Health, diagnosis
from learned_cameras import describe_camera, write_cameras
from optimisation import clip_gradients, move_schedule
from profiling import StepProfile
from run_evaluation import RunEvaluation
from run_log import Clock, Progress, RunLog
from run_pictures import detached_sample, rehearse, sample_pictures, sheet
from runtime import Runtime, compile_networks
from stopping import StopRequest
from utils import Interrupted, UserError, check_writable, read_lines, reason, write_text
from validation import CHOSEN_BY

if TYPE_CHECKING:
    from argparse import Namespace


LAUNCH_FILE = ".launch"  # in a run's folder: who started it, for `Trainer._is_restarted`


class Trainer:
    """Everything one process needs to train; `run` does it.

    A step is `--accumulate` batches and one update of the weights. What it computes depends on the
    weights, the batches and (seed, step, rank) alone: the noise of the auto-mask is seeded anew at
    each step, so a checkpoint need not carry generators.
    """

    def __init__(self, opt: Namespace, world: World) -> None:
        """Assemble the run from the options of train.py. Raises UserError before any long work if
        data, ground truth, weights or a checkpoint are missing or do not fit."""
        self.opt, self.world = opt, world
        self.folder = Path(opt.log_dir) / opt.exp_name
        self.checkpoint_path = self.folder / "ckpt.pth"
        self.warnings: list[str] = []
        resumed = self._find_checkpoint()
        check_writable(self.folder)
        self.runtime = Runtime.choose(opt, world.device)
        self.runtime.apply()
        torch.manual_seed(opt.seed)  # the same initial weights on every rank
        self._build_data()
        self.evaluation = RunEvaluation(opt, world, self.clips)
        self.warnings += filter(None, [self.evaluation.nothing_to_see])
        self._build_networks(resumed is not None)
        self.epoch = self.batch = self.step = 0  # where the run stands: the next to be done
        self.sums: dict[str, Tensor] = {}  # of every loss term since the epoch began
        self.summed = 0  # steps in them
        self.best: float | None = None  # of CHOSEN_BY, so far
        if resumed is not None:
            self._restore(resumed)
        elif opt.pretrained_path:
            start_from(self.networks.parts(), Path(opt.pretrained_path), opt.models_to_load)
        self.model = wrap(self.networks, world)
        self.health = Health(world.device, self.runtime.patience)
        self.background = Background()
        self.stop = StopRequest(world)
        self._compare_places()
        self._open_log()

    # ---- assembly ----------------------------------------------------------------------------

    def _find_checkpoint(self) -> dict | None:
        """The state to resume from. An earlier run is never overwritten in silence."""
        newest = self.checkpoint_path
        self.newest_is_whole = True  # else it is not kept as the previous one
        if not any(map(os.path.isfile, (newest, previous_path(newest)))):
            return None
        if not (self.opt.resume or self._is_restarted()):
            raise UserError(
                f"{self.folder} already holds a run: add --resume to go on with it, or give "
                "another --exp_name"
            )
        state, warning = load_newest(newest)
        if warning is not None:
            self.warnings.append(warning)
            self.newest_is_whole = False
        return state

    def _is_restarted(self) -> bool:
        """Whether torchrun started this very run, and has started its processes anew since."""
        launch = self.folder / LAUNCH_FILE
        return bool(self.world.restarts) and (
            os.path.isfile(launch) and read_lines(launch) == [self.world.launch]
        )

    def _build_data(self) -> None:
        opt, world = self.opt, self.world
        self.frame_ids = frame_ids(opt)
        self.dataset = build_training_set(opt)
        self.clips = list(self.dataset.clip_numbers or ())  # whose cameras are learned
        self.sampler = EpochSampler(len(self.dataset), opt.seed, world.size, world.rank)
        self.steps_per_epoch = len(self.sampler) // (opt.batch_size * opt.accumulate)
        if not self.steps_per_epoch:
            raise UserError(
                f"the training list has {len(self.dataset)} samples, too few for one step of "
                f"{opt.accumulate} x {opt.batch_size} on each of {world.size} processes: lower "
                "--batch_size or --accumulate"
            )
        self.course = course_of(
            opt, self.dataset.own_lines(), self.dataset.own_cameras(), world.size,
            self.steps_per_epoch,
        )  # fmt: skip
        self.loader = DataLoader(
            self.dataset,
            opt.batch_size,
            sampler=self.sampler,
            drop_last=True,
            **self.runtime.loader(opt.num_workers),
        )

    def _build_networks(self, resumed: bool) -> None:
        opt = self.opt
        filled = resumed or (
            opt.pretrained_path is not None
            and {"encoder", "pose_encoder"} <= set(opt.models_to_load)
        )
        pretrained = opt.weights_init == "pretrained" and not filled
        step = build_training_step(opt, pretrained, self.runtime.amp_type, self.dataset)
        self.networks = place(step, self.world, self.runtime.channels_last)
        if opt.compile:
            compile_networks(self.networks.parts(), self.world.device)
        self.optimizer, self.scheduler = build_optimisation(
            opt, self.networks.parameters(), self.steps_per_epoch
        )
        self.scaler = self.runtime.scaler()

    def _compare_places(self) -> None:
        """Raise UserError, on all ranks, if they have taken up different checkpoints."""
        places = gather_objects(self.world, (self.epoch, self.batch, self.step))
        if len(set(places)) > 1:
            raise UserError(
                f"the processes see different checkpoints of {self.folder} (epoch, batch, step: "
                f"{', '.join(map(str, places))}): all machines must share --log_dir"
            )

    def _open_log(self) -> None:
        """The run's folder, without what killed processes left half-written there."""
        log = run_on_main(self.world, lambda: RunLog(self.folder, True, self.step))
        self.log = log or RunLog(self.folder, False)
        traced = self.opt.profile if self.world.is_main else 0
        self.profile = StepProfile(traced, self.folder, self.world.device, self.log.logger)
        run_on_main(self.world, lambda: self.log.record(vars(self.opt)))
        run_on_main(self.world, lambda: write_text(self.folder / LAUNCH_FILE, self.world.launch))
        for warning in self.warnings if self.world.is_main else []:
            self.log.logger.warning("warning: %s", warning)
        for name in ("", "models", "code", "pictures"):
            run_on_main(self.world, partial(remove_partial_files, self.folder / name))

    # ---- the run -----------------------------------------------------------------------------

    def run(self) -> None:
        """Train from where the run stands to the last epoch, evaluating after each.

        Raises Interrupted, the run being saved, after SIGTERM or SIGINT.
        """
        log = self.log.logger
        self._tell_plan()
        rehearse()
        try:
            with self.stop, self.background, self.profile:
                self._run_epochs()
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"a loader process was killed ({str(error).splitlines()[0]}): memory or shared "
                "memory ran out? lower --num_workers"
            ) from error
        finally:
            self.log.close()
        log.info("done: the run is in %s", self.folder)

    def _run_epochs(self) -> None:
        try:
            while self.epoch < self.opt.num_epochs:
                self._train_epoch()
                self._end_epoch()
        except Interrupted as stop:  # on all ranks
            run_on_main(self.world, self.background.finish)
            saved = self.checkpoint_path
            self.log.logger.info("%s: %s is saved, --resume goes on from it", stop, saved)
            raise
        run_on_main(self.world, self.background.finish)

    def _tell_plan(self) -> None:
        opt, log = self.opt, self.log.logger
        log.info(
            "%d samples; a step takes %d (%d x %d on each of %d processes), an epoch %d steps; "
            "learning rate %g, not scaled by processes; %d loader workers each; %s, %s",
            len(self.dataset),
            self.samples_per_step,
            opt.accumulate,
            opt.batch_size,
            self.world.size,
            self.steps_per_epoch,
            opt.learning_rate,
            opt.num_workers,
            self.world.device,
            self.runtime.describe(),
        )
        if self.step:
            log.info("resumed at epoch %d, step %d of it", self.epoch, self.batch)

    @property
    def samples_per_step(self) -> int:
        """On all processes."""
        return self.opt.batch_size * self.opt.accumulate * self.world.size

    def _train_epoch(self) -> None:
        """The rest of the current epoch, a line in the log every --log_frequency steps."""
        opt = self.opt
        self.networks.train()
        self.sampler.set_epoch(self.epoch, self.batch * opt.batch_size * opt.accumulate)
        bar = tqdm(
            initial=self.batch,
            total=self.steps_per_epoch,
            desc=f"epoch {self.epoch}",
            unit="step",
            disable=None if self.world.is_main else True,
        )
        clock = Clock()
        with bar, logging_redirect_tqdm([self.log.logger]):
            # The same iterator so many times over: so many batches, one after the other.
            for batches in zip(*[iter(self.loader)] * opt.accumulate, strict=False):
                clock.data_is_here()
                pictures = self.train_step(batches)
                bar.update()
                clock.step_is_done()
                self.profile.step()
                clock.skip()  # it may have written its trace
                last = self.batch == self.steps_per_epoch
                if self.batch % opt.log_frequency == 0 or last:
                    self._log(clock, batches[-1], pictures)
                    clock = Clock()
                number = self.stop.agreed()
                if number or (self.batch % opt.save_frequency == 0 and not last):
                    self._save_checkpoint()
                    clock.skip()
                if number:
                    raise Interrupted(number)

    def train_step(self, batches: Sequence[Mapping]) -> dict[str, Tensor]:
        """One optimiser step on some collated batches; returns the last one's pictures.

        Nothing here waits for a GPU, but for --amp fp16 (the scaler does) and, on several, torch's
        SyncBatchNorm.
        """
        torch.manual_seed(self._step_seed())
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        samples: list[int] = []
        for i, batch in enumerate(batches, 1):
            samples += batch["index"].tolist()
            batch = {
                key: value.to(self.world.device, non_blocking=True) for key, value in batch.items()
            }
            waits = self.world.size > 1 and i < len(batches)  # gradients meet after the last
            with self.model.no_sync() if waits else contextlib.nullcontext():
                found, pictures = self.model(batch)
                if self.world.device.type == "cpu":
                    self._look_before(found, samples)
                self.scaler.scale(found["loss"] / len(batches)).backward()
            for name, value in found.items():
                terms[name] = terms.get(name, 0) + value.detach() / len(batches)
        self._update(terms, samples)
        return pictures

    def _look_before(self, terms: Mapping[str, Tensor], samples: Sequence[int]) -> None:
        """Stop at a loss that is no number: on the CPU, what goes back from it would crash
        grid_sample. Waiting costs nothing there."""
        loss = mean_over_ranks(self.world, {"loss": terms["loss"]})["loss"]
        if not math.isfinite(loss):
            self.health.note(self.step + 1, terms, torch.zeros(()), samples)
            self._check()

    def _update(self, terms: Mapping[str, Tensor], samples: Sequence[int]) -> None:
        """Move the weights by the gradients at hand, and count the step."""
        self.scaler.unscale_(self.optimizer)
        self.norm = clip_gradients(self.networks.parameters(), self.opt.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value
        self.step += 1
        self.batch += 1
        self.summed += 1
        self.health.note(self.step, terms, self.norm, samples)

    @property
    def rate(self) -> float:
        """The learning rate of the last step (the optimiser holds that of the next)."""
        schedule = self.scheduler
        return schedule.base_lrs[0] * schedule.lr_lambdas[0](max(self.step - 1, 0))

    def _step_seed(self) -> int:
        """A seed of this step's own noise, another on every rank."""
        own = np.random.SeedSequence([self.opt.seed, self.world.rank, self.step])
        return int(own.generate_state(1)[0])

    def _end_epoch(self) -> None:
        """Score the epoch, write its row, save its networks, and go to the next."""
        scored = self.evaluation.is_due(self.epoch)
        means = self._means()
        scores: dict[str, float] = {}
        if scored:
            self._save_checkpoint()  # whatever happens while evaluating
            number = max(gather_objects(self.world, self.stop.signal))
            if number:
                raise Interrupted(number)
            self._share_buffers()
            scores = self.evaluation.score(
                self.networks, self.epoch, self.log.logger, self.stop.check
            )
            self._show_validation()
        row = {"epoch": self.epoch, "step": self.step, **means, "lr": self.rate, **scores}
        run_on_main(self.world, lambda: self.log.metrics(row))
        values = {f"eval/{name}": value for name, value in scores.items()}
        self.background.submit(partial(self.log.scalars, values, self.step))
        run_on_main(self.world, lambda: self._tell_camera(means))
        self._save_epoch(scores.get(CHOSEN_BY))
        self.sums, self.summed = {}, 0
        self.epoch, self.batch = self.epoch + 1, 0
        self._save_checkpoint()

    def _tell_camera(self, means: Mapping[str, float]) -> None:
        """A learned camera as files and as a line in the log. means: of the epoch's terms."""
        if self.networks.camera is not None:
            camera, seen = self.networks.camera, (self.opt.width, self.opt.height)
            write_cameras(self.folder, camera, self.clips, means, seen, self.dataset.shape())
            self.log.logger.info("epoch %d: %s", self.epoch, describe_camera(means, seen))

    def _means(self) -> dict[str, float]:
        """Each loss term's mean over the steps summed up and over all ranks."""
        means = mean_over_ranks(self.world, self.sums)
        return {name: value / self.summed for name, value in means.items()}

    def _share_buffers(self) -> None:
        """Give every rank the batch norm statistics of rank 0, which are the ones saved."""
        if self.world.size > 1:
            for buffer in self.networks.buffers():
                torch.distributed.broadcast(buffer, 0)

    # ---- what is kept ------------------------------------------------------------------------

    def _log(self, clock: Clock, batch: Mapping, pictures: Mapping[str, Tensor]) -> None:
        """A line in the log, points and pictures in TensorBoard; and a look for bad numbers."""
        self._check()
        means = self._means()
        if not self.world.is_main:
            return
        progress = Progress(
            self.epoch,
            self.batch,
            self.steps_per_epoch,
            self.step,
            self.opt.num_epochs * self.steps_per_epoch,
            self.samples_per_step,
        )
        values = self.log.progress(progress, clock, means, self.rate)
        values["gradient_norm"] = self.norm.item()
        sample = detached_sample(batch, pictures)
        self.background.submit(partial(self._draw, values, *sample, self.step))

    def _draw(
        self, values: Mapping[str, float], colours: Mapping, pictures: Mapping, step: int
    ) -> None:
        """Points, pictures and a histogram in TensorBoard, which one thread alone writes to."""
        self.log.scalars(values, step)
        self.log.images(sample_pictures(colours, pictures, self.frame_ids), step)
        self.log.histogram("disp_0", pictures["disp"], step)

    def _show_validation(self) -> None:
        """What the networks make of the validation list, where there is one."""
        pictures = self.evaluation.pictures(self.networks)
        if pictures:
            drawn = pictures, sheet(pictures), self.epoch, self.step
            self.background.submit(partial(self.log.validation, *drawn))

    def _check(self) -> None:
        """Raise on every rank what stops one: a file that could not be written, or numbers that
        are none, which nothing recovers from."""
        gather_outcomes(self.world, self._failed_write())
        found = gather_objects(self.world, self.health.look(self.networks.parameters()))
        wrong = diagnosis(found, self.dataset.lines)
        if wrong is None:
            return
        raise UserError(
            f"{wrong}; nothing of it was saved: lower --learning_rate, set --clip_grad, or check "
            "the data and its intrinsics"
        )

    def _failed_write(self) -> Exception | None:
        try:
            self.background.check()
        except Exception as error:
            return error
        return None

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

    def _save_epoch(self, value: float | None) -> None:
        """models/model{epoch}.pth; and models/best.pth if `value`, lower is better, is the best."""
        self._check()
        names = [f"model{self.epoch}.pth"]
        if value is not None and (self.best is None or value < self.best):
            self.best = value
            names.append("best.pth")
        if self.world.is_main:
            models, state = self.folder / "models", snapshot(self._networks_state())
            for name in names:
                self.background.submit(partial(save_checkpoint, models / name, state))
            if self.opt.keep:
                newest = range(self.epoch - self.opt.keep + 1)
                self.background.submit(partial(delete_models, models, newest))

    def _save_checkpoint(self) -> None:
        """ckpt.pth: all that going on needs. Bad numbers are not saved, but stop the run."""
        self._check()
        sums = gather_objects(self.world, {name: s.item() for name, s in self.sums.items()})
        if self.world.is_main:
            state = snapshot(self._state(sums))
            save = partial(save_checkpoint, self.checkpoint_path, state, self.newest_is_whole)
            self.background.submit(save)
        self.newest_is_whole = True

    def _state(self, sums: list[dict[str, float]]) -> dict:
        """All that ckpt.pth holds; sums: of every rank."""
        return self._networks_state() | {
            "epoch": self.epoch,
            "batch_idx": self.batch,
            "step_in_total": self.step,
            "course": self.course,
            "sums": sums,
            "summed": self.summed,
            "best": self.best,
            "best_of": self.evaluation.validation_digest,
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _restore(self, state: dict) -> None:
        """Take up a run of ours, or of the published code, where its checkpoint left it."""
        path = self.checkpoint_path
        if "step_in_total" not in state:
            raise UserError(
                f"{path} holds networks, but not the state of a run: start from its networks with "
                "--pretrained_path, under another --exp_name"
            )
        try:
            if "course" in state:
                check_course(path, state["course"], self.course)
            load_parts(self.networks.parts(), state, path)
            self.epoch, self.batch = int(state["epoch"]), int(state["batch_idx"])
            self.step = int(state["step_in_total"])
            if "course" in state:
                self._restore_exactly(state)
            else:
                self._go_on_with_published(path)
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError,
                ValueError) as error:
            raise UserError(f"{path} holds networks, but what else it holds is not the state of a "
                            f"run ({reason(error)}): start from its networks with "
                            "--pretrained_path, under another --exp_name") from error

    def _restore_exactly(self, state: dict) -> None:
        self.summed = state["summed"]
        if state["best_of"] == self.evaluation.validation_digest:  # else it is of another list
            self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["lr_scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        own = state["sums"][self.world.rank]
        self.sums = {name: torch.tensor(s, device=self.world.device) for name, s in own.items()}

    def _go_on_with_published(self, path: Path) -> None:
        """The published code's files: their networks and counters, and the rate of their step."""
        if not (self.epoch >= 0 and 0 <= self.batch <= self.steps_per_epoch):
            raise ValueError(f"step {self.batch} of epoch {self.epoch}, where an epoch now has "
                             f"{self.steps_per_epoch}")
        if self.batch == self.steps_per_epoch:
            self.epoch, self.batch = self.epoch + 1, 0
        self.step = self.epoch * self.steps_per_epoch + self.batch
        move_schedule(self.scheduler, self.step)
        self.warnings.append(
            f"{path} is of the published code: its networks and counters are taken up, the "
            "optimiser begins anew, and its settings are not compared with the options"
        )
