#!/usr/bin/env python3
"""Does the recommended plan win? For one task: a search of so many trainings, everything included; its recommendation,
chosen on dev; then it and the usual methods, at the rates that the search calibrated, and full fine-tuning with a rate
chosen on dev, with several seeds on the test split; and AutoPEFT's space for the same training time.

    python3 benchmarks/prepare.py proof DATASETS_DIR
    python3 benchmarks/proof.py stsb --bin bin --out benchmarks/results/proof.jsonl

Everything that was trained is in the database beside the study file: the same command goes on where it was stopped. The
last line of a task and a model in the results counts. Tuning used none of these tasks with these rows: the recorded
tasks of benchmarks/peftbench were."""

import argparse
import json
import math
import pathlib
import statistics
import subprocess

HERE = pathlib.Path(__file__).parent / "proof"
CLASSES = "  kind: classification\n  columns: {%s}\n"
TASKS = {  # the section task, without its files
    "stsb": "  kind: regression\n  metric: spearman\n"
    "  columns: {text: sentence1, text_pair: sentence2, label: score}\n",
    "sst2": CLASSES % "text: sentence, label: label",
    "titles": CLASSES % "text: title, text_pair: summary, label: label",
    "mrpc": CLASSES % '"text": "#1 String", "text_pair": "#2 String", label: Quality',
    "cola": "  metric: mcc\n" + CLASSES % "text: sentence, label: label",
    "rte": CLASSES % "text: sentence1, text_pair: sentence2, label: label",
    "si-nli": CLASSES % "text: premise, text_pair: hypothesis, label: label",
    "copa": "  kind: multiple_choice\n"
    "  columns: {text: premise, question: question, choices: [choice1, choice2], label: label}\n",
}
USUAL = ["head", "lora-r8", "pfeiffer-16", "houlsby-16", "parallel-16", "prefix-30", "mam", "unipelt"]
FULL_RATES = ["2e-5", "5e-5", "1e-4", "2e-4"]  # of full fine-tuning


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--bin", default="bin", type=pathlib.Path, help="directory of peftsearch")
    parser.add_argument("--model", default=pathlib.Path("models/all-MiniLM-L6-v2"), type=pathlib.Path)
    parser.add_argument("--trainings", default=60, type=int)
    parser.add_argument("--seeds", default=5, type=int)
    parser.add_argument("--epochs", default="auto")
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--out", default=pathlib.Path("benchmarks/results/proof.jsonl"), type=pathlib.Path)
    args = parser.parse_args()
    proof = Proof(args)
    result = proof.run()
    with args.out.open("a", encoding="utf-8") as out:
        out.write(json.dumps(result) + "\n")
    print(table(result))


class Proof:
    def __init__(self, args):
        self.args = args
        self.db = HERE / f"{args.task}-{args.model.name}.db"

    def peftsearch(self, *words):
        done = subprocess.run(
            [self.args.bin / "peftsearch", *map(str, words), "--db", self.db],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return done.stdout

    def study(self, name, space, budget):
        """Write the file of a study and run it. Returns its document."""
        args, folder = self.args, "data" if self.args.task != "copa" else "../tasks/data"
        ending = "jsonl" if args.task == "copa" else "tsv"
        files = "".join(f"  {split}: {folder}/{args.task}/{split}.{ending}\n" for split in ("train", "dev", "test"))
        path = HERE / f"{name}-{args.task}-{args.model.name}.yaml"
        path.write_text(
            f"study: {name}\nmodel: {{path: {args.model.resolve()}}}\ntask:\n{TASKS[args.task]}{files}"
            f"{space}budget:\n  epochs: {args.epochs}\n  rungs: [0.5, 1]\n  train: {{epochs: 10, patience: 3}}\n"
            f"{budget}search: {{warm_start: none}}\nevaluator: {{threads: {args.threads}}}\n",
            encoding="utf-8",
        )
        self.peftsearch("run", path, "--plain")
        return json.loads(self.peftsearch("show", name, "--json"))

    def confirm(self, name, *words, seeds):
        return json.loads(self.peftsearch("confirm", name, *words, "--seeds", seeds, "--json"))["plans"]

    def run(self):
        args = self.args
        ours = self.study("proof", "", f"  trials: {args.trainings}\n")
        seconds = sum(t["result"]["wall_s"] for t in ours["trials"] if t["result"])
        recommended = json.loads(self.peftsearch("front", "proof", "--json"))["recommendation"]
        trials = sorted({recommended["trial"], recommended["best"]})
        rates = {}
        for rate in FULL_RATES:
            plan = self.confirm("proof", "--full", "--full-rate", rate, seeds=1)[0]
            rates[rate] = plan["trainings"][0]["result"]["score"]
        full = max(rates, key=rates.get)
        plans = self.confirm(
            "proof",
            "--trial",
            ",".join(map(str, trials)),
            "--preset",
            ",".join(USUAL),
            "--full",
            "--full-rate",
            full,
            seeds=args.seeds,
        )
        autopeft = self.study("autopeft", "space: {preset: autopeft}\n", f"  hours: {seconds / 3600:.6f}\n")
        theirs = json.loads(self.peftsearch("front", "autopeft", "--json"))["recommendation"]
        plans += self.confirm("autopeft", "--trial", theirs["trial"], seeds=args.seeds)
        plans[-1]["name"] = "AutoPEFT's space: " + plans[-1]["name"]
        return {
            "task": args.task,
            "model": args.model.name,
            "metric": ours["metric"],
            "trainings": args.trainings,
            "seconds": seconds,
            "rates": ours["identity"].get("training.learning_rate"),
            "full_rate": full,
            "recommended": recommended,
            "hypervolume": {"ours": ours["hypervolume"], "autopeft": autopeft["hypervolume"]},
            "plans": [
                {
                    "name": p["name"],
                    "params": p["params"],
                    "dev": [t["result"]["score"] for t in p["trainings"]],
                    "test": [t["result"]["test"][ours["metric"]] for t in p["trainings"]],
                }
                for p in plans
            ],
        }


def table(result):
    """The result in a table, with the recommended plan against the usual method that is best on dev."""
    plans = result["plans"]
    ours = next(p for p in plans if p["name"].startswith(f"trial {result['recommended']['trial']}"))
    usual = [p for p in plans if not p["name"].startswith(("trial", "AutoPEFT"))]
    rival = max(usual, key=lambda p: statistics.mean(p["dev"]))
    lines = [
        f"{result['task']}, {result['model']}: test {result['metric']}",
        "",
        "| plan | params | dev | test | sd |",
        "|---|---|---|---|---|",
    ]
    for p in sorted(plans, key=lambda p: -statistics.mean(p["test"])):
        sd = statistics.stdev(p["test"]) if len(p["test"]) > 1 else math.nan
        lines.append(
            f"| {p['name']} | {p['params']:,} | {statistics.mean(p['dev']):.4f} | "
            f"{statistics.mean(p['test']):.4f} | {sd:.4f} |"
        )
    differences = [a - b for a, b in zip(ours["test"], rival["test"])]
    error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else math.nan
    lines += [
        "",
        f"recommended − {rival['name']}, the usual method that is best on dev: "
        f"{statistics.mean(differences):+.4f} ± {error:.4f}, "
        f"with {ours['params'] / max(1, rival['params']):.2f} of its parameters",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
