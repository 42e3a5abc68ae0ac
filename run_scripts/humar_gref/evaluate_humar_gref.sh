#!/usr/bin/env bash
# HuMAR-GREF: detection (sets, AP), segmentation (mIoU, oIoU, gIoU, cIoU) and pose (OKS, AP, PCK) of the people that words
# mean, and of everybody; each person that is found is asked about on one look at the picture.
# Set MODEL (a model folder), DATA (a file of our own kind), GPUS. Further arguments go to evaluate.py (--limit N, ...).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/compact}" \
    --data "${DATA:-$root/dataset/humar/val.tsv}" ${KIND:+--kind "$KIND"} --tasks grec people res rkpt \
    --each mask keypoints "$@"
