#!/usr/bin/env bash
# RHrc as published: 5 epochs from ofa_large, 32 samples per update, token embeddings fixed, worst fifth left out.
# Set TRAIN, VALID (published or our own files; VALID=none: no validation), INIT (ofa_large.pt or a model folder),
# VOCABULARY (folder with dict.txt), SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

export TASK=rhrc EVALUATE=$root/run_scripts/rhrc/evaluate_rhrc.sh
export TRAIN=${TRAIN:-$root/dataset/rhrc/capcihp_train.tsv} VALID=${VALID:-$root/dataset/rhrc/capcihp_val.tsv}
export EPOCHS=${EPOCHS:-5} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-4} LR=${LR:-1e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.1} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/ofa_large.pt}
exec "$root/run_scripts/train.sh" --max-src-length 80 --max-tgt-length 50 \
    --freeze-encoder-embedding --freeze-decoder-embedding --drop-worst-ratio 0.2 --drop-worst-after 2500 --validate-interval-updates 2000 "$@"
