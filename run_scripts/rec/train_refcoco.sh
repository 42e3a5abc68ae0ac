#!/usr/bin/env bash
# REC as published: 10 epochs from ofa_large, 64 samples per update, checked every second epoch.
# Set TRAIN, VALID (published or our own files; VALID=none: no validation), INIT (ofa_large.pt or a model folder),
# VOCABULARY (folder with dict.txt), SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

export TASK=rec EVALUATE=$root/run_scripts/rec/evaluate_refcoco.sh
export TRAIN=${TRAIN:-$root/dataset/rec/refcoco_train.tsv} VALID=${VALID:-$root/dataset/rec/refcoco_val.tsv}
export EPOCHS=${EPOCHS:-10} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/ofa_large.pt}
exec "$root/run_scripts/train.sh" --max-src-length 80 --validate-interval 2 "$@"
