#!/usr/bin/env bash
# What `--tiny` does to any recipe: the whole road in minutes, on the CPU or a GPU, without any download. Draws SCENES
# scenes, trains the bundled compact model on them for UPDATES updates with the recipe's own loss and schedule, exports
# it, scores it with the recipe's evaluate script, asks it about one picture. Everything goes to SAVE (runs/tiny/TASK).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
arguments=()
for argument; do if [ "$argument" != --tiny ]; then arguments+=("$argument"); fi; done

start=$root/checkpoints/compact out=${SAVE:-$root/runs/tiny/$TASK} scenes=${SCENES:-24} masks=()
compact=$start train=$out/scenes/train/person.tsv val=$out/scenes/val/person.tsv
one() { GPUS=1 NODES=1 "$root/run_scripts/launch.sh" "$@"; }
for split in train:"$scenes" val:$(((scenes + 3) / 4)); do
    one -m refhcm.data.scenes "$out/scenes" --split "${split%:*}" --count "${split#*:}" --images files
    one -m refhcm.models.label_map_codes "$out/scenes/${split%:*}/person.tsv" --kind person --tokenizer "$compact"
done
rm -f "$out"/checkpoints/checkpoint*.pt # of an earlier try, which fairseq would go on from
if [ -n "${MASKS:-}" ]; then masks=(--masks "$compact"); fi
if [ -n "${MASKS:-}" ] && ! grep -q mask_codes "$start/config.json"; then
    start=$out/start && one -m refhcm.models.add_codes "$compact" "$start" "${masks[@]}"
fi
data=() && if [ "$TASK" = multitask ]; then data=(--data-root "$out/scenes" --epoch-items "$(wc -l <"$train")"); fi
TRAIN=$train VALID=$val HELD_OUT=$val ROWS=$(wc -l <"$train") SAVE=$out/checkpoints ARCH=refhcm_compact INIT=$start \
    VOCABULARY=$start DATA=${data:+${TINY:-$root/run_scripts/multitask/tiny.json}} BATCH=4 ACCUMULATE=2 EPOCHS=1 \
    "$root/run_scripts/train.sh" "${arguments[@]}" "${data[@]}" "${masks[@]}" --freeze-resnet --valid-subset val \
    --max-update "${UPDATES:-12}" --no-epoch-checkpoints --log-interval 1
one -m refhcm.models.export "$out/checkpoints/checkpoint_last.pt" "$out/model" --vocabulary "$start" \
    --label-map "$compact" "${masks[@]}"
MODEL=$out/model DATA=$val KIND=person GPUS=1 NODES=1 "$EVALUATE" --beam 1 --limit 16

IFS=$'\t' read -r _ _ words box _ <"$val" && question=(--text "$words")
declare -A wanted=([rec]=box [res]=mask [rkpt]=keypoints [rpar]=parsing [rpar_full_mask]=parsing [rhrc]=caption)
if [ "$TASK" = rhrc ]; then IFS=, read -ra corners <<<"$box" && question=(--region "${corners[@]}"); fi
if [ "$TASK" = grec ]; then question+=(--everybody); fi
one -m refhcm.cli predict "$out/scenes/val/images/0000000.jpg" "${question[@]}" ${wanted[$TASK]:+--tasks "${wanted[$TASK]}"} \
    --model "$out/model" --out "$out/answers"
