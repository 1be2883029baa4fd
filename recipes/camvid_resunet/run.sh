#!/usr/bin/env bash
# CamVid from scratch on two CPU cores within the hour: residual U-Net, bfloat16, mild class weights.
# Usage: recipes/camvid_resunet/run.sh [CAMVID_FOLDER] [RUN_FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${1:-${KSEG_DATA:-$here/../../../shared/data}/camvid}
run=${2:-runs/camvid_resunet}
source "$here/../exports.sh"

kseg train --model resunet --data "$data" --size 360x480 --crop 240x320 --epochs 75 --batch-size 8 \
  --precision mixed_bfloat16 --learning-rate 0.002 --weight-decay 0.05 --warmup-steps 150 --ema 0.998 \
  --class-weights median_frequency --class-weights-power 0.25 --scale 0.667-1.5 --val-every 5 --seed 0 --out "$run"
kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
kseg evaluate "$run/model.keras" --data "$data" --split test --out "$run/test.json"
kseg evaluate "$run/model.keras" --data "$data" --split test --flip --out "$run/test_flip.json"
exports "$run" "$data"
