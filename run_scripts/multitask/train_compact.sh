#!/usr/bin/env bash
# The compact model on rendered scenes (made by prepare_scenes.sh), from ImageNet weights; CPU or GPU.
# Set SCENES, SAVE, UPDATES, LR, BATCH (pictures; each comes with up to six questions), SIZE (of the pictures), WORKERS,
# FLIP (only where no part codes are learnt), AUTOCAST=bf16 where the machine multiplies bfloat16 faster than float32,
# and INIT="--init-from FOLDER --resize-places" to go on from a model, also one that learned on smaller pictures.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

SCENES=${SCENES:-$root/dataset/scenes} TOKENIZER=${TOKENIZER:-$root/checkpoints/compact}
UPDATES=${UPDATES:-20000}
if nvidia-smi -L >/dev/null 2>&1; then device=(); else device=(--cpu --distributed-backend gloo); fi

exec "$root/run_scripts/launch.sh" "$root/train.py" "${DATA:-$root/run_scripts/multitask/scenes.json}" \
    --data-root "$SCENES" --task multitask --vocabulary "${VOCABULARY:-$SCENES/vocabulary}" \
    --save-dir "${SAVE:-$root/runs/compact}" \
    --arch refhcm_compact ${INIT:---imagenet --start-places --start-codes "$TOKENIZER"} \
    --freeze-resnet --patch-image-size "${SIZE:-256}" \
    --draft 320 --zoom "${ZOOM:-0.8}" --colour 0.3 --flip "${FLIP:-0}" --part-maps --by-region "${BY_REGION:-0.15}" \
    --by-point 0.3 --loose-regions 0.12 --nobody --masks "$TOKENIZER" \
    --dropout "${DROPOUT:-0.0}" --encoder-drop-path-rate 0.0 --decoder-drop-path-rate 0.0 \
    --criterion refhcm_loss --label-smoothing 0.05 --bin-sigma 2 --bin-smoothing 0.5 \
    --text-weight 3 --bin-weight 2 --box-weight 4 --presence-weight 6 \
    --grounding-weight 20 --detail-weight 8 --word-weight 4 --autocast "${AUTOCAST:-none}" \
    --optimizer muon --adam-betas "(0.9, 0.98)" --adam-eps 1e-08 --weight-decay 0.01 --clip-norm 1.0 \
    --lr-scheduler polynomial_decay --lr "${LR:-4e-4}" --warmup-updates $((UPDATES * 5 / 100)) \
    --total-num-update "$UPDATES" --max-update "$UPDATES" --batch-size "${BATCH:-4}" --update-freq 1 \
    --valid-subset val --batch-size-valid 8 --fixed-validation-seed 7 \
    --num-workers "${WORKERS:-1}" --keep-last-epochs 1 --log-interval 50 "${device[@]}" "$@"
