"""What a run is scored on after its epochs: validation list, benchmarks, odometry sequences."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from assembly import build_validation_set, has_validation
from course import digest
from distributed import World, run_on_main
from evaluation import evaluate
from evaluation_sets import cautions, find_benchmarks, fixed_scale
from inference import DepthPredictor
from pose_inference import (
    evaluate_training,
    find_training_sequences,
    results_scores,
    results_table,
)
from training_step import TrainingStep
from validation import validate, validation_pictures

if TYPE_CHECKING:
    from argparse import Namespace

    from torch import Tensor


class RunEvaluation:
    """The test sets of a run, and their scores."""

    def __init__(self, opt: Namespace, world: World, clips: Sequence[str] = ()) -> None:
        """Find everything. clips: those trained on, where cameras are learned. Raises UserError if
        pictures, lists or ground truth are missing."""
        self.opt, self.world = opt, world
        self.benchmarks = (
            [] if opt.no_eval else find_benchmarks(opt, opt.height, opt.width, trained=True)
        )
        self.sequences = find_training_sequences(opt)
        self.validation = build_validation_set(opt, clips) if has_validation(opt) else None
        # Tells the validation list from another.
        self.validation_digest = digest(self.validation.own_lines()) if self.validation else None

    @property
    def nothing_to_see(self) -> str:
        """A warning where epochs end with no number and no picture though none said so; else ""."""
        if self.opt.no_eval or self.validation or self.benchmarks or self.sequences:
            return ""
        places = self.opt.data_path if self.opt.dataset == "folder" else ["--val_split"]
        return (f"there is neither a validation list nor true depth in {', '.join(places)}: epochs "
                "end without a score or a picture")

    def is_due(self, epoch: int) -> bool:
        """Whether anything is scored after this epoch."""
        return self.validation is not None or self._tests_are_due(epoch)

    def _tests_are_due(self, epoch: int) -> bool:
        """Not in the epochs that --eval_every leaves out; the last is always tested."""
        done = epoch + 1
        left_out = done % self.opt.eval_every and done < self.opt.num_epochs
        return not left_out and bool(self.benchmarks or self.sequences)

    def score(
        self, networks: TrainingStep, epoch: int, log: logging.Logger, check: Callable[[], None]
    ) -> dict[str, float]:
        """Means of the validation list (`val/<term>`), scores of every benchmark
        (`<protocol>/<metric>`) and sequence; tables go to the log. check: called between batches,
        may raise Interrupted."""
        scores: dict[str, float] = {}
        if self.validation is not None:
            scores |= validate(
                networks, self.validation, self.world, self.opt.batch_size, self.opt.num_workers,
                check,
            )  # fmt: skip
            values = ", ".join(f"{name} {value:.5f}" for name, value in scores.items())
            log.info("epoch %d: %d validation samples: %s", epoch, len(self.validation), values)
            log.info(
                "epoch %d: %.1f%% of their pixels are auto-masked, %.1f%% of the lower halves are "
                "far (holes)", epoch, 100 * (1 - scores["val/automask"]), 100 * scores["val/holes"],
            )  # fmt: skip
        if self._tests_are_due(epoch):
            scores |= self._benchmark_scores(networks, epoch, log, check)
            scores |= self._sequence_scores(networks, epoch, log)
        return scores

    def pictures(self, networks: TrainingStep) -> dict[str, Tensor]:
        """Of the validation list, on the main process; none elsewhere and without such a list."""
        if self.validation is None:
            return {}
        draw = partial(validation_pictures, networks, self.validation, self.world.device)
        return run_on_main(self.world, draw) or {}

    def _benchmark_scores(
        self, networks: TrainingStep, epoch: int, log: logging.Logger, check: Callable[[], None]
    ) -> dict[str, float]:
        opt, scores = self.opt, {}
        predictor = DepthPredictor(
            networks.depth_network, opt.height, opt.width, opt.min_depth, opt.max_depth,
            self.world.device,
        )  # fmt: skip
        scale = fixed_scale(opt)
        for protocol, data, lines, truth in self.benchmarks:
            result = evaluate(
                predictor,
                data,
                truth,
                protocol,
                names=lines,
                world=self.world,
                post_process=opt.post_process,
                scale=scale,
                batch_size=opt.batch_size,
                num_workers=opt.num_workers,
                check=check,
            )
            log.info("epoch %d: %s", epoch, result.table())
            for sentence in cautions(protocol, opt.max_depth, scale):
                log.info("warning: %s", sentence)
            scores |= {f"{protocol.name}/{name}": value for name, value in result.mean().items()}
        return scores

    def _sequence_scores(
        self, networks: TrainingStep, epoch: int, log: logging.Logger
    ) -> dict[str, float]:
        if not self.sequences:
            return {}
        results = evaluate_training(networks.pose_network, self.sequences, self.opt, self.world)
        log.info("epoch %d: %s", epoch, results_table(results))
        return results_scores(results)
