#!/usr/bin/env bash
# RPar, token by token, as published: 15 epochs from ofa_large, 64 samples per update, checked every fourth epoch.
# Set TRAIN, VALID (published or our own files; VALID=none: no validation), INIT (ofa_large.pt or a model folder),
# VOCABULARY (folder with dict.txt), SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

export TASK=rpar EVALUATE=$root/run_scripts/rpar/evaluate_rpar.sh
export TRAIN=${TRAIN:-$root/dataset/rpar/refcihp_train.tsv} VALID=${VALID:-$root/dataset/rpar/refcihp_val.tsv}
export EPOCHS=${EPOCHS:-15} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/ofa_large.pt}
exec "$root/run_scripts/train.sh" --max-src-length 80 --validate-interval 4 "$@"
