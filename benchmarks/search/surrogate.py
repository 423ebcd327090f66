"""Fit Gaussian processes to recorded trials of a task, so that any plan of its space can be scored.

surrogate.py surrogates/TASK.json RECORD.jsonl.gz ... writes a process for the best score up to each rung, and what
each was off by on plans that it was not fitted to (10 folds over the plans). The best score at the
last rung is the final one. The records may differ in the sampler that drew the plans, in nothing else.
"""

import gzip
import json
import pathlib
import sys

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.stats import spearmanr
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


class Process:
    """A Gaussian process with a Matérn-5/2 kernel. The columns of a group share a lengthscale: all layers' sizes of
    a method do, and which layers have it, or tens of lengthscales would fit tens of plans. Maximum a posteriori, in
    standardised scores, with wide normal priors on the logarithms of signal, noise and lengthscales."""

    PRIOR_MEANS, PRIOR_SDS = (0.0, -2.5, 0.3), (2.0, 2.0, 3.0)

    def __init__(self, groups):
        self.groups = groups

    def squares(self, a, b):
        """Squared distances of the rows in the columns of each group."""
        columns = (a[:, None] - b[None]) ** 2
        return np.stack([columns[..., self.groups == g].sum(-1) for g in range(np.max(self.groups) + 1)])

    @staticmethod
    def kernel(squares, theta):
        """The covariances and their derivative by the squared scaled distance."""
        r = np.sqrt(5 * np.tensordot(np.exp(-2 * theta[2:]), squares, 1))
        decay = np.exp(theta[0] - r)
        return (1 + r + r * r / 3) * decay, -5 / 6 * (1 + r) * decay

    def fit(self, x, y):
        self.x, self.mean, scale = x, np.mean(y), np.std(y)
        z, squares = (y - self.mean) / scale, self.squares(x, x)
        means, sds = (
            np.array([*prior[:2], *[prior[2]] * len(squares)]) for prior in (self.PRIOR_MEANS, self.PRIOR_SDS)
        )

        def loss(theta):
            covariance, slope = self.kernel(squares, theta)
            factor = cho_factor(covariance + np.exp(theta[1]) * np.eye(len(x)), lower=True)
            self.alpha = cho_solve(factor, z)
            w = cho_solve(factor, np.eye(len(x))) - np.outer(self.alpha, self.alpha)
            lengthscales = -2 * np.exp(-2 * theta[2:]) * np.tensordot(squares, w * slope, 2)
            gradient = np.array([np.sum(w * covariance), np.exp(theta[1]) * np.trace(w), *lengthscales]) / 2
            deviations = (theta - means) / sds
            return (
                z @ self.alpha / 2 + np.sum(np.log(np.diag(factor[0]))) + deviations @ deviations / 2,
                gradient + deviations / sds,
            )

        bounds = [(-4, 4), (-7, 1)] + [(-3, 5)] * len(squares)
        self.theta = minimize(loss, means, jac=True, method="L-BFGS-B", bounds=bounds).x
        loss(self.theta)  # leaves alpha there, not where the search looked last
        self.weights = scale * np.exp(self.theta[0]) * self.alpha
        return self

    def predict(self, x):
        return self.mean + self.kernel(self.squares(x, self.x), self.theta)[0] @ self.weights / np.exp(self.theta[0])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out, *records = map(pathlib.Path, sys.argv[1:])
    table, trials = load(records)
    top = np.array([len(d["levels"]) - 1 for d in table["dimensions"]])
    points = np.array([trial["point"] for trial in trials])
    least, most = table["reference"]["min_params"], table["reference"]["max_params"]
    cost = np.log(np.maximum([trial["params"] for trial in trials], least) / least) / np.log(most / least)
    x = np.column_stack([points / top, points > 0, cost])
    curves = np.maximum.accumulate([trial["curve"] for trial in trials], axis=1)  # best scores up to the rungs
    y = np.array([trial["score"] for trial in trials])
    assert np.array_equal(curves[:, -1], y)
    methods = [d["name"].rsplit(".", 1)[-1] for d in table["dimensions"]]
    kinds = methods + [f"{method} present" for method in methods] + ["cost"]
    groups = np.unique(kinds, return_inverse=True)[1]
    plans = np.unique(points, axis=0, return_inverse=True)[1].ravel()

    pairs = [y[plans == plan] for plan in np.unique(plans) if np.sum(plans == plan) > 1]
    noise = np.sqrt(np.mean([np.var(pair, ddof=1) for pair in pairs]))
    predicted = np.empty_like(curves)
    for train, test in GroupKFold(10, shuffle=True, random_state=0).split(x, y, plans):
        for rung, best in enumerate(curves.T):
            predicted[test, rung] = Process(groups).fit(x[train], best[train]).predict(x[test])
    residuals = curves - predicted
    rmse = np.sqrt(np.mean(residuals[:, -1] ** 2))
    held_out = {
        "rmse": rmse,
        "r2": 1 - rmse**2 / np.var(y),
        "spearman": spearmanr(predicted[:, -1], y).statistic,
        "trials": len(y),
        "plans": len(np.unique(plans)),
    }

    rungs = []
    for best in curves.T:
        process = Process(groups).fit(x, best)
        rungs.append(
            {
                "mean": process.mean,
                "scales": np.exp(process.theta[2:])[groups].tolist(),
                "weights": process.weights.tolist(),
            }
        )
        r = np.sqrt(5 * np.sum(((x[:5, None] - x[None]) / rungs[-1]["scales"]) ** 2, axis=-1))
        check = process.mean + (1 + r + r * r / 3) * np.exp(-r) @ process.weights
        assert np.allclose(check, process.predict(x[:5]))
    surrogate = {key: table[key] for key in ("metric", "geometry", "reference", "dimensions")} | {
        "records": [path.name for path in records],
        "held_out": held_out,
        "noise": noise,
        "points": points.tolist(),
        "shares": table["budget"]["rungs"],
        "rungs": rungs,
        "residuals": residuals.round(6).tolist(),
    }
    out.write_text(json.dumps(surrogate) + "\n")
    print(
        f"{out.name}: held-out error {rmse:.4f} (between seeds {noise:.4f}), R² {held_out['r2']:.3f}, "
        f"Spearman {held_out['spearman']:.3f} on {len(y)} trials of {held_out['plans']} plans"
    )


if __name__ == "__main__":
    main()
