#!/usr/bin/env bash
# KITTI, HRNet18, 640x192: the published recipe. Two GPUs, 10 samples on each.
#
#     DATA=/data/kitti_raw bash run_kitti.sh
#     DATA=/data/kitti_raw GPUS=1 bash run_kitti.sh --batch_size 20     (arguments go to train.py)
#     ... bash run_kitti.sh --config configs/kitti_resnet18_640x192.yaml     (another row of the table)
#
# Run it in the environment that has the requirements (`source .venv/bin/activate`). Evaluation
# after each epoch needs the ground truth once: python export_gt_depth.py --data_path "$DATA" --split eigen
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

DATA="${DATA:?set DATA to the root of KITTI raw, the folder that holds 2011_09_26 and the other days}"
GPUS="${GPUS:-2}"
LOGS="${LOGS:-$HOME/tmp}" # the run lives in $LOGS/kitti_hrnet18_640x192

torchrun --standalone --nproc_per_node="$GPUS" "$here/train.py" \
    --config "$here/configs/kitti_hrnet18_640x192.yaml" \
    --data_path "$DATA" --log_dir "$LOGS" "$@"
