#!/usr/bin/env bash
# Measure again what the JSON files beside this script hold, in some 15 minutes; each
# names its machine and its command. Leave the machine alone meanwhile.
# PYTHON=... picks the interpreter; arguments pick files: benchmarks/run.sh 'fcn-r18*'
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
WANTED=("$@")
MEASURED=0

measure() {  # NAME DYNAMIC STATIC OPTION...
    local name=$1 dynamic=$2 static=$3 wanted
    shift 3
    for wanted in "${WANTED[@]:-*}"; do
        # shellcheck disable=SC2053  # a pattern
        if [[ $name == $wanted ]]; then
            echo "$name"
            MEASURED=1
            "${PYTHON:-python}" -W ignore tools/analysis_tools/benchmark.py \
                "$dynamic" --vs "$static" --threads 2 \
                --json "benchmarks/$name.json" "$@"
            return
        fi
    done
}

config() {  # NAME: the config of the Cityscapes segmentor
    echo "configs/dynet/$1_4xb2-80k_cityscapes-512x1024.py"
}

ddrnet() {  # NAME
    echo "configs/dynet/$1_in1k-pre_2xb6-120k_cityscapes-1024x1024.py"
}

FCN_R50=("$(config dy-r50-d8_fcn)" "$(config fcn_r50-d8)")
FCN_R18=("$(config dy-r18-d8_fcn)" "$(config fcn_r18-d8)")
DDRNET=("$(ddrnet dy-ddrnet_23)" "$(ddrnet ddrnet_23)" --shape 512 1024 --repeats 20)
SLIM=("$(ddrnet dy-ddrnet_23)" "$(ddrnet ddrnet_23-slim)" --shape 512 1024 --repeats 20)
R50=(Dy-ResNet50 ResNet50 --repeats 40)
R18=(Dy-ResNet18 ResNet18 --repeats 60)
MOBILE=("Dy-mobile (1.0)" "MobileNetV2 (1.0)" --repeats 100)

measure resnet50 "${R50[@]}"
measure resnet50-int8 "${R50[@]}" --int8
measure resnet50-compile "${R50[@]}" --backend compile --int8
measure resnet50-openvino "${R50[@]}" --backend openvino
measure resnet18 "${R18[@]}"
measure resnet18-compile "${R18[@]}" --backend compile --int8
measure mobile "${MOBILE[@]}"
measure mobile-int8 "${MOBILE[@]}" --int8
measure mobile-compile "${MOBILE[@]}" --backend compile --int8
measure mobile-openvino "${MOBILE[@]}" --backend openvino

measure fcn-r50 "${FCN_R50[@]}"
measure fcn-r50-c512 "$(config dy-r50-d8_fcn-c512)" "$(config fcn_r50-d8)"
measure fcn-r50-onnxruntime "${FCN_R50[@]}" --backend onnxruntime
measure fcn-r50-openvino "${FCN_R50[@]}" --backend openvino
measure fcn-r18 "${FCN_R18[@]}"
measure pspnet-r50 "$(config dy-r50-d8_pspnet)" "$(config pspnet_r50-d8)"
measure fcn-mobile "$(config dy-mobile-d8_fcn)" "$(config mobilenet-v2-d8_fcn-c80)"
measure ddrnet "${DDRNET[@]}"
measure ddrnet-openvino "${DDRNET[@]}" --backend openvino
measure ddrnet-slim "${SLIM[@]}"
measure ddrnet-slim-openvino "${SLIM[@]}" --backend openvino
for batch in 1 4; do
    measure "fcn-r18-256x512-batch$batch" "${FCN_R18[@]}" --shape 256 512 \
        --batch "$batch" --repeats 20
done
measure fcn-r50-training "${FCN_R50[@]}" --train --feature-fusion --shape 256 512 \
    --batch 2 --repeats 5
measure resnet18-training-64x64 "${R18[@]}" --train --shape 64 64 --batch 64
measure resnet18-training-64x64-contiguous "${R18[@]}" --train --shape 64 64 \
    --batch 64 --memory-format contiguous
measure resnet18-training-224x224 "${R18[@]}" --train --shape 224 224 --batch 16 \
    --repeats 10

if ((!MEASURED)); then
    echo "no measurement is called ${WANTED[*]}" >&2
    exit 2
fi
