"""One cloud of points from a drive: each frame's depth, put where the pose network says it was.

Depth and motion of a checkpoint are trained together and share one unit, so that the frames fit
without any scaling.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from cloud_files import check_points, write_cloud
from point_cloud import Fusion, Intrinsics, lift
from pose_inference import PosePredictor
from utils import UserError

if TYPE_CHECKING:
    from argparse import Namespace

    from PIL import Image

    from inference import DepthPredictor


class FusedCloud:
    """Gathers the frames of a video; files of them at the end."""

    def __init__(self, opt: Namespace, predictor: DepthPredictor) -> None:
        """opt: of test_video.py, with --save_ply or --show3d; predictor: of the same checkpoint.

        Raises UserError if the checkpoint holds no pose network of pairs, or the camera is none.
        """
        if Path(opt.pretrained_path).suffix.lower() == ".onnx":
            raise UserError(
                f"{opt.pretrained_path} holds a depth network alone: frames are fused by the pose "
                "network of a checkpoint (.pth)"
            )
        self.opt = opt
        self.intrinsics = Intrinsics.parse(opt.intrinsics)
        self.predictor = predictor
        self.poses = PosePredictor.from_checkpoint(
            opt.pretrained_path, opt.height, opt.width, predictor.device
        )
        self.fusion = Fusion(opt.voxel)
        self.previous: torch.Tensor | None = None

    def add(self, frame: Image.Image, scaled_disp: np.ndarray) -> None:
        """The next frame, RGB, and its 1 / depth, unscaled, (H, W) at the frame's size."""
        scale = self.opt.scale or 1
        shown = self.predictor.prepare(frame)
        if self.previous is not None:
            pair = torch.cat([self.previous, shown])
            next_T_this = self.poses.motions(pair)[0].cpu().numpy().copy()
            next_T_this[:3, 3] *= scale
            self.fusion.move(next_T_this)
        self.previous = shown
        K = self.intrinsics.matrix(frame.height, frame.width, f"a frame of {self.opt.image_path}")
        self.fusion.add(lift(scale / scaled_disp, np.asarray(frame), K, self.opt.far))

    def check(self) -> None:
        """Raise UserError if there is nothing to `write`."""
        check_points(self.fusion.cloud(), self.opt.save_ply or self.opt.show3d)

    def write(self) -> None:
        """Write the files that are asked for, each whole or not at all, and print their names."""
        cloud, voxel = self.fusion.cloud(), self.fusion.voxel
        voxel = voxel or 0.0  # of no point at all
        cloud = cloud._replace(sizes=np.maximum(cloud.sizes, voxel))  # what each stands for now
        comments = ["origin: the first frame's camera", f"voxels: one point in each of {voxel:g}"]
        write_cloud(cloud, self.opt.scale, self.opt.save_ply, self.opt.show3d, comments)
        for path in filter(None, (self.opt.save_ply, self.opt.show3d)):
            print(f"{len(cloud.points)} points: {path}")
