#!/usr/bin/env python3
"""Write studies/testdata/statistics.json: intervals of confirmed scores, and the studentised range.

Made with Python 3.11 and scipy 1.17.1.
"""

import json
import math
from pathlib import Path

from scipy import stats

SAMPLES = [
    [0.81, 0.83, 0.82, 0.84, 0.80],
    [0.79, 0.80, 0.81, 0.78, 0.80],
    [0.812, 0.835, 0.78],
    [0.5, 0.5001],
]

document = {"samples": [], "range": []}
for scores in SAMPLES:
    low, high = stats.t.interval(0.95, len(scores) - 1, stats.tmean(scores), stats.sem(scores))
    document["samples"].append({"scores": scores, "mean": stats.tmean(scores), "sd": stats.tstd(scores), "low": low, "high": high})
for groups in (2, 3, 5, 12, 50):
    for nu in (1, 1.3, 2, 2.66, 5, 9, 20.5, 100, 2000):
        for q in (0.3, 1, 3, 4.5, 8, 30, 200):
            p = 2 * stats.t.sf(q / math.sqrt(2), nu) if groups == 2 else stats.studentized_range.sf(q, groups, nu)
            document["range"].append([groups, nu, q, p])

out = Path(__file__).parents[2] / "studies" / "testdata" / "statistics.json"
out.parent.mkdir(exist_ok=True)
out.write_text(json.dumps(document, default=float).replace("], [", "],\n [").replace("}, {", "},\n {") + "\n")
