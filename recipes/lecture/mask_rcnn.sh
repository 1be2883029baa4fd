#!/usr/bin/env bash
# Mask R-CNN at a quarter of the width on nuclei, about as many minutes as the one-stage network of
# ../nuclei_stardist takes.
folder=nuclei
source "$(dirname "$0")/common.sh"
for seed in ${SEEDS:-0}; do
  objects "$runs/mask_rcnn/seed$seed/mask_rcnn" --model maskrcnn --model-args \
    '{"encoder": null, "width": 0.25, "anchor_scale": 4, "proposals": 300, "detections": 300}' \
    --epochs 20 --ema 0.998 --scale 0.667-1.5 --val-every 4 --val-limit 25 --seed "$seed"
done
