#!/usr/bin/env bash
# All four tasks, each by its own evaluate script on its published file; or all on one file of our own layout.
# Set MODEL (a model folder), DATA_ROOT (folder with rkpt/ rpar/ rhrc/), or DATA (one file of the kind person), GPUS.
# Further arguments go to evaluate.py, the same for each task.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -n "${DATA:-}" ]; then
    exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/refhcm}" \
        --data "$DATA" --kind "${KIND:-person}" --tasks rec rkpt rpar rhrc "$@"
fi
data=${DATA_ROOT:-$root/dataset}
DATA=$data/rkpt/refcoco_pose_testA.tsv "$root/run_scripts/rec/evaluate_refcoco.sh" "$@"
DATA=$data/rkpt/refcoco_pose_testA.tsv "$root/run_scripts/rkpt/evaluate_rkpt.sh" "$@"
DATA=$data/rpar/refcihp_val.tsv "$root/run_scripts/rpar/evaluate_rpar.sh" "$@"
DATA=$data/rhrc/capcihp_val.tsv "$root/run_scripts/rhrc/evaluate_rhrc.sh" "$@"
