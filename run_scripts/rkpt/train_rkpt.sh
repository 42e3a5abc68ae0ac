#!/usr/bin/env bash
# RKpt as published: 8 epochs from ofa_large, 64 samples per update, checked every epoch and 6,000 updates.
# Set TRAIN, VALID (tsv files), INIT (ofa_large.pt or a model folder), VOCABULARY (folder with dict.txt), GPUS, SAVE.
set -euo pipefail
cd "$(dirname "$0")/../.."

TRAIN=${TRAIN:-dataset/rkpt/train.tsv}
VALID=${VALID:-dataset/rkpt/val.tsv}
export DATA="$TRAIN,$VALID" TASK=rkpt
export ROWS=${ROWS:-$(wc -l <"$TRAIN")}
export EPOCHS=${EPOCHS:-8} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-checkpoints/ofa_large.pt} VOCABULARY=${VOCABULARY:-checkpoints}
exec run_scripts/train.sh --max-src-length 80 --validate-interval-updates 6000 "$@"
