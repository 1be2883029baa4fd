#!/usr/bin/env bash
# The systems of the lecture that carry no claim of their own, so that each has been through the same road: N4, the
# plain CNN1, rCNN2, FCN-AlexNet, FCN-8s trained at once, FCN-8s with a second head (sky, horizontal, vertical).
source "$(dirname "$0")/common.sh"
scaled=("${augment[@]}")
fcn=(--encoder resnet18 --epochs 20 --learning-rate 0.002)
for seed in $seeds; do
  r="$runs/family/seed$seed"
  augment=() # patches are mirrored and nothing else
  train "$r/n4" --model n4 --model-args '{"output_stride": 4}' --sampling balanced-patches \
    --samples-per-image 24 --batch-size 96 --epochs 6 --class-weights none --seed "$seed"
  augment=("${scaled[@]}")
  train "$r/cnn1" --model pinheirocnn --model-args '{"output_stride": 8}' --crop 96x128 --epochs 20 --learning-rate 0.003 --seed "$seed"
  train "$r/rcnn2" --model recurrentcnn --model-args '{"variant": "rcnn2", "instances": 2, "output_stride": 8}' \
    --crop 96x128 --epochs 12 --learning-rate 0.003 --seed "$seed"
  train "$r/alexnet" --model fcnalexnet --model-args '{"width": 0.5, "head_channels": 512}' --epochs 20 --learning-rate 0.001 --seed "$seed"
  train "$r/8s_at_once" --model fcn8satonce "${fcn[@]}" --model-args '{"width": 0.5}' --seed "$seed"
  train "$r/8s_two_heads" --model fcn8s "${fcn[@]}" --seed "$seed" \
    --model-args '{"width": 0.5, "geometric_classes": 3, "geometric_labels": [0, 2, 2, 1, 1, 2, 2, 2, 2, 2, 2]}'
  for run in n4 cnn1 rcnn2 alexnet 8s_at_once 8s_two_heads; do score "$r/$run" test; done
  rebuilt "$r/8s_two_heads" geometric geometric '{"output_head": "geometric"}'
done
