#!/usr/bin/env bash
# Score a model on every benchmark whose root is set.
#
#     MODEL=kitti_hrnet18_640x192.pth KITTI=/data/kitti_raw MAKE3D=/data/make3d bash evaluate.sh
#     MODEL=nyu.pth NYUV2=/data/nyu bash evaluate.sh --max_depth 10  (arguments: evaluate_depth.py's)
#
# Run it in the environment that has the requirements (`source .venv/bin/activate`).
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

MODEL="${MODEL:?set MODEL to a checkpoint}"
KITTI="${KITTI:-}"           # KITTI raw
NYUV2="${NYUV2:-}"           # the folder that holds nyu_test/
MAKE3D="${MAKE3D:-}"         # the folder that holds Test134/ and Gridlaserdata/
CITYSCAPES="${CITYSCAPES:-}" # the folder that holds leftImg8bit_sequence/ and camera/

roots=()
[[ -z "$KITTI" ]] || roots+=(--kitti_path "$KITTI" --eval_split eigen eigen_benchmark)
[[ -z "$NYUV2" ]] || roots+=(--nyuv2_path "$NYUV2")
[[ -z "$MAKE3D" ]] || roots+=(--make3d_path "$MAKE3D")
[[ -z "$CITYSCAPES" ]] || roots+=(--cityscapes_path "$CITYSCAPES")

python "$here/evaluate_depth.py" --pretrained_path "$MODEL" "${roots[@]}" "$@"
