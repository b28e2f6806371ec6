"""Camera paths: KITTI's pose files, composing motions, alignment to the truth, errors; no torch.

A path is world_T_cam, (frames, 4, 4) float64: each camera's points in the world's axes, which are
the first camera's (x right, y down, z forward) unless said otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from utils import UserError, atomic_path, read_lines

SNIPPET = 5  # frames
LENGTHS = range(100, 900, 100)  # metres, of KITTI's sub-sequences
START_STEP = 10  # frames from the start of one sub-sequence to the next
# Tests by name: the published lists of `kitti odom`.
PUBLISHED = {"odom_9": "test_09", "odom_10": "test_10"}


def is_sequence(name: str) -> bool:
    """Whether a name of --eval_split is a published test of odometry or a sequence's number."""
    return name in PUBLISHED or re.fullmatch(r"\d{1,2}", name, re.ASCII) is not None


def read_poses(path: str | Path) -> np.ndarray:
    """The path in a file of KITTI: a row a frame, the upper three rows of world_T_cam, in metres.

    KITTI's are of camera 0, whose axes camera 2 shares, 6 cm beside it. Raises UserError naming
    the row that is not twelve numbers.
    """
    poses = []
    for row, line in enumerate(read_lines(path), start=1):
        try:
            numbers = np.array(line.split(), dtype=np.float64)
        except ValueError:
            numbers = np.empty(0)
        if len(numbers) != 12 or not np.isfinite(numbers).all():
            raise UserError(f"row {row} of {path} is no pose: twelve numbers are expected, the "
                            "first three rows of a 4x4 matrix")
        poses.append(np.vstack([numbers.reshape(3, 4), [0, 0, 0, 1]]))
    if not poses:
        raise UserError(f"the pose file {path} is empty")
    return np.array(poses)


def write_poses(path: str | Path, world_T_cam: np.ndarray) -> None:
    """Write a path (frames, 4, 4) as `read_poses` reads it. Raises UserError if it cannot."""
    with atomic_path(path) as partial:
        np.savetxt(partial, world_T_cam[:, :3].reshape(-1, 12), fmt="%.9e")


def compose(next_T_this: np.ndarray) -> np.ndarray:
    """The path (n + 1, 4, 4), beginning with the identity, of the motions (n, 4, 4).

    next_T_this[i]: points of camera i as camera i + 1 sees them.
    """
    path = [np.eye(4)]
    for this_T_next in np.linalg.inv(next_T_this):
        path.append(path[-1] @ this_T_next)
    return np.array(path)


def align(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """The predicted path in the truth's axes and unit, and the scale that was applied.

    7 degrees of freedom: the rotation R, scale s and shift t that minimise the sum over frames of
    |p_true - (s R p + t)|^2 (Umeyama 1991, equations 40 to 43). Both paths: (frames, 4, 4).
    A prediction that never moves gets scale 0.
    """
    p, p_true = predicted[:, :3, 3], truth[:, :3, 3]
    centre, centre_true = p.mean(0), p_true.mean(0)
    covariance = (p_true - centre_true).T @ (p - centre) / len(p)
    U, singular, Vt = np.linalg.svd(covariance)
    signs = np.array([1, 1, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])  # no mirroring
    R = U * signs @ Vt
    variance = ((p - centre) ** 2).sum(1).mean()
    scale = float(singular @ signs / variance) if variance else 0.0
    aligned = predicted.copy()
    aligned[:, :3, :3] = R @ predicted[:, :3, :3]
    aligned[:, :3, 3] = scale * (p - centre) @ R.T + centre_true
    return aligned, scale


def snippet_errors(truth: np.ndarray, predicted: np.ndarray, length: int = SNIPPET) -> np.ndarray:
    """Absolute trajectory error of every run of `length` frames, (frames - length + 1,), metres.

    As Zhou et al. 2017 (arXiv 1704.07813) and Monodepth2 score odometry: positions in the axes of
    the snippet's first camera, x true and y predicted; one scale s = sum(x y) / sum(y^2); the error
    is sqrt(sum |s y - x|^2) / length. By its name it should be divided by sqrt(length): every
    published figure of this family is 2.24 times smaller than that root mean square.
    (Monodepth2 composes the inverse motions instead, on both sides, and adds three shorter runs at
    the end of a sequence: on made-up drives its figures differed by less than a hundredth.)
    """
    runs = np.arange(len(truth) - length + 1)[:, None] + np.arange(length)
    x, y = (_seen_from_first(path[runs]) for path in (truth, predicted))
    products, squares = (x * y).sum((1, 2)), (y * y).sum((1, 2))
    scale = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
    return np.sqrt(((scale[:, None, None] * y - x) ** 2).sum((1, 2))) / length


def _seen_from_first(paths: np.ndarray) -> np.ndarray:
    """Positions (m, length, 3) of paths (m, length, 4, 4) in the axes of their first cameras."""
    return (np.linalg.inv(paths[:, :1]) @ paths)[..., :3, 3]


def subsequence_errors(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """KITTI's relative errors: of translation (a share) and rotation (radians a metre), each (m,).

    As the benchmark's development kit has it (Geiger et al. 2012): of sub-sequences of 100, 200 ...
    800 m, one of each from every tenth frame, ending at the first frame further along the true
    path than that. E = (first_T_last predicted)^-1 (first_T_last true); its translation's norm and
    its angle are divided by the nominal length. Both paths: (frames, 4, 4), in metres; the errors
    depend on their scales, not on their axes. Empty where the path is too short.
    """
    steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    travelled = np.concatenate([[0], np.cumsum(steps)])
    starts = np.arange(0, len(truth), START_STEP)
    first, length = (grid.ravel() for grid in np.meshgrid(starts, LENGTHS, indexing="ij"))
    last = np.searchsorted(travelled, travelled[first] + length, side="right")
    inside = last < len(truth)
    first, last, length = first[inside], last[inside], length[inside]
    motion, motion_true = (np.linalg.inv(path[first]) @ path[last] for path in (predicted, truth))
    error = np.linalg.inv(motion) @ motion_true
    # |R - I| = 2 sqrt(2) sin(angle / 2): exact for small angles, where the trace is not.
    turned = np.linalg.norm(error[:, :3, :3] - np.eye(3), axis=(1, 2))
    angle = 2 * np.arcsin(np.minimum(turned / np.sqrt(8), 1))
    return np.linalg.norm(error[:, :3, 3], axis=1) / length, angle / length


@dataclass(frozen=True)
class PathScore:
    """What a predicted path is scored by; lower is better."""

    snippet_ate: float  # mean of `snippet_errors`, metres
    snippet_ate_std: float  # their standard deviation (n), metres
    t_err: float  # KITTI's translation error after alignment, percent; NaN on less than 100 m
    r_err: float  # KITTI's rotation error, degrees per 100 m; NaN on less than 100 m
    ate: float  # root mean square distance of positions after alignment, metres


def score_path(truth: np.ndarray, predicted: np.ndarray) -> tuple[PathScore, np.ndarray]:
    """Score a path of unknown scale and axes; also returns it aligned. Both: (frames, 4, 4).

    The alignment over the whole path comes before everything but the snippets, which have a scale
    each. At least SNIPPET frames.
    """
    snippets = snippet_errors(truth, predicted)
    aligned, _ = align(predicted, truth)
    shares, angles = subsequence_errors(truth, aligned)
    distances = np.linalg.norm((aligned - truth)[:, :3, 3], axis=1)
    score = PathScore(
        snippet_ate=float(snippets.mean()),
        snippet_ate_std=float(snippets.std()),
        t_err=100 * float(shares.mean()) if len(shares) else float("nan"),
        r_err=100 * float(np.degrees(angles).mean()) if len(angles) else float("nan"),
        ate=float(np.sqrt((distances**2).mean())),
    )
    return score, aligned


def score_table(rows: Sequence[tuple[str, int, PathScore | None]]) -> str:
    """Sequences as a text table: (name, frames, score), "-" for what there is no score of."""
    names = ("snippet ATE, m", "+-", "t_err, %", "r_err, deg/100m", "ATE, m")
    lines = ["KITTI odometry; 7-DoF alignment, but for the snippets of "
             f"{SNIPPET} frames, each with a scale of its own",
             f"{'sequence':>8}{'frames':>8}{names[0]:>16}{names[1]:>8}"
             f"{names[2]:>10}{names[3]:>17}{names[4]:>9}"]  # fmt: skip
    for name, frames, score in rows:
        values = [getattr(score, field.name, np.nan) for field in fields(PathScore)]
        snippet, spread, t_err, r_err, ate = (
            "-" if np.isnan(value) else f"{value:.{digits}f}"
            for value, digits in zip(values, (4, 4, 2, 2, 2), strict=True)
        )
        lines.append(f"{name:>8}{frames:>8}{snippet:>16}{spread:>8}{t_err:>10}{r_err:>17}{ate:>9}")
    return "\n".join(lines)
