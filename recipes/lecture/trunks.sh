#!/usr/bin/env bash
# What a pretrained trunk brings where images are few: Mask R-CNN over EfficientNet-Lite0, from ImageNet's weights and
# from scratch, on the 288 training images of coco_mini (80 classes), scored on its 80 validation images.
folder=coco_mini
source "$(dirname "$0")/common.sh"
tuned() {
  local run=$1
  shift
  kseg train --model maskrcnn --encoder efficientnetlite0 --model-args '{"width": 0.5, "anchor_scale": 4, "proposals": 300}' \
    --data "$data" --size 256x320 --resize fit --epochs 8 --batch-size 4 --precision float32 --learning-rate 0.001 \
    --flip 0.5 --scale 0.8-1.25 --ema 0.998 --val-every 8 --val-limit 20 --resume --out "$run" "$@"
  [ -e "$run/val.json" ] || kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
}
for seed in ${SEEDS:-0}; do
  r="$runs/trunks/seed$seed"
  tuned "$r/pretrained" --weights imagenet --seed "$seed"
  tuned "$r/scratch" --seed "$seed"
done
