#!/usr/bin/env bash
# The compact model on rendered scenes (python -m refhcm.data.scenes), from ImageNet weights; CPU or GPU.
# Set SCENES (folder with train/ and val/, codes filled in: see checkpoints/README.md), VOCABULARY, UPDATES, SAVE.
set -euo pipefail
cd "$(dirname "$0")/../.."

SCENES=${SCENES:-dataset/scenes}
UPDATES=${UPDATES:-20000}
for split in train val; do # rows of rkpt.tsv and rpar.tsv are the same questions: side by side they serve every task
    paste <(cut -f1-5 "$SCENES/$split/rkpt.tsv") <(cut -f4-6 "$SCENES/$split/rpar.tsv") >"$SCENES/$split/all.tsv"
done
if nvidia-smi -L >/dev/null 2>&1; then device=(); else device=(--cpu); fi

exec "${PYTHON:-.venv/bin/python}" train.py "${DATA:-run_scripts/multitask/scenes.json}" --data-root "$SCENES" \
    --task multitask --vocabulary "${VOCABULARY:-$SCENES/vocabulary}" --save-dir "${SAVE:-runs/compact}" \
    --arch refhcm_compact --imagenet --start-places --draft 320 --zoom 0.7 --colour 0.3 \
    --dropout 0.1 --encoder-drop-path-rate 0.1 --decoder-drop-path-rate 0.1 \
    --criterion refhcm_loss --label-smoothing 0.1 --bin-sigma 2 --bin-smoothing 0.3 \
    --optimizer adam --adam-betas "(0.9, 0.999)" --adam-eps 1e-08 --weight-decay 0.01 --clip-norm 1.0 \
    --lr-scheduler polynomial_decay --lr "${LR:-5e-4}" --warmup-updates $((UPDATES * 6 / 100)) \
    --total-num-update "$UPDATES" --max-update "$UPDATES" --batch-size "${BATCH:-8}" --update-freq 1 \
    --store-ema --ema-decay 0.9995 --valid-subset val --batch-size-valid 16 --fixed-validation-seed 7 \
    --num-workers "${WORKERS:-1}" --keep-last-epochs 1 --log-interval 20 "${device[@]}" "$@"
