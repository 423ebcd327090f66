"""Run ways of training side by side, each measurement in a process of its own, and tabulate them.

Ways alternate within a repetition, so that a slow minute of the machine falls on all of them. All of them train the
same rows. A way is compared with those that train the same layers.
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
    parser.add_argument("--train", default=STSB / "train.tsv", type=pathlib.Path)
    parser.add_argument("--dev", default=STSB / "dev.tsv", type=pathlib.Path)
    parser.add_argument("--text", default="sentence1")
    parser.add_argument("--text-pair", default="sentence2")
    parser.add_argument("--label", default="score")
    parser.add_argument("--outputs", type=int, default=1, help="number of labels; 1 is regression")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--ways", nargs="+", help="measure these ways only")
    parser.add_argument("--out", type=pathlib.Path, help="result file, if not one of today in benchmarks/results")
    return parser


def config(model):
    return json.loads((model / "config.json").read_text())


def upper_third(model):
    """The lowest layer of the upper third."""
    layers = config(model)["num_hidden_layers"]
    return layers - max(1, layers // 3)


class Way:
    """A way of training from a layer upwards; run(seed) gives its figures, or ends with the reason."""

    def __init__(self, name, lowest, run):
        self.name, self.lowest, self.run = name, lowest, run


def bench(worker, hello, job, measure):
    """What the worker's bench measures of a job; the dictionaries are the protocol's, without types."""
    messages = [{"type": "hello"} | hello, {"type": "evaluate", "trial": 0} | job, measure]
    return answer([worker, "bench"], "\n".join(map(json.dumps, messages)))


def ours(args, name, lowest=0, cache=0, measure=lambda seed: {}, **budget):
    """Our worker; measure gives what bench asks for."""

    def run(seed):
        module = {
            "serial": {"width": plan.SERIAL_WIDTH},
            "prefix": {"length": plan.PREFIX_LENGTH},
            "lora": {"rank": plan.LORA_RANK, "alpha": plan.LORA_RANK, "targets": ["query", "value"]},
        }
        layers = [module if i >= lowest else {} for i in range(config(args.model)["num_hidden_layers"])]
        regression = args.outputs == 1
        return bench(
            args.worker,
            {
                "model": str(args.model),
                "head": "linear",
                "task": {
                    "kind": "regression" if regression else "classification",
                    "metric": "pearson" if regression else "accuracy",
                    "train": str(args.train),
                    "dev": str(args.dev),
                    "max_length": plan.MAX_LENGTH,
                    "columns": {"text": args.text, "text_pair": args.text_pair, "label": args.label},
                },
                "settings": {"device": "cpu", "precision": "auto", "threads": args.threads, "cache_memory": cache},
            },
            {
                "seed": seed,
                "candidate": {
                    "plan": {"version": 1, "layers": layers},
                    "training": {
                        "learning_rate": plan.LEARNING_RATE,
                        "schedule": "linear",
                        "warmup_ratio": plan.WARMUP_RATIO,
                        "weight_decay": plan.WEIGHT_DECAY,
                        "batch_size": args.batch,
                        "max_grad_norm": plan.MAX_GRAD_NORM,
                    },
                },
                "budget": {"epochs": EPOCHS, "rungs": [1]} | budget,
            },
            {"way": name, **measure(seed)},
        )

    return Way(name, lowest, run)


def peer(args, what, name, lowest=0, options=lambda seed: {}):
    """The adapters library; name is a way of peer.py, with words after a comma for the table alone."""

    def run(seed):
        command = [sys.executable, HERE / "peer.py", what, name.partition(",")[0], "--lowest", lowest, "--seed", seed]
        shared = {
            key: getattr(args, key)
            for key in ("model", "train", "text", "text_pair", "label", "outputs", "threads", "batch")
        }
        for key, value in (shared | options(seed)).items():
            command += ["--" + key.replace("_", "-"), value]
        return answer(command)

    return Way(name, lowest, run)


def answer(command, stdin=""):
    """The JSON object in the last line that a command prints."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = subprocess.run(list(map(str, command)), input=stdin, text=True, capture_output=True, env=environment)
    if process.returncode != 0:
        raise RuntimeError(
            f"{' '.join(map(str, command[:4]))} ended with {process.returncode}:\n{process.stderr[-2000:]}"
        )
    return json.loads(process.stdout.splitlines()[-1])


def machine():
    cpu = dict(line.split(":", 1) for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
    cpu = {key.strip(): value.strip() for key, value in cpu.items()}
    flags = cpu.get("flags", "").split()
    return {
        "cpu": cpu.get("model name", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "flags": {flag: flag in flags for flag in ("avx2", "avx512f", *BFLOAT16_FLAGS)},
        "load_before": os.getloadavg()[0],
    }


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, text=True, capture_output=True, check=True).stdout.strip()


def versions(runs):
    found = {"commit": git("rev-parse", "HEAD"), "python": platform.python_version()}
    for package in ("torch", "transformers", "adapters", "tokenizers"):
        found[package] = importlib.metadata.version(package)
    return found | {"libtorch": run["libtorch"] for run in runs if "libtorch" in run}


def compare(name, args, ways, figure, higher_is_better, derive=lambda medians: {}):
    """Measure the ways, write the JSON and print the table. The first words of a way's name say whose it is.

    A ratio says how many times better the median of the figure is than that of a way of the library that trains the
    same layers. derive adds to the JSON what is computed from the medians. A way of the library that fails is left
    out with its reason; without bfloat16 units those that need them take minutes for a step, and are measured only if
    --ways names them.
    """
    if git("status", "--porcelain", "--untracked-files=no"):
        sys.exit("Error: the tree has changes, so the result would belong to no commit\nTry:   commit or stash them")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running measurement ends too
    facts, runs, failed = machine(), [], {}
    if args.ways:
        unknown = set(args.ways) - {way.name for way in ways}
        if unknown:
            sys.exit(f"Error: no way {', '.join(sorted(unknown))}\nTry:   {', '.join(repr(way.name) for way in ways)}")
        ways = [way for way in ways if way.name in args.ways]
    elif not any(facts["flags"][flag] for flag in BFLOAT16_FLAGS):
        ways = [way for way in ways if "autocast" not in way.name and "bfloat16" not in way.name]
    for repetition in range(args.repetitions):
        for way in ways:
            if way.name in failed:
                continue
            print(f"repetition {repetition + 1} of {args.repetitions}: {way.name}", file=sys.stderr)
            try:
                runs.append({"repetition": repetition, **way.run(repetition), "way": way.name})
            except RuntimeError as error:
                if way.name.startswith("ours"):
                    sys.exit(f"Error: {error}")
                failed[way.name] = str(error)
                print(f"left out: {error}", file=sys.stderr)
    ways = [way for way in ways if way.name not in failed]
    tokens = {(run["repetition"], run["tokens"]) for run in runs if "tokens" in run}
    if len(tokens) > args.repetitions:
        sys.exit(f"Error: the ways of a repetition had other tokens: {sorted(tokens)}")

    medians = {}
    for way in ways:
        mine = [run for run in runs if run["way"] == way.name]
        medians[way.name] = {
            key: statistics.median(run[key] for run in mine)
            for key, value in mine[0].items()
            if isinstance(value, float) or key == "peak_bytes"
        }

    def ratio(way, peer):
        quotient = medians[way.name][figure] / medians[peer.name][figure]
        return quotient if higher_is_better else 1 / quotient

    ratios = {
        way.name: {
            peer.name: ratio(way, peer)
            for peer in ways
            if not peer.name.startswith("ours") and peer.lowest == way.lowest
        }
        for way in ways
        if way.name.startswith("ours")
    }
    today = datetime.date.today().isoformat()
    out = args.out or HERE / "results" / f"{name}-{today}.json"
    settings = {key: value for key, value in vars(args).items() if key not in ("worker", "out", "ways")}
    settings |= {key: pathlib.Path(settings[key]).name for key in ("model", "train", "dev")}
    out.write_text(
        json.dumps(
            {
                "benchmark": name,
                "date": today,
                "machine": facts,
                "versions": versions(runs),
                "settings": settings,
                "medians": medians,
                "ratios": ratios,
                "failed": failed,
                **derive(medians),
                "runs": runs,
            },
            indent=1,
        )
        + "\n"
    )
    table(medians)
    for way, against in ratios.items():
        print(f"\n{way}: " + ", ".join(f"{value:.2f} × {peer}" for peer, value in against.items()))
    print(
        f"\n{args.repetitions} repetitions, medians; {facts['cores']} cores of {facts['cpu']}; "
        f"load before {facts['load_before']:.1f}; {out}"
    )


def table(medians):
    keys = list(dict.fromkeys(key for values in medians.values() for key in values))
    rows = [["way", *("peak MB" if key == "peak_bytes" else key for key in keys)]]
    for way, values in medians.items():
        rows.append(
            [
                way,
                *(
                    f"{values[key] / 1e6:.0f}" if key == "peak_bytes" else f"{values[key]:.4g}" if key in values else ""
                    for key in keys
                ),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]))
