#!/usr/bin/env bash
# KITTI, HRNet18, 640x192: the published recipe. Two GPUs, 10 samples on each.
#
#     DATA=/data/kitti_raw bash run_kitti.sh
#     DATA=/data/kitti_raw GPUS=1 bash run_kitti.sh --batch_size 20     (arguments go to train.py)
#
# Run it in the environment that has the requirements (`source .venv/bin/activate`). Evaluation
# after each epoch needs the ground truth once: python export_gt_depth.py --data_path "$DATA" --split eigen
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

DATA="${DATA:?set DATA to the root of KITTI raw, the folder that holds 2011_09_26 and the other days}"
GPUS="${GPUS:-2}"
LOGS="${LOGS:-$HOME/tmp}" # the run lives in $LOGS/kitti_hrnet18_640x192

recipe=(
    --dataset kitti --split eigen_zhou
    --backbone hrnet --num_layers 18
    --height 192 --width 640
    --use_local_crop --use_patch_reshuffle
    --num_scales 1
    --batch_size 10 # on each GPU
    --num_epochs 20 --learning_rate 1e-4 --lr_sche_type step --decay_step 15 --decay_rate 0.1
    --log_frequency 400 --save_frequency 400
    --resume # started again, it goes on
)
torchrun --standalone --nproc_per_node="$GPUS" "$here/train.py" \
    --data_path "$DATA" --log_dir "$LOGS" --exp_name kitti_hrnet18_640x192 "${recipe[@]}" "$@"
