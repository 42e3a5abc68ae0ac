#!/usr/bin/env bash
# RES (words -> box and mask) on RefCOCO's people, a recipe of ours after REC's: 10 epochs, 64 samples per update, a fifth
# of the questions by the box. Files: refhcm convert refcoco ... --everybody. INIT is a model folder with codes for masks:
#   python -m refhcm.models.add_codes checkpoints/refhcm checkpoints/refhcm_masks --masks checkpoints/compact
# Set TRAIN, VALID (files of our own kind; VALID=none: no validation), INIT, MASKS (folder of the mask tokenizer; default:
# INIT), SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

export TASK=res EVALUATE=$root/run_scripts/res/evaluate_res.sh
export TRAIN=${TRAIN:-$root/dataset/refcoco/train.tsv} VALID=${VALID:-$root/dataset/refcoco/val.tsv}
export EPOCHS=${EPOCHS:-10} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/refhcm_masks} && export MASKS=${MASKS:-$INIT}
exec "$root/run_scripts/train.sh" --max-src-length 80 --masks "$MASKS" --by-region 0.2 --validate-answers 200 "$@"
