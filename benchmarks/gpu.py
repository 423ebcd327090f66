#!/usr/bin/env python3
"""What benchmarks/gpu.sh measures. Every measurement is a `peftsearch-worker bench` of its own."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import plan

ROOT = pathlib.Path(__file__).resolve().parent.parent
STSB = ROOT / "examples/data/stsb"
END = time.monotonic() + 9 * 60  # no measurement starts later
TOLERANCE = 5e-3  # of a correlation after 40 steps in float32: another device sums in another order


def messages(args, device, precision, measure, rows=0, epochs=1000.0, seed=1):
    """The lines that bench reads; rows are of the training split, 0 for all."""
    module = {"serial": {"width": plan.SERIAL_WIDTH}, "prefix": {"length": plan.PREFIX_LENGTH},
              "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]}}
    layers = json.loads((args.model / "config.json").read_text())["num_hidden_layers"]
    return "\n".join(map(json.dumps, [
        {"type": "hello", "protocol": 1, "model": str(args.model), "head": "linear",
         "task": {"kind": "regression", "metric": "spearman", "train": str(args.train), "dev": str(args.dev),
                  "columns": {"text": "sentence1", "text_pair": "sentence2", "label": "score"}, "max_length": plan.MAX_LENGTH},
         "settings": {"device": device, "precision": precision, "threads": args.threads}},
        {"type": "evaluate", "trial": 0, "seed": seed,
         "candidate": {"plan": {"version": 1, "layers": [module] * layers},
                       "training": {"learning_rate": plan.LEARNING_RATE, "schedule": "linear", "warmup_ratio": plan.WARMUP_RATIO,
                                    "weight_decay": plan.WEIGHT_DECAY, "batch_size": 32, "max_grad_norm": plan.MAX_GRAD_NORM}},
         "budget": {"epochs": epochs, "rungs": [1], "train_rows": rows}},
        measure]))


def start(args, lines):
    process = subprocess.Popen([args.worker, "bench"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdin.write(lines)
    process.stdin.close()
    return process


def finish(process):
    output, errors = process.stdout.read(), process.stderr.read()
    if process.wait():
        return {"error": errors[-1000:]}
    return json.loads(output.splitlines()[-1])


def step(args, precision, count, warm_up=10):
    """A training step: `count` of them in each of as many processes as asked for at the same time."""
    return messages(args, args.device, precision, {"way": precision, "warm_up": warm_up, "steps": count})


def trial(args, device, precision, rows, epochs):
    return messages(args, device, precision, {"way": f"{precision} on {device}", "warm_up": 0, "steps": 0}, rows, epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default=ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--train", default=STSB / "train.tsv")
    parser.add_argument("--dev", default=STSB / "dev.tsv")
    parser.add_argument("--threads", default=max(1, len(os.sched_getaffinity(0)) // 2), type=int)
    args = parser.parse_args()
    args.worker = str(pathlib.Path(args.worker).resolve())
    version = subprocess.run([args.worker, "version"], text=True, capture_output=True)
    if version.returncode:
        sys.exit(f"Error: the worker does not start: {version.stderr.strip()}\nTry:   build it against this machine's PyTorch: make build LIBTORCH=python")
    results = {"worker": version.stdout.strip(), "device": args.device}

    def measure(name, *lines):
        if time.monotonic() > END:
            results[name] = {"skipped": "out of time"}
            return results[name]
        begin = time.monotonic()
        found = [finish(process) for process in [start(args, line) for line in lines]]
        results[name] = found if len(found) > 1 else found[0]
        print(f"{name}: {time.monotonic() - begin:.0f} s, {json.dumps(results[name])[:300]}", file=sys.stderr, flush=True)
        return results[name]

    scores = {}
    for device, precision in ("cpu", "float32"), (args.device, "float32"), (args.device, "bfloat16"):
        scores[device, precision] = measure(f"score, {precision} on {device}", trial(args, device, precision, 640, 2.0)).get("score")
    want, got = scores["cpu", "float32"], scores[args.device, "float32"]
    results["correct"] = want is not None and got is not None and abs(want - got) <= TOLERANCE

    for precision in "float32", "bfloat16":
        measure(f"step, {precision}", step(args, precision, 50))
    measure("trial, auto", trial(args, args.device, "auto", 2000, 3.0))
    for processes in 2, 4, 8:
        found = measure(f"{processes} at once", *[step(args, "auto", 50)] * processes)
        if isinstance(found, list) and all("error" not in one for one in found):
            results[f"{processes} at once, samples_per_s"] = sum(one["samples_per_s"] for one in found)
    measure("evaluation, auto", trial(args, args.device, "auto", 32, 1.0))
    print(json.dumps(results, indent=1))
    sys.exit(0 if results["correct"] else 1)


if __name__ == "__main__":
    main()
