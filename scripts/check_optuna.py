"""Checks that Optuna opens what `peftsearch export --to optuna` writes, and finds in it what peftsearch shows.

    python scripts/check_optuna.py bin/peftsearch models/all-MiniLM-L6-v2
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

STUDY = """study: check
model: {path: %s}
task: {kind: classification, train: train.tsv, columns: {text: text, label: label}}
space: {preset: groups, learning_rate: [0.0005, 0.001]}
budget: {trials: 80}
search: {sampler: nsga2, pruner: front}
baselines: [head, lora-r8]
evaluator: {analytic: true}
"""


def main():
    binary, model = (str(Path(p).resolve()) for p in sys.argv[1:])
    with tempfile.TemporaryDirectory() as directory:
        def run(*arguments):
            return subprocess.run([binary, *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout

        rows = "".join(f"sentence number {i}\t{'no' if i % 2 else 'yes'}\n" for i in range(100))
        Path(directory, "train.tsv").write_text("text\tlabel\n" + rows)
        Path(directory, "study.yaml").write_text(STUDY % model)
        run("run", "study.yaml", "--quiet")
        run("export", "check", "--to", "optuna", "--out", "check.log")
        front = json.loads(run("front", "check", "--json"))["front"]
        trials = json.loads(run("show", "check", "--json"))["trials"]

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = JournalStorage(JournalFileBackend(str(Path(directory, "check.log"))))
        study = optuna.load_study(study_name="check", storage=storage, sampler=optuna.samplers.TPESampler(seed=1))
        names = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL", "running": "RUNNING", "waiting": "WAITING"}
        assert [t.state.name for t in study.trials] == [names[t["state"]] for t in trials]
        assert any(t["state"] == "pruned" for t in trials), "the check needs pruned trials"
        for ours, theirs in zip(trials, study.trials):
            if ours["state"] == "complete":
                assert theirs.values == [ours["result"]["score"], ours["params"]], ours["trial"]
                assert theirs.params["learning_rate"] == ours["training"]["learning_rate"]
        ours = sorted((m["params"], m["score"]) for m in front)
        theirs = sorted({(int(t.values[1]), t.values[0]) for t in study.best_trials})
        assert ours == theirs, (ours, theirs)
        importances = optuna.importance.get_param_importances(study, target=lambda t: t.values[0])
        trial = study.ask()  # Optuna can go on with it
        trial.suggest_int("L00.serial", 0, 96)
        study.tell(trial, [0.5, 123])
        print(f"Optuna {optuna.__version__} reads {len(trials)} trials, the same front of {len(front)} plans, "
              f"and finds {next(iter(importances))} most important")


main()
