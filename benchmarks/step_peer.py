"""Time training steps of the adapters library, as a user's script would run them.

One process measures one way of working, so that its peak memory is its own:

    python step_peer.py WAY --model DIR --train FILE --text COL --text-pair COL --label COL ...

Ways: autopeft (float32, padded to 128 tokens, dropout), dynamic (padded to the longest of the batch,
dropout; with --autocast bfloat16), bucketed (batches of similar length, no dropout).
The plan is LoRA r8 on query and value + serial adapter 24 + flat prefix 10 in every layer. Prints one
JSON object. Tokenisation is not timed.
"""
import argparse
import contextlib
import csv
import json
import random
import resource
import time


def rows(args):
    with open(args.train, encoding="utf-8-sig", newline="") as f:
        for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
            yield row[args.text], row[args.text_pair], float(row[args.label])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["autopeft", "dynamic", "bucketed"])
    for name in ("model", "train", "text", "text-pair", "label"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--outputs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--autocast", action="store_true")
    args = parser.parse_args()

    import torch
    from adapters import AutoAdapterModel, ConfigUnion, LoRAConfig, PrefixTuningConfig, SeqBnConfig
    from transformers import AutoTokenizer

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    random.seed(0)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    extra = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0} if args.way == "bucketed" else {}
    model = AutoAdapterModel.from_pretrained(args.model, **extra)
    hidden = model.config.hidden_size
    model.add_classification_head("task", num_labels=args.outputs, layers=1)
    model.add_adapter("task", ConfigUnion(LoRAConfig(r=8, alpha=8), SeqBnConfig(reduction_factor=hidden / 24.5),
                                          PrefixTuningConfig(flat=True, prefix_length=10)))
    model.train_adapter("task")
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)

    data = list(rows(args))
    encoded = [tokenizer(a, b, truncation=True, max_length=128) for a, b, _ in data]
    order = list(range(len(data)))
    random.shuffle(order)
    if args.way == "bucketed":
        order.sort(key=lambda i: len(encoded[i]["input_ids"]))
    batches = [order[i:i + args.batch] for i in range(0, len(order) - args.batch + 1, args.batch)]
    random.shuffle(batches)

    def collate(batch):
        padding = {"padding": "max_length", "max_length": 128} if args.way == "autopeft" else {"padding": True}
        out = tokenizer.pad({k: [encoded[i][k] for i in batch] for k in encoded[0]}, return_tensors="pt", **padding)
        target = torch.tensor([data[i][2] for i in batch])
        return out, target if args.outputs == 1 else target.long()

    def step(inputs, target):
        autocast = torch.autocast("cpu", torch.bfloat16) if args.autocast else contextlib.nullcontext()
        with autocast:
            logits = model(**inputs).logits
        logits = logits.float()
        loss = (torch.nn.functional.mse_loss(logits[:, 0], target) if args.outputs == 1
                else torch.nn.functional.cross_entropy(logits, target))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    prepared = [collate(b) for b in batches[:args.warm_up + args.steps]]
    for inputs, target in prepared[:args.warm_up]:
        step(inputs, target)
    start = time.perf_counter()
    for inputs, target in prepared[args.warm_up:]:
        step(inputs, target)
    seconds = time.perf_counter() - start
    examples = args.batch * (len(prepared) - args.warm_up)
    print(json.dumps({"way": args.way + ("+bfloat16" if args.autocast else ""), "samples_per_s": examples / seconds,
                      "ms_per_step": 1000 * seconds / (len(prepared) - args.warm_up),
                      "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                      "torch": torch.__version__, "threads": args.threads}))


if __name__ == "__main__":
    main()
