#!/usr/bin/env bash
# What all recipes share: the published optimiser and schedule. Called by run_scripts/*/train_*.sh, which set
#   DATA TASK ROWS EPOCHS BATCH ACCUMULATE LR WARMUP (percent of all updates) DROP_PATH CLIP   and may set
#   ARCH INIT VOCABULARY GPUS SAVE DDP PYTHON; further arguments go to fairseq unchanged.
# Without an NVIDIA GPU it trains on the CPU in fp32.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
ARCH=${ARCH:-refhcm_large}
GPUS=${GPUS:-1}
batches=$(((ROWS + BATCH - 1) / BATCH))
updates=$((EPOCHS * ((batches + ACCUMULATE * GPUS - 1) / (ACCUMULATE * GPUS))))

if nvidia-smi -L >/dev/null 2>&1; then
    device=(--fp16 --fp16-init-scale 128 --fp16-scale-window 512)
else
    device=(--cpu --distributed-backend gloo)
fi
launch=("$PYTHON")
if [ "$GPUS" -gt 1 ]; then
    launch=("$PYTHON" -m torch.distributed.run --nproc_per_node "$GPUS" --master_port "${PORT:-29500}")
fi

exec "${launch[@]}" train.py "$DATA" --task "$TASK" --arch "$ARCH" --vocabulary "$VOCABULARY" \
    ${INIT:+--init-from "$INIT"} --save-dir "${SAVE:-runs/$TASK}" \
    --criterion refhcm_loss --label-smoothing 0.1 --dropout 0.1 \
    --encoder-drop-path-rate "$DROP_PATH" --decoder-drop-path-rate "$DROP_PATH" \
    --optimizer adam --adam-betas "(0.9, 0.999)" --adam-eps 1e-08 --weight-decay 0.01 --clip-norm "$CLIP" \
    --lr-scheduler polynomial_decay --lr "$LR" --warmup-updates $((updates * WARMUP / 100)) \
    --total-num-update "$updates" --max-epoch "$EPOCHS" --batch-size "$BATCH" --update-freq "$ACCUMULATE" \
    --ddp-backend "${DDP:-pytorch_ddp}" --find-unused-parameters --fixed-validation-seed 7 \
    --log-format simple --log-interval 10 "${device[@]}" "$@"
