#!/usr/bin/env bash
# Sourced by the training scripts: puts into the list `device` what fairseq is told about DEVICE (cpu or cuda; default: by
# nvidia-smi) and PRECISION (default: fp16 on a GPU, fp32 on the CPU).
set -euo pipefail
if [ -z "${DEVICE:-}" ]; then if nvidia-smi -L >/dev/null 2>&1; then DEVICE=cuda; else DEVICE=cpu; fi; fi
case $DEVICE in
    cpu) device=(--cpu --distributed-backend gloo) PRECISION=${PRECISION:-fp32} ;;
    cuda) device=() PRECISION=${PRECISION:-fp16} ;;
    *) echo "DEVICE is cpu or cuda, not $DEVICE." >&2 && exit 2 ;;
esac
case $DEVICE-$PRECISION in
    cpu-fp16 | cpu-amp) echo "PRECISION=$PRECISION needs a GPU; on the CPU take fp32, autocast or bf16." >&2 && exit 2 ;;
    *-fp16 | *-amp) device=("--$PRECISION" --fp16-init-scale 128 --fp16-scale-window 512 "${device[@]}") ;;
    *-bf16) device=(--bf16 "${device[@]}") ;;
    *-autocast) device=(--autocast bf16 "${device[@]}") ;;
    *-fp32) ;;
    *) echo "PRECISION is fp16, bf16, amp, autocast or fp32, not $PRECISION." >&2 && exit 2 ;;
esac
