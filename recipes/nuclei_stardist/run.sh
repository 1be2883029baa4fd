#!/usr/bin/env bash
# Nuclei from scratch on two CPU cores within the hour: StarDist at half width, bfloat16, 256x256 crops.
# A run that was interrupted goes on.
# Usage: recipes/nuclei_stardist/run.sh [NUCLEI_FOLDER] [RUN_FOLDER]; SEEDS (0): one run each, RUN_FOLDER/seed0, ...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${1:-${KSEG_DATA:-$here/../../../shared/data}/nuclei}
runs=${2:-runs/nuclei_stardist}

for seed in ${SEEDS:-0}; do
  run="$runs/seed$seed"
  kseg train --model stardist --model-args '{"width": 0.5}' --data "$data" --crop 256x256 --epochs 40 --batch-size 4 \
    --precision mixed_bfloat16 --learning-rate 0.0015 --ema 0.998 --flip 0.5 --flip-vertical 0.5 --rotation 180 \
    --scale 0.667-1.5 --val-every 5 --val-limit 25 --seed "$seed" --resume --out "$run"
  kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
  for target in tflite onnx; do
    kseg export "$run/model.keras" --to $target --precision float32 --data "$data" --out "$run/exports/model.$target"
  done
  kseg report "$run" --split val
done
