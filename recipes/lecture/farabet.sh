#!/usr/bin/env bash
# Farabet's network: one scale against three (linear classifier), then the two-layer classifier over frozen
# features, and what superpixels, a CRF over them and the tree cover make of its answers. Both samplings of the
# paper: three scales on 64 pixels per image, as they come and class-balanced.
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  r="$runs/farabet/seed$seed"
  train "$r/one" --model farabetnet --model-args '{"width": 0.5, "scales": 1}' --epochs 15 --learning-rate 0.002 --seed "$seed"
  train "$r/three" --model farabetnet --model-args '{"width": 0.5, "scales": 3}' --epochs 15 --learning-rate 0.002 --seed "$seed"
  train "$r/three_mlp" --model farabetnet --model-args '{"width": 0.5, "scales": 3, "classifier": "mlp", "hidden": 1024}' \
    --init-from "$r/three/model.keras" --freeze '^conv[123]$' --epochs 8 --seed "$seed"
  for sampling in pixels balanced-pixels; do
    train "$r/$sampling" --model farabetnet --model-args '{"width": 0.5, "scales": 3}' --sampling "$sampling" \
      --epochs 15 --learning-rate 0.002 --seed "$seed"
  done
  for run in one three three_mlp pixels balanced-pixels; do score "$r/$run" test; done
  score "$r/three_mlp" superpixels --refine superpixels
  score "$r/three_mlp" superpixel_crf --refine superpixel-crf
  score "$r/three_mlp" superpixel_crf_log --refine superpixel-crf:unary=log,gamma=3
  score "$r/three_mlp" tree_cover --refine tree-cover
  [ -e "$r/segments.keras" ] || kseg train-segments "$r/three_mlp/model.keras" --data "$data" --limit 120 --hidden 256 \
    --seed "$seed" --out "$r/segments.keras"
  score "$r/three_mlp" tree_cover_trained --refine "tree-cover:classifier=$r/segments.keras"
done
