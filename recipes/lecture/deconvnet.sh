#!/usr/bin/env bash
# DeconvNet with switches and with a fixed corner, on random crops of whole images, for 20 epochs and for 160; the
# same net in the paper's two stages (object crops, then proposals), scored on whole images and by proposals; the
# ensemble with FCN-8s (recipes/lecture/fcn.sh must have run). A quarter of the width, 3x3 in the middle, crops of 96
# in place of 224.
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  r="$runs/deconvnet/seed$seed"
  for unpooling in switches fixed; do
    whole=(--model deconvnet --model-args "{\"width\": 0.25, \"fc_kernel\": 3, \"unpooling\": \"$unpooling\"}"
      --crop 96x128 --scale 0.5-1.0 --learning-rate 0.002 --seed "$seed")
    train "$r/$unpooling" "${whole[@]}" --epochs 20
    train "$r/${unpooling}_long" "${whole[@]}" --epochs 160 --val-every 20
    score "$r/$unpooling" test
    score "$r/${unpooling}_long" test
  done
  net=(--model deconvnet --model-args '{"width": 0.25, "fc_kernel": 3}' --crop 96x96 --val-every 1 --seed "$seed")
  train "$r/staged/objects" "${net[@]}" --crops objects --crops-args '{"per_image": 4}' --epochs 2
  train "$r/staged/proposals" "${net[@]}" --crops proposals --crops-args '{"max_side": 240, "per_image": 4}' \
    --init-from "$r/staged/objects/model.keras" --epochs 3 --bn-batches 50
  score "$r/staged/proposals" some "${some[@]}"
  score "$r/staged/proposals" by_proposals "${some[@]}" --proposals selective-search
  fcn="$runs/fcn/seed$seed/8s/model.keras"
  for run in switches switches_long; do
    score "$r/$run" ensemble_mean --ensemble "$fcn" --ensemble-form mean
    score "$r/$run" ensemble_product --ensemble "$fcn" --ensemble-form product
  done
done
