#!/bin/sh
# Trains every shipped checkpoint from the full data under MINIST_DATA_DIR and puts it beside this file.
# Choices (epochs, schedule, learning rate) were made on the validation split.
set -eu
here=$(dirname "$0")
runs=${RUNS:-runs/shipped}

train() {
    name=$1
    shift
    "${PYTHON:-.venv/bin/python}" -m training --name "$name" --device cpu --seed 0 --out "$runs/$name" "$@"
    cp "$runs/$name/$name.pth" "$runs/$name/$name.json" "$here/"
}

train minist --recipe mlp --schedule cosine --epochs 20
train cnn --recipe cnn --schedule one-cycle --epochs 20
train softmax-mnist --recipe softmax-mnist --schedule cosine --lr 0.2 --epochs 20
train fashion-softmax --recipe softmax --schedule cosine --epochs 20
train fashion-cnn --recipe cnn --dataset fashion-mnist --schedule one-cycle --epochs 20
