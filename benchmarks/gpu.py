#!/usr/bin/env python3
"""What benchmarks/gpu.sh measures: whether the GPU's scores are the CPU's, a training step, a trial, evaluation, and
several trials at once, each in a process of its own; and the adapters library on the same batches where it is
installed."""

import argparse
import importlib.util
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent import futures

import compare
import plan

TOLERANCE = 5e-3  # of a correlation after 40 steps in float32: another device sums in another order
WARM_UP = 10  # steps before the clock starts
PEERS = ["sorted bfloat16", "dynamic autocast", "sorted autocast", "sorted bfloat16 compiled"]
MPS = "nvidia-cuda-mps-control"  # lets several processes use a GPU at the same time


def job(args, device, precision, lowest=0, cache=0, rows=0, epochs=compare.EPOCHS, seed=1, evaluations=1):
    """A hello and a job of the plan in the layers from `lowest` upwards; rows are of the training split, 0 for all."""
    module = {
        "serial": {"width": plan.SERIAL_WIDTH},
        "prefix": {"length": plan.PREFIX_LENGTH},
        "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]},
    }
    layers = compare.config(args.model)["num_hidden_layers"]
    return {
        "model": str(args.model),
        "head": "linear",
        "task": {
            "kind": "regression",
            "metric": "pearson",
            "train": str(args.train),
            "dev": str(args.dev),
            "columns": {"text": args.text, "text_pair": args.text_pair, "label": args.label},
            "max_length": plan.MAX_LENGTH,
        },
        "settings": {"device": device, "precision": precision, "threads": args.threads, "cache_memory": cache},
    }, {
        "seed": seed,
        "candidate": {
            "plan": {"version": 1, "layers": [module if i >= lowest else {} for i in range(layers)]},
            "training": {
                "learning_rate": plan.LEARNING_RATE,
                "schedule": "linear",
                "warmup_ratio": plan.WARMUP_RATIO,
                "weight_decay": plan.WEIGHT_DECAY,
                "batch_size": args.batch,
                "max_grad_norm": plan.MAX_GRAD_NORM,
            },
        },
        "budget": {"epochs": epochs, "rungs": [(i + 1) / evaluations for i in range(evaluations)], "train_rows": rows},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--worker", required=True, type=pathlib.Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default=compare.ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--train", default=compare.STSB / "train.tsv")
    parser.add_argument("--dev", default=compare.STSB / "dev.tsv")
    parser.add_argument("--threads", default=max(1, len(os.sched_getaffinity(0)) // 2), type=int)
    parser.add_argument("--steps", default=100, type=int, help="that are timed")
    parser.add_argument("--epochs", default=3, type=int, help="of a trial, each with an evaluation")
    parser.add_argument("--seconds", default=480, type=int, help="no measurement starts later")
    args = parser.parse_args()
    args.text, args.text_pair, args.label, args.outputs, args.batch = "sentence1", "sentence2", "score", 1, 32
    args.worker = args.worker.resolve()
    end = time.monotonic() + args.seconds
    version = subprocess.run([args.worker, "version"], text=True, capture_output=True)
    if version.returncode:
        sys.exit(
            f"Error: the worker does not start: {version.stderr.strip()}\n"
            "Try:   build it against this machine's PyTorch: make build LIBTORCH=python"
        )
    results = {"worker": version.stdout.strip(), "device": args.device, "machine": compare.machine(), "figures": {}}

    def measure(name, run):
        begin, figures = time.monotonic(), {"skipped": "out of time"}
        if begin < end:
            try:
                figures = run()
            except (RuntimeError, OSError) as error:
                figures = {"error": str(error)[-1500:]}
        results["figures"][name] = figures
        print(f"{name}: {time.monotonic() - begin:.0f} s, {json.dumps(figures)}", file=sys.stderr, flush=True)
        return figures

    def step(precision, lowest=0, cache=0, seed=1):
        return compare.bench(
            args.worker,
            *job(args, args.device, precision, lowest, cache, seed=seed),
            {"way": "ours", "warm_up": WARM_UP, "batches": batches},
        )

    def trial(device, precision, lowest=0, cache=0, **budget):
        return compare.bench(args.worker, *job(args, device, precision, lowest, cache, **budget), {"way": "ours"})

    def at_once(count):
        """As many processes at the same time, and their tokens per second together."""
        with futures.ThreadPoolExecutor(count) as pool:
            rates = [f["tokens_per_s"] for f in pool.map(lambda seed: step("auto", seed=seed), range(count))]
        return {"tokens_per_s": sum(rates), "median_of_one": statistics.median(rates)}

    rng, rows = random.Random(1), sum(1 for _ in open(args.train, encoding="utf-8")) - 1
    batches = [rng.sample(range(rows), args.batch) for _ in range(WARM_UP + args.steps)]
    upper = compare.upper_third(args.model)
    want, got = (
        measure(f"score, float32 on {device}", lambda device=device: trial(device, "float32", rows=640, epochs=2)).get(
            "score"
        )
        for device in ("cpu", args.device)
    )
    results["correct"] = want is not None and got is not None and abs(want - got) <= TOLERANCE
    scores = [
        measure(f"score, {number} time", lambda: trial(args.device, "auto", rows=640, epochs=2)).get("score")
        for number in ("first", "second")
    ]
    results["repeatable"] = scores[0] is not None and scores[0] == scores[1]
    measure("step, float32", lambda: step("float32"))
    measure("step", lambda: step("auto"))
    measure("step, upper third", lambda: step("auto", upper))
    measure("step, upper third, cached", lambda: step("auto", upper, compare.CACHE))
    measure("trial", lambda: trial(args.device, "auto", epochs=args.epochs, evaluations=args.epochs))
    measure(
        "trial, upper third, cached",
        lambda: trial(args.device, "auto", upper, compare.CACHE, epochs=args.epochs, evaluations=args.epochs),
    )
    for count in 2, 4, 8:
        measure(f"{count} at once", lambda: at_once(count))
    if args.device != "cpu" and shutil.which(MPS):
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
            subprocess.run([MPS, "-d"], check=True)
            for count in 8, 16:
                measure(f"{count} at once, MPS", lambda: at_once(count))
            subprocess.run([MPS], input="quit\n", text=True)
            del os.environ["CUDA_MPS_PIPE_DIRECTORY"], os.environ["CUDA_MPS_LOG_DIRECTORY"]
    if importlib.util.find_spec("adapters"):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "batches.json"
            path.write_text(json.dumps(batches))
            given = {"step": {"batches": path, "warm_up": WARM_UP}, "trial": {"dev": args.dev, "epochs": args.epochs}}

            def peer(what, way, lowest=0):
                return compare.peer(args, what, way, lowest, lambda _: given[what] | {"device": args.device}).run(1)

            best = PEERS[0]
            measure(f"adapters, {best}, step", lambda: peer("step", best))
            measure(f"adapters, {best}, step, upper third", lambda: peer("step", best, upper))
            measure(f"adapters, {best}, trial", lambda: peer("trial", best))
            for way in PEERS[1:]:
                measure(f"adapters, {way}, step", lambda: peer("step", way))
    print(json.dumps(results, indent=1))
    sys.exit(0 if results["correct"] else 1)


if __name__ == "__main__":
    main()
