#!/usr/bin/env bash
# The whole method on rendered streets, from nothing to a table and a picture; no download, no GPU.
#
#     bash run_demo.sh            four to five minutes on two quiet cores, once .venv is there
#     bash run_demo.sh --quick    every part once, a few steps: whether it runs, not what it learns
#
# Everything is written to demo_output/ (demo_output/quick/); an earlier run there is replaced.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

output=demo_output
streets=9 frames=30 epochs=2 quick=()
case "$*" in
"") ;;
--quick)
    output=demo_output/quick streets=3 frames=5 epochs=1 quick=(--quick)
    ;;
*)
    echo "error: run_demo.sh takes --quick or nothing, got $*" >&2
    exit 2
    ;;
esac
data=$output/data run=$output/run split=$output/data/split

python() { .venv/bin/python "$@"; }
lap() { # seconds since the last call
    lap=$((SECONDS - lapped)) lapped=$SECONDS
}
lapped=0

bash scripts/environment.sh
lap && install=$lap

python render_demo.py --out "$data" --streets "$streets" --frames "$frames"
python export_gt_depth.py --data_path "$data" --split "$split"
lap && render=$lap

rm -rf "$run" # of an earlier demo
# Depth limits for a street seen at 128 pixels: at 0.1 an untrained network starts so near (1 m) that
# 300 steps do not find the way out.
python train.py --data_path "$data" --split "$split" --eval_split "$split" \
    --log_dir "$output" --exp_name run --no_cuda \
    --backbone resnet --weights_init scratch --width 128 --height 64 \
    --use_stereo --use_local_crop --use_patch_reshuffle --min_depth 0.5 --max_depth 40 \
    --batch_size 3 --learning_rate 3e-4 --num_epochs "$epochs" --log_frequency 25 --num_workers 1
lap && train=$lap

predicting=$SECONDS
mkdir -p "$output/predictions"
first=$(sed -n 's#^\(.*\) \([0-9]*\) l$#'"$data"'/\1/image_02/data/\2.png#p' "$split/test_files.txt" | head -n 1)
model=(--pretrained_path "$run/ckpt.pth" --no_cuda --overwrite)
python test_simple.py --image_path "$first" "${model[@]}" --output "$output/predictions" \
    --intrinsics kitti --save_ply --show3d "$output/predictions/points.png"
python test_video.py --image_path "$(dirname "$first")" "${model[@]}" --output "$output/predictions/street.gif"
python report.py --exp "$run" --output "$output/report"
python demo_summary.py --data_path "$data" --run "$run" --output "$output" --no_cuda "${quick[@]}" \
    --install "$install" --render "$render" --train "$train" --predict "$((SECONDS - predicting))"
