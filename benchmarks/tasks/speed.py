"""Measure how many tokens a second each kind of task trains: plan.py's plan in every layer, rows of this folder.

    python3 benchmarks/tasks/speed.py [--worker BINARY ...]

after `make build models/all-MiniLM-L6-v2` and prepare.py. Kinds alternate within a repetition; so do workers, of which
an old one says what a change costs (one that does not know a kind is left out there). Prints the medians and writes
benchmarks/results/tasks-DATE.json.
"""

import argparse
import datetime
import json
import pathlib
import random
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import compare
import plan

DATA = pathlib.Path(__file__).parent / "data"
# The task, and how many rows are a step: about as many tokens for every kind.
KINDS = {
    "regression": (
        compare.STSB / "train.tsv",
        "spearman",
        {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
        32,
    ),
    "multilabel": (DATA / "types/train.jsonl", "f1_micro", {"text": "text", "label": "types"}, 32),
    "token_classification": (DATA / "ner/train.tsv", "entity_f1", {"text": "#1", "label": "#2"}, 32),
    "multiple_choice": (
        DATA / "openbookqa/train.jsonl",
        "accuracy",
        {"text": "stem", "choices": ["choices"], "label": "answer"},
        12,
    ),
    "coreference": (
        DATA / "gap/train.tsv",
        "f1",
        {
            "text": "Text",
            "spans": ["Pronoun", "A", "B"],
            "offsets": ["Pronoun-offset", "A-offset", "B-offset"],
            "labels": ["A-coref", "B-coref"],
        },
        10,
    ),
}


def rows(path):
    """How many examples a file has."""
    text = path.read_text(encoding="utf-8-sig").strip()
    if path.parent.name == "ner":
        return len(text.split("\n\n"))
    return len(text.split("\n")) - (path.suffix == ".tsv")


def measure(worker, kind, seed, args):
    train, metric, columns, batch = KINDS[kind]
    rng, few = random.Random(seed), rows(train) // 2  # dev is carved out of train
    batches = [rng.sample(range(few), batch) for _ in range(args.warm_up + args.steps)]
    module = {
        "serial": {"width": plan.SERIAL_WIDTH},
        "prefix": {"length": plan.PREFIX_LENGTH},
        "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]},
    }
    return compare.bench(
        worker,
        {
            "model": str(args.model),
            "head": "linear",
            "task": {
                "kind": kind,
                "metric": metric,
                "train": str(train),
                "dev_share": 0.1,
                "columns": columns,
                "max_length": plan.MAX_LENGTH,
            },
            "settings": {"device": "cpu", "precision": "auto", "threads": args.threads, "cache_memory": 0},
        },
        {
            "seed": seed,
            "candidate": {
                "plan": {"version": 1, "layers": [module] * compare.config(args.model)["num_hidden_layers"]},
                "training": {
                    "learning_rate": plan.LEARNING_RATE,
                    "schedule": "linear",
                    "warmup_ratio": plan.WARMUP_RATIO,
                    "weight_decay": plan.WEIGHT_DECAY,
                    "batch_size": batch,
                    "max_grad_norm": plan.MAX_GRAD_NORM,
                },
            },
            "budget": {"epochs": compare.EPOCHS, "rungs": [1]},
        },
        {"way": kind, "warm_up": args.warm_up, "batches": batches},
    )


def main():
    options = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    options.add_argument("--worker", nargs="+", default=[compare.ROOT / "bin/peftsearch-worker"], type=pathlib.Path)
    options.add_argument("--model", default=compare.ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--steps", type=int, default=20, help="steps to time")
    options.add_argument("--warm-up", type=int, default=3, help="steps before the clock starts")
    options.add_argument("--repetitions", type=int, default=3)
    args = options.parse_args()
    facts, runs = compare.machine(), []
    for seed in range(args.repetitions):
        for kind in KINDS:
            for number, worker in enumerate(args.worker):
                try:
                    runs.append(
                        {"kind": kind, "worker": number, "repetition": seed, **measure(worker, kind, seed, args)}
                    )
                except RuntimeError as error:
                    if number == 0:
                        sys.exit(f"Error: {error}")
    medians = {}
    for run in runs:
        name = run["kind"] + (f", worker {run['worker']}" if run["worker"] else "")
        mine = [r for r in runs if (r["kind"], r["worker"]) == (run["kind"], run["worker"])]
        medians[name] = {
            key: statistics.median(r[key] for r in mine) for key in ("tokens_per_s", "ms_per_step", "peak_bytes")
        }
    today = datetime.date.today().isoformat()
    out = compare.HERE / "results" / f"tasks-{today}.json"
    settings = {key: getattr(args, key) for key in ("threads", "steps", "warm_up", "repetitions")} | {
        "model": args.model.name
    }
    out.write_text(
        json.dumps(
            {
                "benchmark": "tasks",
                "date": today,
                "machine": facts,
                "commit": compare.git("rev-parse", "HEAD"),
                "settings": settings,
                "medians": medians,
                "runs": runs,
            },
            indent=1,
        )
        + "\n"
    )
    compare.table(medians)
    print(
        f"\n{args.repetitions} repetitions, medians; {args.threads} of {facts['cores']} cores of {facts['cpu']}; "
        f"load before {facts['load_before']:.1f}; {out}"
    )


if __name__ == "__main__":
    main()
