#!/usr/bin/env bash
# Measure again what the JSON files beside this script hold, in some 30 minutes; each
# names its machine and its command. Leave the machine alone meanwhile.
# PYTHON=... picks the interpreter; arguments pick files: benchmarks/run.sh 'fcn-r18*'
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
WANTED=("$@")

measure() {  # TOOL NAME DYNAMIC STATIC OPTION...
    local tool=$1 name=$2 dynamic=$3 static=$4 wanted
    shift 4
    for wanted in "${WANTED[@]:-*}"; do
        # shellcheck disable=SC2053  # a pattern
        if [[ $name == $wanted ]]; then
            echo "$name"
            "${PYTHON:-python}" -W ignore "tools/analysis_tools/$tool.py" "$dynamic" \
                --vs "$static" --threads 2 --json "benchmarks/$name.json" "$@"
            return
        fi
    done
}

both() {  # NAME DYNAMIC STATIC OPTION...: with float32 and with int8 weights
    measure benchmark "$@"
    measure benchmark "$1-int8" "${@:2}" --int8
}

config() {  # NAME: the config of the Cityscapes segmentor
    echo "configs/dynet/$1_4xb2-80k_cityscapes-512x1024.py"
}

both resnet50 Dy-ResNet50 ResNet50 --repeats 40
both resnet18 Dy-ResNet18 ResNet18 --repeats 60
both mobile "Dy-mobile (1.0)" "MobileNetV2 (1.0)" --repeats 100
measure benchmark resnet50-compile Dy-ResNet50 ResNet50 --int8 --backend compile \
    --repeats 40
measure benchmark resnet18-compile Dy-ResNet18 ResNet18 --int8 --backend compile \
    --repeats 60
measure benchmark mobile-compile "Dy-mobile (1.0)" "MobileNetV2 (1.0)" --int8 \
    --backend compile --repeats 100

both fcn-r50 "$(config dy-r50-d8_fcn)" "$(config fcn_r50-d8)"
both fcn-r18 "$(config dy-r18-d8_fcn)" "$(config fcn_r18-d8)"
both pspnet-r50 "$(config dy-r50-d8_pspnet)" "$(config pspnet_r50-d8)"
both fcn-mobile "$(config dy-mobile-d8_fcn)" "$(config mobilenet-v2-d8_fcn-c80)"
for batch in 1 4; do
    measure benchmark "fcn-r18-256x512-batch$batch" "$(config dy-r18-d8_fcn)" \
        "$(config fcn_r18-d8)" --shape 256 512 --batch "$batch" --repeats 20
done
measure benchmark fcn-r50-onnxruntime "$(config dy-r50-d8_fcn)" "$(config fcn_r50-d8)" \
    --backend onnxruntime
measure benchmark fcn-r50-training "$(config dy-r50-d8_fcn)" "$(config fcn_r50-d8)" \
    --train --feature-fusion --shape 256 512 --batch 2

measure training_cost training-cost "$(config dy-r50-d8_fcn)" "$(config fcn_r50-d8)" \
    --measure --update docs/training_cost.md

measure benchmark sweep-fcn-r18 "$(config dy-r18-d8_fcn)" "$(config fcn_r18-d8)" \
    --shape 128 256 256 512 384 768 512 1024 768 1536
measure benchmark sweep-resnet50 Dy-ResNet50 ResNet50 --repeats 20 \
    --shape 128 128 160 160 192 192 224 224 288 288 384 384

measure benchmark_steps steps-resnet50 Dy-ResNet50 ResNet50 --repeats 20
measure benchmark_steps steps-mobile "Dy-mobile (1.0)" "MobileNetV2 (1.0)" --repeats 40
measure benchmark_steps steps-fcn-r18 "$(config dy-r18-d8_fcn)" "$(config fcn_r18-d8)"
