#!/usr/bin/env bash
# Can they learn? Sixteen images of coco_mini (64 objects of 80 classes), learned by heart and scored on themselves.
folder=coco_mini
source "$(dirname "$0")/common.sh"
small='"encoder": null, "width": 0.5'
by_heart() {
  local run="$runs/overfit/seed0/$1" network=$2 more=$3
  shift 3
  kseg train --model "$network" --model-args "{$small, $more}" --data "$data" --limit 16 --val-split train --val-limit 16 \
    --size 256x320 --resize fit --epochs 160 --batch-size 4 --no-augment --precision mixed_bfloat16 \
    --learning-rate 0.001 --weight-decay 0 --val-every 40 --resume --out "$run" "$@"
  [ -e "$run/train.json" ] || kseg evaluate "$run/model.keras" --data "$data" --split train --limit 16 --out "$run/train.json"
}
anchors='"stride": 8, "anchor_scales": [1, 2, 4, 8], "least_side": 4, "hidden": 1024'
by_heart mask_rcnn maskrcnn '"anchor_scale": 4, "proposals": 300'
by_heart faster_rcnn fasterrcnn "$anchors, \"dropout\": 0"
by_heart mnc mnc "$anchors"
