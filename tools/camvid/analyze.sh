#!/usr/bin/env bash
# Look into the networks that train_arms.py has trained: figures for benchmarks/camvid/,
# plots for docs/images/. report.py writes the tables.
# PYTHON=... picks the interpreter, WORK_DIRS=... where the checkpoints are.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
WORK_DIRS=${WORK_DIRS:-work_dirs/camvid}
OUT=benchmarks/camvid
IMAGES=docs/images

config() { echo "configs/fcn/${1}_fcn_1xb4-2k_camvid-240x320.py"; }  # NETWORK

checkpoint() { echo "$WORK_DIRS/$1-seed$2/iter_2000.pth"; }  # NETWORK SEED

analyze() {  # TOOL NETWORK SEED OPTION...
    "${PYTHON:-python}" -W ignore "tools/analysis_tools/$1.py" \
        "$(config "$2")" "$(checkpoint "$2" "$3")" "${@:4}"
}

analyze coefficients dy-r18-d16 0 \
    --json $OUT/coefficients.json --plot $IMAGES/camvid-coefficients.png
analyze correlation dy-r18-d16 0 --vs "$(config r18-d16)" "$(checkpoint r18-d16 0)" \
    --json $OUT/correlation.json --plot $IMAGES/camvid-correlation.png
for network in r18-d16 dy-r18-d16 fix-r18-d16; do
    for seed in 0 1 2; do
        # 101: the first image chooses the kernels of all.
        analyze inference_modes $network $seed --reuse 2 5 10 101 \
            --json $OUT/modes/$network-seed$seed.json
    done
done
