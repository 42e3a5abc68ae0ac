#!/usr/bin/env bash
# RHrc as published: 5 epochs from ofa_large, 32 samples per update, token embeddings fixed, worst fifth left out.
# Set TRAIN, VALID (tsv files), INIT (ofa_large.pt or a model folder), VOCABULARY (folder with dict.txt), GPUS, SAVE.
set -euo pipefail
cd "$(dirname "$0")/../.."

TRAIN=${TRAIN:-dataset/rhrc/train.tsv}
VALID=${VALID:-dataset/rhrc/val.tsv}
export DATA="$TRAIN,$VALID" TASK=rhrc
export ROWS=${ROWS:-$(wc -l <"$TRAIN")}
export EPOCHS=${EPOCHS:-5} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-4} LR=${LR:-1e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.1} CLIP=${CLIP:-1.0}
export INIT=${INIT-checkpoints/ofa_large.pt} VOCABULARY=${VOCABULARY:-checkpoints}
exec run_scripts/train.sh --max-src-length 80 --max-tgt-length 50 --freeze-encoder-embedding --freeze-decoder-embedding \
    --drop-worst-ratio 0.2 --drop-worst-after 2500 --validate-interval-updates 2000 "$@"
