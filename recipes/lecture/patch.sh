#!/usr/bin/env bash
# Patch network on sampled (patch, centre label) pairs, class-balanced and natural; scored as a dense network.
# Patches are the same whatever the network's output stride is: it is 4 here, so that validation is cheap, and the
# net is scored so and, rebuilt, at every pixel.
source "$(dirname "$0")/common.sh"
augment=() # patches are mirrored and nothing else
for seed in $seeds; do
  for sampling in balanced natural; do
    r="$runs/patch/seed$seed/$sampling"
    name=$([ "$sampling" = natural ] && echo patches || echo balanced-patches)
    train "$r" --model patchnet --model-args '{"width": 0.5, "output_stride": 4, "dropout": 0.2}' --sampling "$name" \
      --samples-per-image 24 --batch-size 96 --epochs 16 --class-weights none --seed "$seed"
    score "$r" test
    rebuilt "$r" dense dense '{"output_stride": 1}'
  done
done
