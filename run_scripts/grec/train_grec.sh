#!/usr/bin/env bash
# GREC (words -> any number of boxes, or none) on gRefCOCO, a recipe of ours after REC's: 10 epochs from ofa_large, 64
# samples per update. Files: refhcm convert grefcoco. The published sets go by COCO's pictures: RefCOCO's val and tests
# share some with its training, which --held-out refuses.
# Set TRAIN, VALID (files of our own kind; VALID=none: no validation), INIT (ofa_large.pt or a model folder), VOCABULARY
# (folder with dict.txt), SAVE, GPUS, ...: see run_scripts/README.md. --tiny: a try in minutes.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

export TASK=grec EVALUATE=$root/run_scripts/grec/evaluate_grec.sh
export TRAIN=${TRAIN:-$root/dataset/grefcoco/train.tsv} VALID=${VALID:-$root/dataset/grefcoco/val.tsv}
export EPOCHS=${EPOCHS:-10} BATCH=${BATCH:-8} ACCUMULATE=${ACCUMULATE:-8} LR=${LR:-3e-5}
export WARMUP=${WARMUP:-6} DROP_PATH=${DROP_PATH:-0.2} CLIP=${CLIP:-1.0}
export INIT=${INIT-$root/checkpoints/ofa_large.pt}
exec "$root/run_scripts/train.sh" --max-src-length 80 --nobody --validate-answers 200 "$@"
