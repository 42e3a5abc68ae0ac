#!/usr/bin/env bash
# All four tasks, each by its own evaluate script on its published file; or all on one file of our own layout.
# Set MODEL (a model folder), DATA_ROOT (folder with rkpt/ rpar/ rhrc/) or DATA (one file of the kind person), OUT (folder
# for the answers, a subfolder per task), GPUS. Further arguments go to evaluate.py, the same for each task.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

if [ -n "${DATA:-}" ]; then
    exec "$root/run_scripts/launch.sh" "$root/evaluate.py" --model "${MODEL:-$root/checkpoints/refhcm}" --data "$DATA" \
        ${KIND:+--kind "$KIND"} --tasks rec rkpt rpar rhrc ${OUT:+--out "$OUT"} "$@"
fi
for task in rec/evaluate_refcoco:rkpt/refcoco_pose_testA rkpt/evaluate_rkpt:rkpt/refcoco_pose_testA \
    rpar/evaluate_rpar:rpar/refcihp_val rhrc/evaluate_rhrc:rhrc/capcihp_val; do
    script=${task%:*} file=${task#*:}
    KIND=${file%%/*} DATA=${DATA_ROOT:-$root/dataset}/$file.tsv \
        "$root/run_scripts/$script.sh" ${OUT:+--out "$OUT/${script%%/*}"} "$@"
done
