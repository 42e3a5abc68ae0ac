#!/usr/bin/env bash
# Multi-task training as published: 2 GPUs, each item one RKpt, one RPar and one RHrc sample, no validation.
# STAGE=general (first): from ofa_large, an epoch as long as the REC file. STAGE=tuned (reasoning): from the first stage's
# refhcm.pt on ReasonRef. Set DATA_ROOT (folder with rec/ rkpt/ rpar/ rhrc/ reasonref/), or DATA (a mix of your own) and
# ROWS (items per epoch); INIT, VOCABULARY, SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

data=${DATA_ROOT:-$root/dataset} STAGE=${STAGE:-general} gpus=2
for argument; do if [ "$argument" = --tiny ]; then gpus=1; fi; done
case $STAGE in
    general) start=ofa_large.pt epochs=50 length=$data/rec/refcoco_train.tsv ;;
    tuned) start=refhcm.pt epochs=5 length=$data/reasonref/reasondec/total_reasondec_train.tsv ;;
    *) echo "STAGE is general or tuned, not $STAGE." >&2 && exit 2 ;;
esac
if [ -z "${DATA:-}" ] && [ -f "$length" ]; then ROWS=${ROWS:-$(wc -l <"$length")}; fi
export DATA=${DATA:-$root/run_scripts/multitask/$STAGE.json} ROWS=${ROWS:-}
export TASK=multitask EVALUATE=$root/run_scripts/multitask/evaluate_multitask.sh
export EPOCHS=${EPOCHS:-$epochs} BATCH=${BATCH:-2} ACCUMULATE=${ACCUMULATE:-4} LR=${LR:-4e-5} GPUS=${GPUS:-$gpus}
export WARMUP=${WARMUP:-1} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-5.0} DDP=${DDP:-legacy_ddp}
export INIT=${INIT-$root/checkpoints/$start} SAVE=${SAVE:-$root/runs/multitask-$STAGE}
exec "$root/run_scripts/train.sh" --data-root "$data" ${ROWS:+--epoch-items "$ROWS"} \
    --max-src-length 100 --max-tgt-length 100 --disable-validation "$@"
