#!/usr/bin/env bash
# The label-map tokenizer (part map of one person <-> 48 codes) on files with part maps: CIHP as `refhcm convert cihp`
# writes it, published RPar files, or scenes. Then the codes column is filled in with it:
#   python -m refhcm.models.label_map_codes FILE.tsv --kind person --tokenizer SAVE
# With PRESET=mask the mask tokenizer (background, person, other people), on files with masks or part maps.
# Set TRAIN, VALID (dataset files), KIND (their layout: person or rpar), PRESET (compact, ours; published: its size; mask),
# STEPS (16 crops each, on each of GPUS), SAVE; further arguments go to label_map_training (--class-weights FILE, ...).
# --tiny: 24 scenes, some steps.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

TRAIN=${TRAIN:-$root/dataset/cihp/train.tsv} VALID=${VALID:-$root/dataset/cihp/val.tsv} SAVE=${SAVE:-$root/runs/label_map}
if [ "${1:-}" = --tiny ]; then
    shift && STEPS=${STEPS:-60}
    for split in train:24 val:6; do
        GPUS=1 "$root/run_scripts/launch.sh" -m refhcm.data.scenes "$SAVE/scenes" --split "${split%:*}" --count "${split#*:}" --images files
    done
    export TRAIN=$SAVE/scenes/train/person.tsv VALID=$SAVE/scenes/val/person.tsv SAVE STEPS
    "$0" "$@" && DATA=$VALID TOKENIZER=$SAVE exec "$root/run_scripts/label_map/evaluate_label_map.sh"
fi
exec "$root/run_scripts/launch.sh" -m refhcm.models.label_map_training "$TRAIN" --valid "$VALID" --kind "${KIND:-person}" \
    --preset "${PRESET:-compact}" --steps "${STEPS:-2400}" --out "$SAVE" "$@"
