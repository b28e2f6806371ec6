"""Who may import whom: the table is the plan of the house, the tests keep to it.

A file imports only from lower floors; a package may import itself; nothing but the
benchmarks imports a script.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOT_OURS_TO_PLACE = {"tests"}


class Room(NamedTuple):
    """A file or package: the floor it stands on, what it owns, and what it must do without.

    only: the files of ours that it may import, where not every lower floor is open to it.
    never: what it must do without, of others' packages (at run time: types may be named) and of
    ours (through other files of ours neither).
    """

    floor: int
    owns: str
    only: set[str] | None = None
    never: frozenset[str] = frozenset()


def never(*names: str) -> frozenset[str]:
    return frozenset(names)


HOUSE = {
    # What is measured are the scripts and all below them.
    "benchmarks": Room(9, "what each part costs beside a textbook's"),
    # Scripts: arguments in, files or tables out.
    "train": Room(8, "options, process group, one training run"),
    "evaluate_depth": Room(8, "checkpoint to tables", never=never("trainer", "losses")),
    "evaluate_pose": Room(
        8, "checkpoint to camera paths", never=never("trainer", "losses", "evaluation")
    ),
    "test_simple": Room(8, "pictures to coloured depth", never=never("trainer", "losses")),
    "test_video": Room(8, "frames to an animation", never=never("trainer", "losses")),
    "export_model": Room(
        8, "checkpoint to ONNX and torch.export files", never=never("trainer", "losses")
    ),
    "prepare_cityscapes": Room(
        8, "Cityscapes' training triplets", never=never("networks", "losses", "trainer", "torch")
    ),
    "prepare_video": Room(
        8, "videos to folders of frames", never=never("networks", "losses", "trainer", "torch")
    ),
    "export_gt_depth": Room(
        8, "KITTI's ground truth to one archive", never=never("networks", "losses", "trainer")
    ),
    "render_demo": Room(
        8, "streets in the KITTI layout", never=never("networks", "losses", "trainer", "torch")
    ),
    "demo_summary": Room(
        8, "the demo's table and picture", never=never("trainer", "losses", "rendering")
    ),
    "report": Room(
        8, "a run's page and pictures", never=never("trainer", "losses", "networks")
    ),
    # The run.
    "trainer": Room(7, "epochs, logging, when to save", never=never("argparse", "options")),
    "run_evaluation": Room(
        6, "what a run is scored on after its epochs", never=never("argparse", "options")
    ),
    "validation": Room(
        5, "the loss on a validation list", never=never("argparse", "options")
    ),
    "assembly": Room(
        5, "a run's parts from its options", never=never("argparse", "options", "evaluation")
    ),
    "learned_cameras": Room(
        5, "cameras that a run has learned, as files", only={"datasets", "networks", "utils"}
    ),
    # From a batch to its loss; stands between the objective and the run.
    "training_step": Room(
        4, "views and motions of a batch, through the networks to the objective",
        never=never("options", "evaluation"),
    ),
    "pose_inference": Room(
        4, "a pose network: load, predict paths, score them",
        never=never("losses", "evaluation", "options"),
    ),
    # What is scored, on what, and beside which published rows.
    "evaluation_sets": Room(
        4, "options to test sets: pictures, true depth, protocol",
        never=never("networks", "losses", "options"),
    ),
    "published_results": Room(4, "rows of published tables, and ours beside them",
                              only={"evaluation", "utils"}),
    # What a run left, shown.
    "report_page": Room(
        4, "a run as one HTML page",
        only={"evaluation", "event_files", "report_curves", "run_comparison", "run_reader"},
    ),
    "report_curves": Room(3, "a run's curves as PNG files", only={"run_reader", "utils"},
                          never=never("torch")),
    "run_comparison": Room(3, "runs grouped by all but their seed", only={"run_reader"},
                           never=never("torch")),
    "run_reader": Room(2, "the folder of a run, read back", only={"event_files", "utils"},
                       never=never("torch")),
    # A clip of a user's own.
    "clip_preparation": Room(
        5, "one clip, frame by frame, to its shots",
        only={"clip_camera", "datasets", "pictures", "prepared_folder", "shots", "utils", "video"},
        never=never("torch"),
    ),
    "prepared_folder": Room(4, "what is known of clips: lists, cameras, the report",
                            only={"datasets", "utils"}, never=never("torch")),
    "clip_camera": Room(3, "a clip's camera; pictures undistorted, cut, resized",
                        only={"datasets", "utils"}, never=never("torch")),
    "shots": Room(3, "which frames are kept; cuts", only={"datasets"}, never=never("torch")),
    # What a prediction becomes.
    "depth_files": Room(
        5, "one picture's prediction as files; true scale",
        only={"cloud_files", "ground_truth", "inference", "kitti_utils", "point_cloud", "utils"},
    ),
    "fused_cloud": Room(
        5, "a video's frames as one cloud, by the pose network's motions",
        only={"cloud_files", "inference", "point_cloud", "pose_inference", "utils"},
    ),
    "cloud_files": Room(
        4, "points as PLY and as a picture", only={"point_cloud", "utils"}
    ),
    "video": Room(4, "frames of videos, animations, steady colours", only={"pictures", "utils"}),
    "model_export": Room(
        4, "a network traced, written, compared with itself", never=never("trainer", "losses")
    ),
    # What a number means.
    "losses": Room(
        3, "loss terms, auto-mask, weighted sum", never=never("networks", "datasets", "options")
    ),
    "evaluation": Room(
        3, "protocols, masks, scaling, metrics, tables",
        never=never("networks", "datasets", "losses", "options"),
    ),
    "point_cloud": Room(
        3, "depth to points: camera, depth edges, fusing", only={"datasets", "layers", "utils"}
    ),
    "run_pictures": Room(4, "what a run shows of a batch", only={"inference"}),
    "inference": Room(
        3, "a depth network: load, resize, predict, colour",
        never=never("losses", "evaluation", "options"),
    ),
    "pictures": Room(3, "pictures of any kind: found, read upright", only={"datasets", "utils"}),
    # The parts.
    "view_synthesis": Room(
        2, "depth, motion, camera to a warped view; the camera of a crop",
        never=never("networks", "datasets"),
    ),
    "networks": Room(2, "encoders, decoders, build_*", only={"layers", "utils"}),
    "datasets": Room(
        2, "files to samples, lists, order of samples", never=never("networks", "options")
    ),
    "onnx_network": Room(2, "ONNX files of ours, run", only={"utils"}),
    "checkpoint": Room(2, "whole files, strict loading", never=never("networks", "options")),
    # Small pieces.
    "runtime": Room(2, "how fast against how exact: backends, loader, AMP, compile",
                    only={"freed_memory", "stopping", "utils"}),
    "stopping": Room(1, "SIGTERM and SIGINT, followed by all processes at one step",
                     only={"distributed", "utils"}),
    "health": Room(1, "whether a run's numbers still are numbers", only=set()),
    "background": Room(1, "files written while the run goes on", only={"utils"}),
    "course": Room(1, "what must not change within a run", only={"utils"}),
    "layers": Room(1, "differentiable pieces: SSIM, cameras, motions", only=set()),
    "augmentations": Room(1, "augmentations: drawn, applied, undone", only=set()),
    "profiling": Room(1, "a trace of some steps", only={"utils"}),
    "optimisation": Room(1, "optimisers and schedules", only=set()),
    "kitti_utils": Room(
        1, "calibration and laser scans to depth, in NumPy", only={"utils"}, never=never("torch")
    ),
    "odometry": Room(
        1, "camera paths: files, alignment, errors, in NumPy", only={"utils"}, never=never("torch")
    ),
    "saved_disps": Room(1, "predicted disparities on disk", only={"utils"}),
    "sparse_depth": Room(1, "depth known at few pixels: found, read", only=set()),
    "ground_truth": Room(1, "archives of depth maps, read safely", only={"utils"}),
    "event_files": Room(1, "TensorBoard's files, read back", only=set(), never=never("torch")),
    "run_log": Room(1, "the folder of a run: log, curves, table, code", only={"utils"}),
    "rendering": Room(1, "scenes to pictures, depth and scans, in NumPy", only=set(),
                      never=never("torch")),
    # The ground.
    "options": Room(1, "command lines of training and scoring", only={"arguments"},
                    never=never("torch", "numpy")),
    "tool_options": Room(1, "command lines of the other scripts", only={"arguments"},
                         never=never("torch", "numpy")),
    "video_options": Room(1, "the command line of prepare_video.py", only={"arguments"},
                          never=never("torch", "numpy")),
    "arguments": Room(0, "parser, types of values, shared groups", only=set(),
                      never=never("torch", "numpy")),
    "worker_processes": Room(1, "work shared out over processes", only={"freed_memory", "utils"},
                             never=never("torch")),
    "freed_memory": Room(0, "what is freed stays with the process", only=set(),
                         never=never("torch")),
    "distributed": Room(0, "where a process stands among others", only=set()),
    "utils": Room(0, "errors, whole-or-absent files, logs, seeds", only=set()),
}  # fmt: skip


def files_of(name: str) -> list[Path]:
    """The Python files of a top-level module or package of ours."""
    module = ROOT / f"{name}.py"
    return [module] if module.is_file() else sorted((ROOT / name).rglob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[str, int]]:
    """(top-level name, line) of every import in a file, inside functions too.

    Under `if TYPE_CHECKING:` only those of ours count.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
    for_types = {
        child
        for node in blocks if ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body
    }  # fmt: skip
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:  # relative: within the package
            names = [node.module]
        for top in (name.partition(".")[0] for name in names):
            if top in HOUSE or node not in for_types:
                yield top, node.lineno


def reached_from(name: str) -> set[str]:
    """Files of ours that importing `name` can load, itself included."""
    found, waiting = {name}, [name]
    while waiting:
        for path in files_of(waiting.pop()):
            new = {top for top, _ in imports_of(path)} & HOUSE.keys() - found
            found |= new
            waiting += new
    return found


def ours() -> set[str]:
    """Every module and package at the top level."""
    modules = {path.stem for path in ROOT.glob("*.py")}
    packages = {path.parent.name for path in ROOT.glob("[!.]*/*.py")}
    return (modules | packages) - NOT_OURS_TO_PLACE


def test_every_file_has_its_room():
    assert ours() == HOUSE.keys(), "place new files in HOUSE, and take out what is gone"


@pytest.mark.parametrize("name", HOUSE)
def test_imports_point_down(name: str):
    room, wrong = HOUSE[name], []
    for path in files_of(name):
        for top, line in imports_of(path):
            above = top in HOUSE and top != name and HOUSE[top].floor >= room.floor
            closed = top in HOUSE and top != name and room.only is not None and top not in room.only
            if above or closed or top in room.never | NOT_OURS_TO_PLACE:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {top}")
    assert not wrong


@pytest.mark.parametrize("name", [name for name, room in HOUSE.items() if room.never])
def test_nothing_forbidden_comes_in_by_the_back_door(name: str):
    assert not reached_from(name) & HOUSE[name].never


def test_which_imports_are_seen(tmp_path: Path):
    path = tmp_path / "module.py"
    path.write_text(
        "import os.path\n"
        "if TYPE_CHECKING:\n    import torch\n    from losses import Terms\n"
        "def f():\n    from networks.hrnet_encoder import x\n    from . import y\n"
    )
    assert sorted(imports_of(path)) == [("losses", 4), ("networks", 6), ("os", 1)]
