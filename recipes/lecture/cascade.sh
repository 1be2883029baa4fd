#!/usr/bin/env bash
# Multi-task Network Cascades with 3 and with 5 stages, and with 5 whose later losses do not reach the boxes, on 100
# images of nuclei.
folder=nuclei
source "$(dirname "$0")/common.sh"
small='"encoder": null, "width": 0.25, "stride": 8, "anchor_scales": [1, 2, 4], "least_side": 4, "hidden": 1024'
cascade() {
  local run=$1 more=$2
  shift 2
  objects "$run" --model mnc --model-args "{$small, \"proposals\": 200, \"detections\": 200, $more}" --limit 100 \
    --epochs 120 --ema 0.998 --val-every 20 --val-limit 25 "$@"
}
for seed in $seeds; do
  r="$runs/cascade/seed$seed"
  cascade "$r/stages5" '"stages": 5' --seed "$seed"
  cascade "$r/stages3" '"stages": 3' --seed "$seed"
  cascade "$r/stages5_cut" '"stages": 5, "through_boxes": false' --seed "$seed"
done
