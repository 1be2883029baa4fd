#!/usr/bin/env bash
# The whole road for two small networks on CamVid: short training, every export target, verification, benchmark.
# The scores are those of a few minutes of training; the exports are what this recipe is about.
# Usage: recipes/camvid_road/run.sh [CAMVID_FOLDER] [RUN_FOLDER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
data=${1:-${KSEG_DATA:-$here/../../../shared/data}/camvid}
runs=${2:-runs/camvid_road}
source "$here/../exports.sh"

for model in fcn8s lraspp; do
  kseg train --model "$model" --encoder mobilenetv3 --data "$data" --size 360x480 --crop 240x320 --epochs 12 \
    --batch-size 8 --precision float32 --learning-rate 0.002 --scale 0.667-1.5 --val-every 4 --seed 0 --out "$runs/$model"
  # int8 loses 1.05 points with every layer quantised, 0.03 with MobileNet's first blocks in float.
  exports "$runs/$model" "$data" --keep-float '/conv_1/|expanded_conv_(depthwise|project)|expanded_conv_[12]_'
done
