"""Compare dev scores in bfloat16 with those in float32: the same plans, seeds and batches in both.

    python benchmarks/precision.py                 # MiniLM
    python benchmarks/precision.py --model models/bert-tiny

Prints, for each plan, the mean and the standard deviation over the seeds in both precisions and of the difference
seed by seed. CPUs without bfloat16 units take many times as long in bfloat16. Only the standard library is used.
"""

import argparse
import pathlib
import statistics

import compare
import plan

MODULES = {
    "lora": {"lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]}},
    "serial": {"serial": {"width": plan.SERIAL_WIDTH}},
    "hybrid": {
        "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]},
        "serial": {"width": plan.SERIAL_WIDTH},
        "prefix": {"length": plan.PREFIX_LENGTH},
    },
}
PRECISIONS = ("float32", "bfloat16")


def train(args, modules, precision, seed):
    return compare.bench(
        args.worker,
        {
            "model": str(args.model.resolve()),
            "head": "linear",
            "task": {
                "kind": "regression",
                "metric": "spearman",
                "train": str(compare.STSB / "train.tsv"),
                "dev": str(compare.STSB / "dev.tsv"),
                "columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
                "test_share": 0.1,
                "max_length": plan.MAX_LENGTH,
            },
            "settings": {
                "device": "cpu",
                "precision": precision,
                "threads": args.threads,
                "cache_memory": compare.CACHE,
            },
        },
        {
            "seed": seed,
            "budget": {"epochs": args.epochs, "train_rows": args.rows, "rungs": [1]},
            "candidate": {
                "plan": {"version": 1, "layers": [modules] * compare.config(args.model)["num_hidden_layers"]},
                "training": {
                    "learning_rate": plan.LEARNING_RATE,
                    "schedule": "linear",
                    "warmup_ratio": plan.WARMUP_RATIO,
                    "weight_decay": plan.WEIGHT_DECAY,
                    "batch_size": 32,
                    "max_grad_norm": plan.MAX_GRAD_NORM,
                },
            },
        },
        {"way": precision},
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--worker", default=compare.ROOT / "bin/peftsearch-worker")
    parser.add_argument("--model", default=compare.ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print("| plan | float32 | bfloat16 | difference | seconds a trial |\n|---|---|---|---|---|")
    for name, modules in MODULES.items():
        results = {
            precision: [train(args, modules, precision, seed) for seed in range(args.seeds)] for precision in PRECISIONS
        }
        full, low = ([r["score"] for r in results[p]] for p in PRECISIONS)
        spread = lambda values: f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"
        seconds = " and ".join(f"{statistics.median(r['wall_s'] for r in results[p]):.1f}" for p in PRECISIONS)
        print(
            f"| {name} | {spread(full)} | {spread(low)} | {spread([b - a for a, b in zip(full, low)])} | {seconds} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
