#!/usr/bin/env bash
# Multi-task Network Cascades with 3 and with 5 stages, and with 5 whose later losses do not reach the
# boxes: over EfficientNet-Lite0 as ImageNet left it, on 100 images of nuclei.
# RUNS="stages5 stages3" recipes/lecture/cascade.sh: these alone.
folder=nuclei
source "$(dirname "$0")/common.sh"
small='"stride": 8, "anchor_scales": [1, 2, 4], "least_side": 4, "hidden": 512, "proposals": 200, "detections": 200'
for seed in $seeds; do
  for run in ${RUNS:-stages5 stages3 stages5_cut}; do
    [[ $run == *_cut ]] && through=false || through=true
    stages=${run:6:1}
    objects "$runs/cascade/seed$seed/$run" --model mnc --encoder efficientnetlite0 --weights imagenet \
      --model-args "{$small, \"stages\": $stages, \"through_boxes\": $through}" --limit 100 \
      --epochs 12 --ema 0.998 --val-every 12 --val-limit 25 --seed "$seed"
  done
done
