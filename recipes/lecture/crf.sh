#!/usr/bin/env bash
# Dense CRF after FCN-32s and FCN-8s (recipes/lecture/fcn.sh must have run), and FCN-8s with CRF-RNN trained on.
source "$(dirname "$0")/common.sh"
for seed in $seeds; do
  for run in 32s_on 8s; do
    score "$runs/fcn/seed$seed/$run" some "${some[@]}"
    score "$runs/fcn/seed$seed/$run" dense_crf "${some[@]}" --refine dense-crf
  done
  r="$runs/crf/seed$seed/crfrnn"
  train "$r" --model crfrnn --encoder resnet18 --model-args '{"base": "FCN8s", "base_args": {"width": 0.5}, "iterations": 3, "test_iterations": 5, "window": 7, "stride": 2}' \
    --init-from "$runs/fcn/seed$seed/8s/model.keras" --epochs 3 --learning-rate 0.0003 --seed "$seed"
  score "$r" some "${some[@]}"
done
