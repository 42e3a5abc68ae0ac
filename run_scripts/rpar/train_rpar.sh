#!/usr/bin/env bash
# RPar, token by token, as published: 15 epochs from ofa_large, 64 samples per update.
# Set TRAIN, VALID (tsv files), INIT (ofa_large.pt or a model folder), VOCABULARY (folder with dict.txt), GPUS, SAVE.
set -euo pipefail
cd "$(dirname "$0")/../.."

TRAIN=${TRAIN:-dataset/rpar/train.tsv}
VALID=${VALID:-dataset/rpar/val.tsv}
export DATA="$TRAIN,$VALID" TASK=rpar
export ROWS=${ROWS:-$(wc -l <"$TRAIN")}
export EPOCHS=${EPOCHS:-15} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-checkpoints/ofa_large.pt} VOCABULARY=${VOCABULARY:-checkpoints}
exec run_scripts/train.sh --max-src-length 80 --validate-interval 4 "$@"
