"""Summarise result files: table.py OUT RESULTS.jsonl ... writes OUT.md and OUT.json.

Cells are the mean share of the best hypervolume over the seeds ± its standard error. Each arm is compared with
`peftsearch auto` of the same design, seed by seed: the mean difference, its standard error and the two-sided
Wilcoxon signed-rank test, with Holm's correction over the arms of a problem.
"""

import datetime
import json
import os
import pathlib
import platform
import sys

import numpy as np
from scipy.stats import wilcoxon

CHECKPOINTS = ("25", "50", "100", "200")
OURS = "peftsearch auto"


def read(paths):
    """The runs by problem, design, arm and seed, volumes as shares of the best; of a seed's the last of the longest."""
    runs, optima = {}, json.loads((pathlib.Path(__file__).parent / "optima.json").read_text())
    for path in paths:
        for run in map(json.loads, pathlib.Path(path).read_text().splitlines()):
            problem = f"{run['problem']}/{run['instance']}"
            if problem not in optima:
                sys.exit(
                    f"Error: optima.json lacks {problem}\nTry:   bin/bench-search optima benchmarks/search/optima.json"
                )
            run["volumes"] = {n: volume / optima[problem]["hypervolume"] for n, volume in run["volumes"].items()}
            seeds = runs.setdefault(run["problem"], {}).setdefault(run["design"], {}).setdefault(run["arm"], {})
            if run["seed"] not in seeds or run["evaluations"] >= seeds[run["seed"]]["evaluations"]:
                seeds[run["seed"]] = run
    return runs


def summary(values):
    values = np.array(values)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return {
        "mean": round(float(values.mean()), 4),
        "error": error if error is None else round(float(error), 4),
        "seeds": len(values),
    }


def paired(ours, theirs, checkpoint):
    """Ours minus theirs on the seeds that both have."""
    seeds = [s for s in theirs if s in ours and checkpoint in ours[s]["volumes"] and checkpoint in theirs[s]["volumes"]]
    if len(seeds) < 2:
        return None
    differences = np.array([ours[s]["volumes"][checkpoint] - theirs[s]["volumes"][checkpoint] for s in seeds])
    result = summary(differences)
    result["wins"] = int((differences > 0).sum())
    result["p"] = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return result


def holm(results):
    """Multiply the p values in place."""
    ordered = sorted((r for r in results if r), key=lambda r: r["p"])
    least = 0.0
    for i, r in enumerate(ordered):
        least = r["p"] = max(least, min(1.0, r["p"] * (len(ordered) - i)))


def tabulate(arms):
    """The cells of one problem and design."""
    rows = {}
    for arm in sorted(arms):
        runs = list(arms[arm].values())
        row = {
            "repeats": summary([run["repeats"] / run["evaluations"] for run in runs])["mean"],
            "volumes": {},
            "seconds": {},
        }
        for n in CHECKPOINTS:
            if volumes := [run["volumes"][n] for run in runs if n in run["volumes"]]:
                row["volumes"][n] = summary(volumes)
                row["seconds"][n] = float(np.median([run["seconds"][n] for run in runs if n in run["seconds"]]))
        rows[arm] = row
    if OURS in arms:
        for n in CHECKPOINTS:
            tests = {arm: paired(arms[OURS], arms[arm], n) for arm in arms if arm != OURS}
            holm(tests.values())
            for arm, test in tests.items():
                if test:
                    rows[arm].setdefault("auto_minus_arm", {})[n] = test
    return rows


def markdown(problem, design, rows):
    lines = [
        f"\n### {problem}, {design} start\n",
        "| arm | seeds | "
        + " | ".join(f"@{n}" for n in CHECKPOINTS)
        + " | auto − arm @100 | p | auto − arm @200 | s/suggestion @100 | repeats |",
        "|---|---|" + "---|" * (len(CHECKPOINTS) + 5),
    ]
    for arm, row in rows.items():
        count = max(s["seeds"] for s in row["volumes"].values())
        cell = lambda s: (
            "-"
            if not s
            else f"{s['mean']:.3f}"
            + ("" if s["error"] is None else f" ± {s['error']:.3f}")
            + ("" if s["seeds"] == count else f" ({s['seeds']} seeds)")
        )
        lead = lambda t: "" if not t else f"{t['mean']:+.3f} ± {t['error']:.3f} ({t['wins']}/{t['seeds']})"
        tests = row.get("auto_minus_arm", {})
        test = tests.get("100")
        seconds = row["seconds"].get("100")
        lines.append(
            " | ".join(
                [
                    f"| {arm}",
                    str(count),
                    *(cell(row["volumes"].get(n)) for n in CHECKPOINTS),
                    lead(test),
                    "" if not test else f"{test['p']:.2g}",
                    lead(tests.get("200")),
                    "-" if seconds is None else f"{seconds:.3g}",
                    f"{row['repeats']:.1%} |",
                ]
            )
        )
    return "\n".join(lines)


def machine():
    cpu = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out, *results = sys.argv[1:]
    runs = read(results)
    document = {"date": datetime.date.today().isoformat(), "machine": machine(), "versions": {}, "problems": {}}
    text = [
        "# Samplers side by side\n",
        "Share of the best known hypervolume, noise-free, mean ± standard error over the seeds; "
        "[how it is made and read](../../docs/explain/benchmarks.md).",
    ]
    for problem in sorted(runs):
        for design in sorted(runs[problem]):
            arms = runs[problem][design]
            rows = tabulate(arms)
            document["problems"].setdefault(problem, {})[design] = rows
            text.append(markdown(problem, design, rows))
            for seeds in arms.values():
                for run in seeds.values():
                    for package, version in run["versions"].items():
                        known = document["versions"].setdefault(package, [])
                        if version not in known:
                            known.append(version)
    versions = ", ".join(
        f"{package} {' and '.join(sorted(found))}" for package, found in sorted(document["versions"].items())
    )
    text.append(f"\n{document['machine']['cpu']}, one thread for each run. Versions: {versions}.")
    pathlib.Path(out + ".md").write_text("\n".join(text) + "\n")
    pathlib.Path(out + ".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
