#!/usr/bin/env python3
"""Write the testdata of data and its packages: what the reference libraries answer.

Made with Python 3.11 and torch 2.15.0, safetensors 0.8.0, scikit-learn 1.9.1, scipy 1.17.1, numpy 2.4.6,
seqeval 1.2.2. Run it in the repository root.
"""
import json
import pathlib
import warnings

import numpy
import safetensors.torch
import scipy.stats
import seqeval.metrics
import seqeval.scheme
import sklearn.metrics
import torch

OUT = pathlib.Path("data/testdata")
TENSORS = pathlib.Path("data/checkpoint/testdata")


def metrics():
    """Cases of data/metric: rows of answers, as that package writes them."""
    rng = numpy.random.default_rng(1)
    cases = []

    def add(metric, form, predictions, answers, score, tags=()):
        rows = lambda answers: [list(map(float, numpy.atleast_1d(row))) for row in answers]
        cases.append({"metric": metric, "form": form, "tags": list(tags), "predicted": rows(predictions), "actual": rows(answers),
                      "score": float(numpy.nan_to_num(score))})

    def classification(predictions, labels):
        fscore = lambda average, **more: sklearn.metrics.precision_recall_fscore_support(
            labels, predictions, average=average, zero_division=0, **more)
        case = lambda metric, score: add(metric, "classes", predictions, labels, score)
        case("accuracy", sklearn.metrics.accuracy_score(labels, predictions))
        with warnings.catch_warnings(action="ignore"):
            case("balanced_accuracy", sklearn.metrics.balanced_accuracy_score(labels, predictions))
        precision, recall, f1, _ = fscore("macro")
        case("f1_macro", f1)
        case("precision_macro", precision)
        case("recall_macro", recall)
        case("accuracy_f1_macro", (sklearn.metrics.accuracy_score(labels, predictions) + f1) / 2)
        case("mcc", sklearn.metrics.matthews_corrcoef(labels, predictions))
        if max(*predictions, *labels) <= 1:
            precision, recall, f1, _ = fscore("binary", labels=[0, 1])
            case("f1", f1)
            case("precision", precision)
            case("recall", recall)

    def regression(predictions, values):
        case = lambda metric, score: add(metric, "values", predictions, values, score)
        with warnings.catch_warnings(action="ignore"):
            case("pearson", scipy.stats.pearsonr(predictions, values).statistic)
            case("spearman", scipy.stats.spearmanr(predictions, values).statistic)
        case("neg_rmse", -sklearn.metrics.root_mean_squared_error(values, predictions))
        if min(values) < max(values):  # scikit-learn has no relative error: that of the mean is what it is relative to
            case("neg_rae", -sklearn.metrics.mean_absolute_error(values, predictions)
                 / sklearn.metrics.mean_absolute_error(values, numpy.full(len(values), numpy.mean(values))))

    def sets(predictions, labels):
        f1 = lambda average: sklearn.metrics.f1_score(labels, predictions, average=average, zero_division=0)
        for metric, score in [("accuracy", sklearn.metrics.accuracy_score(labels, predictions)), ("f1_micro", f1("micro")), ("f1_macro", f1("macro"))]:
            add(metric, "sets", predictions, labels, score)

    def sentences(predictions, labels, tags):
        number = lambda rows: [[tags.index(tag) for tag in row] for row in rows]
        case = lambda metric, score: add(metric, "tags", number(predictions), number(labels), score, tags)
        iob2 = {"mode": "strict", "scheme": seqeval.scheme.IOB2}
        with warnings.catch_warnings(action="ignore"):
            case("accuracy", seqeval.metrics.accuracy_score(labels, predictions))
            case("entity_precision", seqeval.metrics.precision_score(labels, predictions))
            case("entity_recall", seqeval.metrics.recall_score(labels, predictions))
            case("entity_f1", seqeval.metrics.f1_score(labels, predictions))
            case("entity_f1_macro", seqeval.metrics.f1_score(labels, predictions, average="macro"))
            case("entity_f1_strict", seqeval.metrics.f1_score(labels, predictions, **iob2))
            report = seqeval.metrics.classification_report(labels, predictions, output_dict=True)
        for kind, score in report.items():
            if " " not in kind:
                case("entity_f1_" + kind, score["f1-score"])

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
    for labels in (2, 3, 6):  # scikit-learn reads one column as classes
        for n in (1, 4, 30):
            truth = (rng.random((n, labels)) < rng.random(labels)).astype(int)
            sets(numpy.where(rng.random((n, labels)) < 0.7, truth, 1 - truth), truth)
            sets(numpy.zeros((n, labels), int), truth)
    tags = ["O", "B-LOC", "I-LOC", "B-ORG-X", "I-ORG-X", "B-per", "I-per"]
    for case in range(20):
        labels = [[str(rng.choice(tags)) if rng.random() < 0.6 else "O" for _ in range(rng.integers(1, 9))] for _ in range(4)]
        labels[0][0] = "B-LOC"  # seqeval averages over no types otherwise
        sentences([[tag if rng.random() < 0.7 else str(rng.choice(tags)) for tag in row] for row in labels], labels, tags)
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
