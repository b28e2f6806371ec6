"""Make3D: a benchmark of single pictures, with coarse laser grids; no camera, nothing to train on.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.files import DepthMaps, load_rgb
from datasets.mono_dataset import MonoDataset
from datasets.splits import LINE_FORMATS
from utils import UserError, reason

# left, top, right, bottom: the part of an upright picture that is as wide as a landscape one.
BOX = (0, 710, 1704, 1562)
GRID = (55, 305)  # laser rows and columns over the whole picture
ROWS = slice(17, 38)  # of the grid, in the box


class Make3DDataset(MonoDataset):
    """`Test134/img-NAME.jpg`, `Gridlaserdata/depth_sph_corr-NAME.mat`."""

    FRAMES = (0,)

    def parse(self, line: str) -> str:
        """NAME. Raises UserError."""
        return LINE_FORMATS["make3d"].match(line, "in the split")[0]

    def image_path(self, ref: str, frame: int | str) -> str:  # noqa: ARG002
        return f"{self.data_path}/Test134/img-{ref}.jpg"

    def intrinsics(self, ref: str) -> None:  # noqa: ARG002
        return None

    def load_image(self, path: str) -> Image.Image:
        """The middle of the picture, 1704 x 852."""
        picture = load_rgb(path)
        if picture.width != BOX[2] or picture.height < BOX[3]:
            raise UserError(f"{path} measures {picture.width}x{picture.height}, expected a picture "
                            f"{BOX[2]} wide and at least {BOX[3]} high")
        return picture.crop(BOX)

    def ground_truth(self) -> DepthMaps:
        """The laser's rows inside the picture, (21, 305)."""
        paths = (f"{self.data_path}/Gridlaserdata/depth_sph_corr-{ref}.mat" for ref in self.refs)
        return DepthMaps(paths, read_depth)


def read_depth(path: str | Path) -> np.ndarray:
    """Depth of a laser grid: float32 (21, 305), metres. Raises UserError naming the file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # What SciPy raises depends on where a file is damaged.
    damage = (MatReadError, OSError, ValueError, TypeError, LookupError, NotImplementedError,
              zlib.error)
    name = "Position3DGrid"  # x, y, z and, last, the depth
    try:
        grid = loadmat(path, variable_names=[name]).get(name)
    except damage as error:
        raise UserError(f"cannot read the laser grid {path}: {reason(error)}") from error
    if not isinstance(grid, np.ndarray) or grid.shape != (*GRID, 4) or grid.dtype.kind not in "fiu":
        raise UserError(f"the laser grid {path} needs numbers {name!r} of shape {(*GRID, 4)}")
    return grid[ROWS, :, 3].astype(np.float32)
