#!/usr/bin/env bash
# Multi-task stage as published: from refhcm.pt, 2 GPUs, each item one RKpt, one RPar and one RHrc sample, no validation.
# Set DATA_ROOT (folder with rkpt/, rpar/, rhrc/), INIT, VOCABULARY (folder with dict.txt), GPUS, SAVE.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=${DATA_ROOT:-dataset}
export DATA=${DATA:-run_scripts/multitask/published.json} TASK=multitask
export ROWS=${ROWS:-$(wc -l "$root"/{rkpt,rpar,rhrc}/train.tsv | sort -n | tail -2 | awk 'NR == 1 {print $1}')}
export EPOCHS=${EPOCHS:-5} BATCH=${BATCH:-2} ACCUMULATE=${ACCUMULATE:-4} LR=${LR:-4e-5} GPUS=${GPUS:-2}
export WARMUP=${WARMUP:-1} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-5.0} DDP=${DDP:-legacy_ddp}
export INIT=${INIT-checkpoints/refhcm.pt} VOCABULARY=${VOCABULARY:-checkpoints}
exec run_scripts/train.sh --data-root "$root" --max-src-length 100 --max-tgt-length 100 --disable-validation "$@"
