"""Run ways of training side by side, each measurement in a process of its own, and tabulate them.

Ways alternate within a repetition, so that a slow minute of the machine falls on all of them; the seed of a
repetition, which draws its batches, is its number.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys

import plan

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
STSB = ROOT / "examples/data/stsb"
CACHE = 1 << 30  # bytes, of a cached way
BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
EPOCHS = 1000  # more than any number of timed steps


def parser(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--worker", default=ROOT / "bin/peftsearch-worker")
    parser.add_argument("--model", default=ROOT / "models/all-MiniLM-L6-v2", type=pathlib.Path)
    parser.add_argument("--train", default=STSB / "train.tsv")
    parser.add_argument("--dev", default=STSB / "dev.tsv")
    parser.add_argument("--text", default="sentence1")
    parser.add_argument("--text-pair", default="sentence2")
    parser.add_argument("--label", default="score")
    parser.add_argument("--outputs", type=int, default=1, help="number of labels; 1 is regression")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--warm-up", type=int, default=5, help="steps before the clock starts")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--ways", nargs="+", help="measure these ways only")
    parser.add_argument("--out", type=pathlib.Path, help="result file, if not one of today in benchmarks/results")
    return parser


def upper_third(model):
    """The lowest layer of the upper third."""
    layers = layer_count(model)
    return layers - max(1, layers // 3)


def layer_count(model):
    return json.loads((model / "config.json").read_text())["num_hidden_layers"]


def bench(worker, hello, job, measure):
    """What the worker's bench measures of a job; the dictionaries are the protocol's, without types."""
    messages = [{"type": "hello", "protocol": 1} | hello, {"type": "evaluate", "trial": 0} | job, measure]
    return answer([worker, "bench"], "\n".join(map(json.dumps, messages)))


def ours(args, way, lowest=0, cache=0, **measure):
    """Measure our worker with the plan's modules from layer lowest upwards; measure is what bench asks for."""
    def run(seed):
        module = {"serial": {"width": plan.SERIAL_WIDTH}, "prefix": {"length": plan.PREFIX_LENGTH},
                  "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]}}
        layers = [module if i >= lowest else {} for i in range(layer_count(args))]
        epochs = measure.get("epochs", EPOCHS)
        regression = args.outputs == 1
        messages = [
            {"type": "hello", "protocol": 1, "model": str(args.model), "head": "linear",
             "task": {"kind": "regression" if regression else "classification",
                      "metric": "pearson" if regression else "accuracy", "train": str(args.train), "dev": str(args.dev),
                      "columns": {"text": args.text, "text_pair": args.text_pair, "label": args.label},
                      "max_length": plan.MAX_LENGTH},
             "settings": {"device": "cpu", "precision": "auto", "threads": args.threads, "cache_memory": cache}},
            {"type": "evaluate", "trial": 0, "seed": seed,
             "candidate": {"plan": {"version": 1, "layers": layers},
                           "training": {"learning_rate": plan.LEARNING_RATE, "schedule": "linear",
                                        "warmup_ratio": plan.WARMUP_RATIO, "weight_decay": plan.WEIGHT_DECAY,
                                        "batch_size": args.batch, "max_grad_norm": plan.MAX_GRAD_NORM}},
             "budget": {"epochs": epochs, "rungs": measure.get("rungs", [1])}},
            {"way": way, "warm_up": args.warm_up, "steps": measure.get("steps", 0)},
        ]
        return answer([args.worker, "bench"], "\n".join(map(json.dumps, messages)))
    return way, run


def peer(args, script, way, *extra):
    """Measure a peer's script with this Python."""
    def run(seed):
        command = [sys.executable, HERE / script, way.partition("+")[0], "--model", args.model, "--train", args.train,
                   "--text", args.text, "--text-pair", args.text_pair, "--label", args.label,
                   "--outputs", args.outputs, "--threads", args.threads, "--batch", args.batch, "--seed", seed, *extra]
        return answer(command + ["--autocast"] * way.endswith("+autocast"))
    return way, run


def answer(command, stdin=""):
    """The JSON object in the last line that a command prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(list(map(str, command)), input=stdin, text=True, capture_output=True, env=environment)
    if process.returncode != 0:
        sys.exit(f"Error: {command[0]} {command[1]} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def machine():
    cpu = dict(line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in cpu.items()}
    flags = cpu.get("flags", "").split()
    return {"cpu": cpu.get("model name", platform.machine()), "cores": len(os.sched_getaffinity(0)),
            "flags": {flag: flag in flags for flag in ("avx2", "avx512f", *BFLOAT16_FLAGS)},
            "load_before": os.getloadavg()[0]}


def versions(runs):
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True, capture_output=True)
    found = {"commit": commit.stdout.strip(), "python": platform.python_version()}
    for package in ("torch", "transformers", "adapters", "tokenizers"):
        found[package] = importlib.metadata.version(package)
    return found | {"libtorch": run["libtorch"] for run in runs if "libtorch" in run}


def compare(name, args, ways, peers, figure, higher_is_better):
    """Measure the ways (pairs of a name and a function of the seed), write the JSON and print the table.

    A ratio says how many times better a way's median of the figure is than a peer's. Without bfloat16 units a step
    with autocast takes minutes, which no user would bear: such ways are then measured only if --ways names them.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running measurement ends too
    facts, runs = machine(), []
    if args.ways:
        unknown = set(args.ways) - {way for way, _ in ways}
        if unknown:
            sys.exit(f"Error: no way {', '.join(sorted(unknown))}\nTry:   {', '.join(way for way, _ in ways)}")
        ways = [(way, run) for way, run in ways if way in args.ways]
    elif not any(facts["flags"][flag] for flag in BFLOAT16_FLAGS):
        ways = [(way, run) for way, run in ways if not way.endswith("+autocast")]
    for repetition in range(args.repetitions):
        for way, run in ways:
            print(f"repetition {repetition + 1} of {args.repetitions}: {way}", file=sys.stderr)
            runs.append({"repetition": repetition, **run(repetition)})

    medians = {}
    for way, _ in ways:
        mine = [run for run in runs if run["way"] == way]
        medians[way] = {key: statistics.median(run[key] for run in mine)
                        for key, value in mine[0].items() if isinstance(value, float) or key == "peak_bytes"}
    peers = [peer for peer in peers if peer in medians]

    def ratio(way, peer):
        quotient = medians[way][figure] / medians[peer][figure]
        return quotient if higher_is_better else 1 / quotient

    ratios = {way: {peer: ratio(way, peer) for peer in peers} for way in medians}
    today = datetime.date.today().isoformat()
    out = args.out or HERE / "results" / f"{name}-{today}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: value for key, value in vars(args).items() if key not in ("worker", "out", "ways")}
    for key in ("model", "train", "dev"):
        settings[key] = pathlib.Path(settings[key]).name
    out.write_text(json.dumps({
        "benchmark": name, "date": today, "machine": facts, "versions": versions(runs), "settings": settings,
        "medians": medians, "ratios": ratios, "runs": runs}, indent=1) + "\n")
    table(medians, ratios, peers)
    print(f"\n{args.repetitions} repetitions, medians; {facts['cores']} cores of {facts['cpu']}; {out}")


def table(medians, ratios, peers):
    keys = list(next(iter(medians.values())))
    rows = [["way", *(("peak MB" if key == "peak_bytes" else key) for key in keys), *("× " + peer for peer in peers)]]
    for way, values in medians.items():
        cells = [f"{values[key] / 1e6:.0f}" if key == "peak_bytes" else f"{values[key]:.4g}" for key in keys]
        rows.append([way, *cells, *(f"{ratios[way][peer]:.2f}" for peer in peers)])
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))
