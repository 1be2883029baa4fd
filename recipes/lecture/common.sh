# Sourced by the recipes of the lecture: CamVid at half size, or objects (folder=nuclei), two seeds, scores as JSON.
# Usage of a recipe: recipes/lecture/CLAIM.sh [DATA_FOLDER] [RUN_FOLDER]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${1:-${KSEG_DATA:-$here/../../../shared/data}/${folder:-camvid}}
runs=${2:-runs/lecture}
seeds=${SEEDS:-0 1}

augment=(--scale 0.75-1.33)

# train RUN [arguments]: one run at 180x240 (CamVid at half of 360x480); nothing is trained twice.
train() {
  local run=$1
  shift
  kseg train --data "$data" --size 180x240 --batch-size 8 --precision mixed_bfloat16 "${augment[@]}" --val-every 5 \
    --resume --out "$run" "$@"
}

# What takes seconds per image is scored on 60 of the 233 test images, evenly spread, before and after.
some=(--limit 60)

# rebuilt RUN MODEL SCORE ARGS: RUN/MODEL.keras, RUN's network with other arguments, and its test scores in RUN/SCORE.json.
rebuilt() {
  local model="$1/$2.keras" scores="$1/$3.json"
  [ -e "$model" ] || kseg rebuild "$1/model.keras" --model-args "$4" --out "$model"
  [ -e "$scores" ] || kseg evaluate "$model" --data "$data" --split test --out "$scores"
}

# score RUN NAME [arguments]: test scores at original size into RUN/NAME.json.
score() {
  local run=$1 name=$2
  shift 2
  [ -e "$run/$name.json" ] || kseg evaluate "$run/model.keras" --data "$data" --split test --out "$run/$name.json" "$@"
}

# objects RUN [arguments]: one run on 256x256 crops of nuclei, from scratch, and the scores of 100 validation images at
# their own size in RUN/val.json.
objects() {
  local run=$1
  shift
  kseg train --data "$data" --crop 256x256 --batch-size 4 --precision float32 --learning-rate 0.001 --flip 0.5 \
    --flip-vertical 0.5 --rotation 180 --resume --out "$run" "$@"
  [ -e "$run/val.json" ] || kseg evaluate "$run/model.keras" --data "$data" --split val --out "$run/val.json"
}
