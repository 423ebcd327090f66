#!/usr/bin/env python3
"""Write studies/testdata/statistics.json: intervals and p-values of confirmed scores.

Made with Python 3.11 and scipy 1.17.1.
"""

import json
from pathlib import Path

from scipy import stats

SAMPLES = [
    [0.81, 0.83, 0.82, 0.84, 0.80],
    [0.79, 0.80, 0.81, 0.78, 0.80],
    [0.812, 0.835, 0.78],
    [0.5, 0.5001],
]

document = {"samples": [], "welch": []}
for scores in SAMPLES:
    low, high = stats.t.interval(0.95, len(scores) - 1, stats.tmean(scores), stats.sem(scores))
    document["samples"].append({"scores": scores, "mean": stats.tmean(scores), "sd": stats.tstd(scores), "low": low, "high": high})
for i, a in enumerate(SAMPLES):
    for j, b in enumerate(SAMPLES[:i]):
        document["welch"].append({"a": i, "b": j, "p": stats.ttest_ind(a, b, equal_var=False).pvalue})

out = Path(__file__).parents[2] / "studies" / "testdata" / "statistics.json"
out.parent.mkdir(exist_ok=True)
out.write_text(json.dumps(document, indent=1, default=float) + "\n")
