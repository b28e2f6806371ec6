"""Train depth and pose networks from video.

    python train.py --data_path KITTI --use_local_crop --use_patch_reshuffle
    torchrun --nproc_per_node 2 train.py --data_path KITTI --batch_size 10
"""

from __future__ import annotations

from collections.abc import Sequence

from options import train_options
from utils import run_script


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, join the other processes if there are any, and run the training."""
    opt = train_options(argv)
    from distributed import init_world, leave_world
    from trainer import Trainer

    world = init_world(opt.no_cuda, opt.local_rank, opt.global_rank, opt.world_size)
    try:
        Trainer(opt, world).run()
    finally:
        leave_world(world)


if __name__ == "__main__":
    run_script(main)
