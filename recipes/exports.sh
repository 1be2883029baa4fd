# Sourced by the recipes: exports RUN to every target, verifies, benchmarks and reports.
# Usage: exports RUN DATA [further arguments of the int8 export]
exports() {
  local run=$1 data=$2
  shift 2
  kseg export "$run/model.keras" --to tflite --precision float32 --data "$data" --out "$run/exports/model.tflite"
  kseg export "$run/model.keras" --to tflite --precision float16 --data "$data" --out "$run/exports/model_float16.tflite"
  kseg export "$run/model.keras" --to tflite --precision int8 --data "$data" --out "$run/exports/model_int8.tflite" "$@"
  kseg export "$run/model.keras" --to onnx --precision float32 --data "$data" --out "$run/exports/model.onnx"
  kseg export "$run/model.keras" --to onnx --precision float16 --data "$data" --out "$run/exports/model_float16.onnx"
  kseg export "$run/model.keras" --to tensorrt-rtx --precision float32 --data "$data" --out "$run/exports/model.engine"
  kseg export "$run/model.keras" --to tensorrt-rtx --precision float16 --data "$data" --out "$run/exports/model_float16.engine"
  kseg benchmark "$run/model.keras" "$run"/exports/*.tflite "$run"/exports/model.onnx "$run"/exports/model_float16.onnx \
    "$run"/exports/*.engine --data "$data" --split test --out "$run/benchmark.json" --plot "$run/benchmark.png"
  kseg report "$run" --split val --split test
  python "$(dirname "${BASH_SOURCE[0]}")/exports_table.py" "$run"
}
