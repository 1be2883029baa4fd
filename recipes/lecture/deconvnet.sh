#!/usr/bin/env bash
# DeconvNet in its two stages (object crops, then proposals), with switches and with a fixed corner; scored on
# whole images, by proposals, and in the ensemble with FCN-8s (recipes/lecture/fcn.sh must have run).
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  for unpooling in switches fixed; do
    r="$runs/deconvnet/seed$seed/$unpooling"
    net=(--model deconvnet --model-args "{\"width\": 0.25, \"fc_kernel\": 3, \"unpooling\": \"$unpooling\"}")
    train "$r/one" "${net[@]}" --crops objects --crop 96x96 --epochs 3 --seed "$seed"
    train "$r/two" "${net[@]}" --crops proposals --crop 96x96 --init-from "$r/one/model.keras" --epochs 4 \
      --bn-batches 50 --seed "$seed"
    score "$r/two" test
  done
  r="$runs/deconvnet/seed$seed/switches/two"
  score "$r" proposals --proposals selective-search
  score "$r" ensemble_mean --ensemble "$runs/fcn/seed$seed/8s/model.keras" --ensemble-form mean
  score "$r" ensemble_product --ensemble "$runs/fcn/seed$seed/8s/model.keras" --ensemble-form product
done
