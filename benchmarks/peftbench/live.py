"""Search in real trainings, with the pruner and without: live.py RESULTS.jsonl.

Each search has 100 trials by gp of a study file of a record. Searches that are in the file already are skipped; a
search that was interrupted goes on. A table of the file goes to stdout: what was spent, in whole trainings; the final
hypervolume relative to that of the search without the pruner; the latter's when it had spent as much; how many
times less training it took to reach 95 % of its final one.
"""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import sqlite3
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STUDIES, SEEDS, PRUNERS, TRIALS = ("stsb-tiny", "titles-tiny"), (1, 2, 3), ("none", "front"), 100


def search(study, seed, pruner):
    name = f"{study}-{pruner}-{seed}"
    config = HERE / f"{name}.live.yaml"  # beside the data that it names
    database = HERE / f"{name}.live.db"
    text = (HERE / f"{study}.yaml").read_text()
    for old, new in (
        (f"study: {study}", f"study: {name}"),
        ("budget:", f"budget:\n  trials: {TRIALS}"),
        ("sampler: random", f"sampler: gp\n  seed: {seed}\n  pruner: {pruner}"),
    ):
        if text.count(old) != 1:
            raise SystemExit(f"Error: {study}.yaml has {text.count(old)} lines {old!r}, it should have one")
        text = text.replace(old, new)
    config.write_text(text)
    subprocess.run([ROOT / "bin/peftsearch", "run", config, "--db", database], check=True, stdout=subprocess.DEVNULL)
    with contextlib.closing(sqlite3.connect(database)) as db:
        (whole,) = db.execute("SELECT max(steps) FROM curves").fetchone()
        volumes = dict(db.execute("SELECT trial, hypervolume FROM fronts"))
        volume, rows = 0.0, []
        for number, state, params, score, steps in db.execute(
            "SELECT number, state, params, score, (SELECT max(step) FROM curves WHERE trial = number) "
            "FROM trials ORDER BY number"
        ):
            volume = volumes.get(number, volume)
            rows.append(
                {
                    "params": params,
                    "score": score,
                    "spent": round(steps / whole, 6),
                    "state": state,
                    "hypervolume": volume,
                }
            )
        (reference,) = db.execute("SELECT reference FROM studies").fetchone()
    for left in HERE.glob(f"{name}.live.*"):
        left.unlink()
    return {"study": study, "seed": seed, "pruner": pruner, "reference": json.loads(reference), "trials": rows}


def until(trials, volume):
    """What was spent when the hypervolume was reached; none if it never was."""
    spent = 0.0
    for trial in trials:
        spent += trial["spent"]
        if trial["hypervolume"] >= volume:
            return spent
    return None


def after(trials, budget):
    """The hypervolume of the trials that a budget is enough for."""
    spent, volume = 0.0, 0.0
    for trial in trials:
        spent += trial["spent"]
        if spent > budget:
            break
        volume = trial["hypervolume"]
    return volume


def table(runs):
    print(
        "| study | seed | stopped | trainings spent, of 100 | final hypervolume, of the unpruned "
        "| unpruned after as much training | to 95 %: times less |\n|---|---|---|---|---|---|---|"
    )
    for (study, seed, pruner), run in sorted(runs.items()):
        whole = runs.get((study, seed, "none"))
        if pruner == "none" or not whole:
            continue
        spent, final = sum(t["spent"] for t in run), whole[-1]["hypervolume"]
        soon = until(run, 0.95 * final)
        print(
            f"| `{study}` | {seed} | {sum(t['state'] == 'pruned' for t in run)} | {spent:.0f} "
            f"| {run[-1]['hypervolume'] / final:.3f} "
            f"| {after(whole, spent) / final:.3f} "
            f"| {f'{until(whole, 0.95 * final) / soon:.2f}' if soon else 'not reached'} |"
        )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    results, runs = pathlib.Path(sys.argv[1]), {}
    if results.exists():
        for run in map(json.loads, results.read_text().splitlines()):
            runs[run["study"], run["seed"], run["pruner"]] = run["trials"]
    version = subprocess.check_output(["git", "-C", HERE, "describe", "--always", "--dirty"], text=True).strip()
    for seed in SEEDS:
        for study in STUDIES:
            for pruner in PRUNERS:
                if (study, seed, pruner) not in runs:
                    run = search(study, seed, pruner)
                    run |= {
                        "date": str(datetime.date.today()),
                        "version": version,
                        "cores": os.cpu_count(),
                        "machine": platform.machine(),
                    }
                    runs[study, seed, pruner] = run["trials"]
                    with results.open("a") as file:
                        file.write(json.dumps(run) + "\n")
    table(runs)


if __name__ == "__main__":
    main()
