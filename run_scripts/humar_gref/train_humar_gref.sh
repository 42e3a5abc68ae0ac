#!/usr/bin/env bash
# HuMAR-GREF, jointly: every row is asked for all that it knows of people (grec, or everybody), mask (res) and pose (rkpt).
# Files: refhcm convert humar ... --everybody, into DATA_ROOT. A recipe of ours (the public one trains for 30 updates):
# 20 epochs, 32 rows with up to three questions each per update, a third of what may be asked so by the box, so that
# everyone who was found can be asked about; words may fit nobody. The line of a validation shows detection (micro F1),
# segmentation (mean IoU) and pose (PCK@0.2). INIT is a model folder with codes for masks, see res/train_res.sh.
# Set DATA_ROOT (or DATA, a mix of your own, and ROWS), INIT, MASKS (default: INIT), HELD_OUT, SAVE, GPUS, ...: see
# run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

data=${DATA_ROOT:-$root/dataset/humar} here=$root/run_scripts/humar_gref
if [ -z "${DATA:-}" ] && [ -f "$data/train.tsv" ]; then ROWS=${ROWS:-$(wc -l <"$data/train.tsv")}; fi
export DATA=${DATA:-$here/joint.json} ROWS=${ROWS:-} TINY=$here/tiny.json HELD_OUT=${HELD_OUT:-$data/val.tsv}
export TASK=multitask EVALUATE=$here/evaluate_humar_gref.sh
export EPOCHS=${EPOCHS:-20} BATCH=${BATCH:-4} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/refhcm_masks} SAVE=${SAVE:-$root/runs/humar_gref} && export MASKS=${MASKS:-$INIT}
exec "$root/run_scripts/train.sh" --data-root "$data" --valid-subset val --max-src-length 80 --masks "$MASKS" \
    --nobody --by-region 0.33 --validate-answers 200 "$@"
