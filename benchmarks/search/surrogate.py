"""Fit a Gaussian process to recorded trials of a task, so that any plan of its space can be scored.

surrogate.py surrogates/TASK.json RECORD.jsonl.gz ... writes the process and its error on plans that it was not
fitted to (10 folds over the plans). The records may differ in the sampler that drew the plans, in nothing else.
"""
import gzip
import json
import pathlib
import sys

import numpy as np
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.model_selection import GroupKFold

SHARED = ("metric", "geometry", "dimensions", "reference", "fingerprint", "training", "budget")


def load(paths):
    tables, trials = [], []
    for path in paths:
        with gzip.open(path, "rt") as file:
            table, *rest = map(json.loads, file)
        tables.append({key: table[key] for key in SHARED})
        trials += [trial for trial in rest if "failure" not in trial]
    if any(table != tables[0] for table in tables):
        sys.exit("Error: the records differ in more than their plans")
    return tables[0], trials


def fit(x, y):
    dimensions = x.shape[1]
    kernel = (ConstantKernel(1.0, (1e-2, 1e2)) * Matern(np.ones(dimensions), (5e-2, 1e2), nu=2.5)
              + WhiteKernel(0.05, (1e-4, 1)))
    return GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=1, random_state=0).fit(x, y)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out, *records = map(pathlib.Path, sys.argv[1:])
    table, trials = load(records)
    top = np.array([len(d["levels"]) - 1 for d in table["dimensions"]])
    points = np.array([trial["point"] for trial in trials])
    x, y = points / top, np.array([trial["score"] for trial in trials])
    plans = np.unique(points, axis=0, return_inverse=True)[1].ravel()

    pairs = [y[plans == plan] for plan in np.unique(plans) if np.sum(plans == plan) > 1]
    noise = np.sqrt(np.mean([np.var(pair, ddof=1) for pair in pairs]))
    predicted = np.empty_like(y)
    for train, test in GroupKFold(10, shuffle=True, random_state=0).split(x, y, plans):
        predicted[test] = fit(x[train], y[train]).predict(x[test])
    rmse = np.sqrt(np.mean((predicted - y) ** 2))
    held_out = {"rmse": rmse, "r2": 1 - rmse ** 2 / np.var(y), "spearman": spearmanr(predicted, y).statistic,
                "trials": len(y), "plans": len(np.unique(plans))}

    process = fit(x, y)
    mean, scale = process._y_train_mean, process._y_train_std
    kernel = process.kernel_.k1
    surrogate = {key: table[key] for key in ("metric", "geometry", "reference", "dimensions")} | {
        "records": [path.name for path in records], "held_out": held_out, "noise": noise, "mean": mean,
        "scales": kernel.k2.length_scale.tolist(), "points": points.tolist(),
        "weights": (process.alpha_.ravel() * kernel.k1.constant_value * scale).tolist()}
    check = surrogate["mean"] + kernel.k2(x[:5], x) @ np.array(surrogate["weights"])
    assert np.allclose(check, process.predict(x[:5]))
    out.write_text(json.dumps(surrogate) + "\n")
    print(f"{out.name}: held-out error {rmse:.4f} (between seeds {noise:.4f}), R² {held_out['r2']:.3f}, "
          f"Spearman {held_out['spearman']:.3f} on {len(y)} trials of {held_out['plans']} plans")


if __name__ == "__main__":
    main()
