#!/usr/bin/env bash
# rCNN3 with the losses of its three instances summed; one trained net scored after 1, 2 and 3 of them,
# each at half resolution.
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  r="$runs/rcnn/seed$seed/rcnn3"
  train "$r" --model recurrentcnn --model-args '{"variant": "rcnn3", "instances": 3, "output_stride": 8}' \
    --crop 96x128 --epochs 20 --learning-rate 0.003 --seed "$seed"
  for n in 1 2 3; do
    rebuilt "$r" "model$n" "test$n" "{\"instances\": $n, \"output_stride\": 2}"
  done
done
