#!/usr/bin/env bash
# NYUv2, HRNet18, 384x288, depths up to 10 m: the published recipe. One GPU, 16 samples.
#
#     DATA=/data/nyu_raw bash run_nyu.sh
#     DATA=/data/nyu_raw TEST=/data/nyu GPUS=2 bash run_nyu.sh --batch_size 8  (arguments: train.py's)
#
# Run it in the environment that has the requirements (`source .venv/bin/activate`). The training
# list is made once: python -m datasets.nyuv2_list --data_path "$DATA"
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

DATA="${DATA:?set DATA to the folder of the raw training scenes}"
TEST="${TEST:-$DATA}" # the folder that holds nyu_test/
GPUS="${GPUS:-1}"
LOGS="${LOGS:-$HOME/tmp}" # the run lives in $LOGS/nyu_hrnet18_384x288

torchrun --standalone --nproc_per_node="$GPUS" "$here/train.py" \
    --config "$here/configs/nyu_hrnet18_384x288.yaml" \
    --data_path "$DATA" --nyuv2_path "$TEST" --log_dir "$LOGS" "$@"
