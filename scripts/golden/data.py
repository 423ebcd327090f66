#!/usr/bin/env python3
"""Write the testdata of data and its packages: what the reference libraries answer.

Made with Python 3.11 and torch 2.15.0, safetensors 0.8.0, scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6. Run it in
the repository root.
"""
import json
import pathlib

import numpy
import safetensors.torch
import scipy.stats
import sklearn.metrics
import torch

OUT = pathlib.Path("data/testdata")
TENSORS = pathlib.Path("data/checkpoint/testdata")


def metrics():
    rng = numpy.random.default_rng(1)
    cases = []

    def add(metric, predictions, labels, score):
        cases.append({"metric": metric, "predictions": list(map(float, predictions)),
                      "labels": list(map(float, labels)), "score": float(numpy.nan_to_num(score))})

    def classification(predictions, labels):
        add("accuracy", predictions, labels, sklearn.metrics.accuracy_score(labels, predictions))
        add("f1_macro", predictions, labels, sklearn.metrics.f1_score(labels, predictions, average="macro", zero_division=0))
        add("mcc", predictions, labels, sklearn.metrics.matthews_corrcoef(labels, predictions))
        if max(*predictions, *labels) <= 1:
            add("f1", predictions, labels, sklearn.metrics.f1_score(labels, predictions, labels=[0, 1], zero_division=0))

    def regression(predictions, labels):
        add("pearson", predictions, labels, scipy.stats.pearsonr(predictions, labels).statistic)
        add("spearman", predictions, labels, scipy.stats.spearmanr(predictions, labels).statistic)

    for classes in (2, 3, 7):
        for n in (5, 12, 40):
            labels = rng.integers(0, classes, n)
            classification(numpy.where(rng.random(n) < 0.6, labels, rng.integers(0, classes, n)), labels)
            classification(numpy.full(n, classes - 1), labels)
    for predictions, labels in [([0, 0, 0], [0, 0, 0]), ([1, 1, 1], [1, 1, 1]), ([1, 1, 1], [0, 0, 0]), ([1, 0], [0, 1]),
                                ([0, 0, 1, 2], [0, 0, 1, 1])]:
        classification(predictions, labels)
    for n in (2, 5, 60):
        labels = rng.normal(2.5, 1.5, n)
        regression(labels + rng.normal(0, 1, n), labels)
        regression(numpy.round(labels + rng.normal(0, 1, n)), numpy.round(2 * labels) / 2)
        regression(-labels, labels)
        regression(numpy.full(n, 0.1), labels)
        regression(labels, numpy.full(n, 3.3))
        regression(1e6 + 1e-3 * labels, labels)
    pathlib.Path("data/metric/testdata/metrics.json").write_text(json.dumps(cases, separators=(",", ":")).replace("},{", "},\n{") + "\n")


def tensors():
    values = torch.tensor([[0.0, -0.0, 1.0], [-2.5, 6.1e-05, 1e-7], [65504.0, 0.333251953125, -1e-3]])
    safetensors.torch.save_file({"f32": values, "f16": values.half(), "bf16": values.bfloat16(),
                                 "scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4)},
                                TENSORS / "tensors.safetensors", metadata={"format": "pt"})
    (TENSORS / "tensors.json").write_text(json.dumps(
        {"f32": values.flatten().tolist(), "f16": values.half().float().flatten().tolist(),
         "bf16": values.bfloat16().float().flatten().tolist(), "scalar": [3.0], "empty": []}) + "\n")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    metrics()
    tensors()
