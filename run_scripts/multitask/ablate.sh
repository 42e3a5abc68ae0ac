#!/usr/bin/env bash
# What single choices of the compact recipe are worth: each variant trains for the same number of updates from the same
# start, on the same questions, and is scored on the same held-out rows. A variant is NAME=OPTIONS, for example
#   START=checkpoints/compact run_scripts/multitask/ablate.sh ours= "adam=--optimizer adam" "coarse=--trunk-levels 1"
# Set START (model folder), UPDATES, SAVE (a folder per variant), LIMIT (rows), TASKS; the rest is train_compact.sh's.
# A variant that is there already is not trained again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

start=${START:-$root/checkpoints/compact} save=${SAVE:-$root/runs/ablation}
export UPDATES=${UPDATES:-300} VOCABULARY=$start TOKENIZER=$start INIT="--init-from $start"
for variant in "$@"; do
    name=${variant%%=*} options=${variant#*=}
    [ -f "$save/$name/checkpoint_last.pt" ] && continue
    # shellcheck disable=SC2086 # options are several words
    SAVE=$save/$name "$root/run_scripts/multitask/train_compact.sh" --disable-validation --seed 1 $options
done
files=()
for variant in "$@"; do files+=("$save/${variant%%=*}/checkpoint_last.pt"); done
# shellcheck disable=SC2086
exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --checkpoint "${files[@]}" --vocabulary "$start" \
    --label-map "$start" --tasks ${TASKS:-rec rkpt rpar_full_mask rhrc} --limit "${LIMIT:-500}" --markdown \
    --json "$save/ablation.json"
