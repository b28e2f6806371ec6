#!/usr/bin/env bash
# Cityscapes, ResNet18, 512x192: the published recipe. One GPU, 12 samples.
#
#     DATA=/data/cityscapes DATA_PRE=/data/cityscapes_triplets bash run_cityscapes.sh
#     ... GPUS=2 bash run_cityscapes.sh --batch_size 6     (arguments go to train.py)
#     ... bash run_cityscapes.sh --config configs/cs_hrnet18_512x192.yaml     (another row of the table)
#
# Run it in the environment that has the requirements (`source .venv/bin/activate`). The triplets
# are made once:
#     python prepare_cityscapes.py --dataset_dir "$DATA" --dump_root "$DATA_PRE" \
#         --img_height 512 --img_width 1024
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

DATA="${DATA:?set DATA to the folder of leftImg8bit_sequence/ and camera/, for testing}"
DATA_PRE="${DATA_PRE:?set DATA_PRE to the folder of triplets that prepare_cityscapes.py made}"
GPUS="${GPUS:-1}"
LOGS="${LOGS:-$HOME/tmp}" # the run lives in $LOGS/cs_resnet18_512x192

torchrun --standalone --nproc_per_node="$GPUS" "$here/train.py" \
    --config "$here/configs/cs_resnet18_512x192.yaml" \
    --data_path "$DATA" --data_path_pre "$DATA_PRE" --log_dir "$LOGS" "$@"
