#!/usr/bin/env bash
# TextonBoost as a trained baseline, and the dense CRF after it.
source "$(dirname "$0")/common.sh"
net='{"textons": 64, "rectangles": 40, "features": 600, "largest": 100, "grid": 4, "texton_stride": 2}'
for seed in $seeds; do
  r="$runs/textonboost/seed$seed/textonboost"
  train "$r" --model textonboost --model-args "$net" --epochs 12 --learning-rate 0.01 --precision float32 --seed "$seed"
  score "$r" test
  score "$r" some "${some[@]}"
  score "$r" dense_crf "${some[@]}" --refine dense-crf
done
