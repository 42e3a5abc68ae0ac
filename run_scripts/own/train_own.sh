#!/usr/bin/env bash
# Go on training a model with your own pictures, as `refhcm convert own` wrote them (docs/own-data.md).
# Set DATA (the folder with train.tsv and val.tsv), TASKS ("rec", "rec rkpt", ...), MODEL (the model folder to start
# from, of the size ARCH), SAVE, EPOCHS, BATCH (pictures), LR, WORKERS, GPUS, DEVICE, PRECISION; further arguments go to
# fairseq unchanged.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/run_scripts/numbers.sh" && whole_numbers EPOCHS BATCH WORKERS:0 GPUS NODES

DATA=${DATA:?set DATA to the folder that refhcm convert own wrote}
[ -f "$DATA/train.tsv" ] || { echo "train_own.sh: there is no $DATA/train.tsv: make it with refhcm convert own" >&2; exit 1; }
MODEL=${MODEL:-$root/checkpoints/compact} SAVE=${SAVE:-$root/runs/own} BATCH=${BATCH:-4} EPOCHS=${EPOCHS:-20}
[ -f "$MODEL/config.json" ] || { echo "train_own.sh: MODEL must be a model folder; there is no $MODEL/config.json" >&2; exit 1; }
PRECISION=${PRECISION:-fp32} && . "$root/run_scripts/device.sh"

size=$(sed -n 's/.*"image_size": *\([0-9]*\).*/\1/p' "$MODEL/config.json")
rows=$(wc -l <"$DATA/train.tsv")
updates=$((EPOCHS * ((rows + BATCH * ${GPUS:-1} - 1) / (BATCH * ${GPUS:-1}))))
valid=(--valid-subset val --batch-size-valid "$BATCH" --held-out "$DATA/val.tsv")
[ -f "$DATA/val.tsv" ] || valid=(--disable-validation)
mkdir -p "$SAVE" 2>/dev/null && [ -w "$SAVE" ] || { echo "train_own.sh: nothing can be written to SAVE=$SAVE" >&2; exit 1; }
tasks=$(printf '"%s", ' ${TASKS:-rec})
printf '{"streams": [{"file": "{split}.tsv", "kind": "person", "tasks": [%s], "one_task": true}]}\n' "${tasks%, }" >"$SAVE/mix.json"

exec "$root/run_scripts/launch.sh" "$root/train.py" "$SAVE/mix.json" --data-root "$DATA" --task multitask \
    --arch "${ARCH:-refhcm_compact}" --init-from "$MODEL" --vocabulary "$MODEL" --freeze-resnet --save-dir "$SAVE" \
    --draft "$size" --zoom 0.9 --colour 0.2 --criterion refhcm_loss --label-smoothing 0.05 --dropout 0.0 \
    --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.01 --clip-norm 1.0 \
    --lr-scheduler polynomial_decay --lr "${LR:-1e-4}" --warmup-updates $((updates / 20)) \
    --total-num-update "$updates" --max-epoch "$EPOCHS" --batch-size "$BATCH" --update-freq 1 \
    --fixed-validation-seed 7 --num-workers "${WORKERS:-1}" --keep-last-epochs 1 --no-epoch-checkpoints \
    --log-interval 10 "${valid[@]}" "${device[@]}" "$@"
