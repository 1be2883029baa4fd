#!/usr/bin/env bash
# TextonBoost as a trained baseline, and the dense CRF after it.
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  r="$runs/textonboost/seed$seed/textonboost"
  train "$r" --model textonboost --model-args '{"textons": 64, "features": 600}' --epochs 10 --learning-rate 0.005 \
    --precision float32 --seed "$seed"
  score "$r" test
  score "$r" dense_crf --refine dense-crf
done
