#!/usr/bin/env bash
# What the published recipes share. Called by run_scripts/*/train_*.sh, which set TASK EVALUATE EPOCHS BATCH ACCUMULATE
# LR WARMUP (percent of all updates) DROP_PATH CLIP, and TRAIN and VALID (or DATA, a mix, and ROWS, its items per epoch).
# run_scripts/README.md says what else may be set. Arguments go to fairseq; --tiny tries the whole road in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/run_scripts/numbers.sh" && whole_numbers EPOCHS BATCH ACCUMULATE WARMUP:0 ROWS GPUS NODES
for argument; do if [ "$argument" = --tiny ]; then exec "$root/run_scripts/tiny.sh" "$@"; fi; done

if [ -z "${DATA:-}" ]; then
    IFS=, read -ra files <<<"$TRAIN"
    HELD_OUT=${HELD_OUT:-$VALID} && if [ "$VALID" = none ]; then VALID=${files[0]} && set -- "$@" --disable-validation; fi
    for file in "${files[@]}" "$VALID"; do
        case $file in *.tar) [ -n "${ROWS:-}" ] ;; *) [ -f "$file" ] ;; esac ||
            { echo "There is no dataset file $file: set TRAIN and VALID (none: no validation), for shards ROWS too." >&2; exit 1; }
    done
    DATA=$TRAIN,$VALID ROWS=${ROWS:-$(($(cat "${files[@]}" | wc -l) / ${#files[@]}))}
fi
if [ "${HELD_OUT:-none}" != none ]; then set -- --held-out "$HELD_OUT" "$@"; fi && : "${ROWS:?set ROWS, the number of items of an epoch}"
words=$root/checkpoints && if [ -d "${INIT:-}" ]; then words=$INIT; fi
batches=$(((ROWS + BATCH - 1) / BATCH)) together=$((ACCUMULATE * ${GPUS:-1} * ${NODES:-1}))
updates=$((EPOCHS * ((batches + together - 1) / together)))
. "$root/run_scripts/device.sh"
exec "$root/run_scripts/launch.sh" "$root/train.py" "$DATA" --task "$TASK" --arch "${ARCH:-refhcm_large}" \
    --vocabulary "${VOCABULARY:-$words}" ${INIT:+--init-from "$INIT"} \
    --save-dir "${SAVE:-$root/runs/$TASK}" --criterion refhcm_loss --label-smoothing 0.1 --dropout 0.1 \
    --encoder-drop-path-rate "$DROP_PATH" --decoder-drop-path-rate "$DROP_PATH" \
    --optimizer adam --adam-betas "(0.9, 0.999)" --adam-eps 1e-08 --weight-decay 0.01 --clip-norm "$CLIP" \
    --lr-scheduler polynomial_decay --lr "$LR" --warmup-updates $((updates * WARMUP / 100)) \
    --total-num-update "$updates" --max-epoch "$EPOCHS" --batch-size "$BATCH" --update-freq "$ACCUMULATE" \
    --ddp-backend "${DDP:-pytorch_ddp}" --find-unused-parameters --fixed-validation-seed 7 \
    --log-interval 10 "${device[@]}" "$@"
