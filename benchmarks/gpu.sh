#!/usr/bin/env bash
# Test and measure the package on a GPU, in some 20 minutes; needs no network.
#
#   benchmarks/gpu.sh [tests] [implementations] [networks]      (default: all three)
#
# Each part ends within 10 minutes and writes as it goes, into benchmarks/gpu or
# into OUT=FOLDER. PYTHON=... picks the interpreter. DEVICE=cpu tries everything out on
# small inputs.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
PYTHON=${PYTHON:-python3}
DEVICE=${DEVICE:-cuda}
OUT=${OUT:-benchmarks/gpu}
mkdir -p "$OUT"

failed=0
run() { timeout -s INT 560 "$PYTHON" -W ignore "$@" || failed=1; }  # then go on

tests() {  # 4 minutes
    local marked="gpu and not slow"
    [[ $DEVICE == cuda ]] || marked="not gpu and not slow"
    # Warnings of another torch or driver are not errors here.
    run -m pytest -q -W ignore -p no:cacheprovider -m "$marked" \
        --junitxml "$OUT/tests.xml" tests/ops tests/models/test_backbone_contract.py \
        tests/engine/test_launch.py
}

implementations() {  # 2 x 3 minutes
    local script=benchmarks/implementations.py
    if [[ $DEVICE == cuda ]]; then
        local options="--device cuda --dtype bfloat16 --repeats 5 --seconds 180"
        run $script Dy-ResNet50 Dy-ResNet18 $options --shape 224 224 --batch 64 8 1 \
            --json "$OUT/implementations-224x224.json"
        run $script Dy-ResNet50 Dy-ResNet18 $options --shape 512 1024 --batch 8 1 64 \
            --json "$OUT/implementations-512x1024.json"
    else
        run $script --shape 32 64 --batch 1 2 --repeats 1 \
            --json "$OUT/implementations-32x64.json"
    fi
}

networks() {  # 8 minutes
    run benchmarks/gpu.py --device "$DEVICE" --out "$OUT" --seconds 400
}

for part in "${@:-tests}"; do
    case $part in
        tests | implementations | networks) ;;
        *) echo "no part $part: give tests, implementations or networks" >&2; exit 2 ;;
    esac
done
[[ $# -gt 0 ]] || set -- tests implementations networks
for part in "$@"; do
    echo "== $part"
    $part
done
exit $failed
