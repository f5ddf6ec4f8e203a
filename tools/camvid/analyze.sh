#!/usr/bin/env bash
# Look into the networks that train_arms.py has trained: figures for benchmarks/camvid/,
# plots for docs/images/, predictions side by side in the work dir (CamVid's images are
# not to be passed on). report.py writes the tables. What is newer than its network is
# kept.
# PYTHON=... picks the interpreter, WORK_DIRS=... where the checkpoints are, SEEDS="0 1"
# of which seeds, OUT=... and IMAGES=... where figures and plots go.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORK_DIRS=${WORK_DIRS:-work_dirs/camvid}
SEEDS=${SEEDS:-0 1 2}
OUT=${OUT:-benchmarks/camvid}
IMAGES=${IMAGES:-docs/images}

config() { echo "configs/fcn/${1}_fcn_1xb4-2k_camvid-240x320.py"; }  # NETWORK

checkpoint() { echo "$WORK_DIRS/$1-seed$2/iter_2000.pth"; }  # NETWORK SEED

analyze() {  # TOOL NETWORK SEED JSON OPTION...
    local checkpoint
    checkpoint=$(checkpoint "$2" "$3")
    if [[ -f $checkpoint && $4 -nt $checkpoint ]]; then
        echo "$4 is newer than $checkpoint: kept"
    else
        "${PYTHON:-python}" -W ignore "tools/analysis_tools/$1.py" \
            "$(config "$2")" "$checkpoint" --json "$4" "${@:5}"
    fi
}

analyze coefficients dy-r18-d16 0 $OUT/coefficients.json \
    --plot $IMAGES/camvid-coefficients.png
analyze correlation dy-r18-d16 0 $OUT/correlation.json \
    --vs "$(config fix-r18-d16)" "$(checkpoint fix-r18-d16 0)" \
    --vs "$(config r18-d16)" "$(checkpoint r18-d16 0)" \
    --plot $IMAGES/camvid-correlation.png
configs=() checkpoints=()
for network in r18-d16 dy-r18-d16 fix-r18-d16; do
    configs+=("$(config $network)") checkpoints+=("$(checkpoint $network 0)")
    for seed in $SEEDS; do
        # 101: the first image chooses the kernels of all.
        analyze inference_modes $network $seed $OUT/modes/$network-seed$seed.json \
            --reuse 2 5 10 101
    done
done
"${PYTHON:-python}" -W ignore tools/analysis_tools/compare.py "${configs[@]}" \
    --checkpoints "${checkpoints[@]}" --picture "$WORK_DIRS/predictions.png"
