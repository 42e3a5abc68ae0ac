#!/usr/bin/env bash
# RES: mIoU, oIoU, Dice and P@0.5 to 0.9 of masks at the pictures' own size, and what the mask tokenizer would allow.
# Set MODEL (a model folder), DATA (a file of our own kind with masks), GPUS. Further arguments go to evaluate.py
# (--beam 5, --limit N, --out FOLDER, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/compact}" \
    --data "${DATA:-$root/dataset/refcoco/testA.tsv}" ${KIND:+--kind "$KIND"} --tasks res "$@"
