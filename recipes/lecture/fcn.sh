#!/usr/bin/env bash
# 32s -> 16s -> 8s, each initialised from the one before; and fixed against learned upsampling at 8s.
# A finer net is compared with the coarser one that was trained on for as many epochs (its twin "_on").
source "$(dirname "$0")/common.sh"
net=(--encoder resnet18 --model-args '{"width": 0.5}')
for seed in $seeds; do
  r="$runs/fcn/seed$seed"
  train "$r/32s" --model fcn32s "${net[@]}" --epochs 20 --learning-rate 0.002 --seed "$seed"
  train "$r/32s_on" --model fcn32s "${net[@]}" --init-from "$r/32s/model.keras" --epochs 15 --seed "$seed"
  train "$r/16s" --model fcn16s "${net[@]}" --init-from "$r/32s/model.keras" --epochs 15 --seed "$seed"
  train "$r/16s_on" --model fcn16s "${net[@]}" --init-from "$r/16s/model.keras" --epochs 15 --seed "$seed"
  train "$r/8s" --model fcn8s "${net[@]}" --init-from "$r/16s/model.keras" --epochs 15 --seed "$seed"
  train "$r/8s_learned" --model fcn8s --encoder resnet18 --model-args '{"width": 0.5, "upsampling": "learned"}' \
    --init-from "$r/16s/model.keras" --epochs 15 --seed "$seed"
  for run in 32s 32s_on 16s 16s_on 8s 8s_learned; do score "$r/$run" test; done
done
