#!/usr/bin/env python3
"""Load exports in the libraries that they are made for, and compare logits with the formula.

`make check-exports` runs it in the repository root with torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2,
onnxruntime 1.32.0 and safetensors 0.8.0. It takes 10 minutes on 2 cores. Words on the command line select the cases with
all of them in their names. --also "NAME=PYTHON" (several times) loads the exports in another environment too: that of
transformers 5, and those of older versions of peft.

It first writes trained directories with random tensors, exports each in every format, runs the code of the export's
README.md, and compares the loaded model on real sentence pairs with a plain PyTorch forward pass of the formula in
peft/doc.go, which uses none of the libraries; then it trains plans of the methods that the formula lacks, and compares
with `peftsearch predict`. It prints a table and ends with 1 if logits differ by more than 2e-5 of
their size (2e-3 where a linear head becomes two layers), or if something is refused, or not refused, against what
docs/reference/exports.md says.
"""
import argparse
import contextlib
import csv
import hashlib
import json
import logging
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import warnings

import numpy
import safetensors.torch
import tokenizers
import torch
import torch.nn.functional as F
import transformers

PEFTSEARCH = pathlib.Path("bin/peftsearch").resolve()  # `make build`
FORMATS = ["adapters", "peft", "merged", "transformers", "onnx"]
INPUTS, BATCH = 200, 40
EXACT = 2e-5  # rounding of float32
STEP = 1e-3  # of how far one step of training moves the loss
LINEAR = 2e-3  # a linear head in a class with a tanh before it (linearScale in peft/family.go), with random weights
TARGETS = ["query", "key", "value", "attention_output", "ffn_in", "ffn_out"]
MODULES = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
           "attention_output": "attention.output.dense", "ffn_in": "intermediate.dense", "ffn_out": "output.dense"}
# What DistilBERT calls the parts of a layer, by BERT's names; of two that are alike, the longer one first.
DISTILBERT = {"encoder.layer.": "transformer.layer.", "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
              "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin", "intermediate.dense": "ffn.lin1",
              "output.dense": "ffn.lin2", "attention.output.LayerNorm": "sa_layer_norm", "output.LayerNorm": "output_layer_norm"}
TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json"]  # those that count in these models' directories


def lora(rank, alpha, *targets):
    return {"lora": {"rank": rank, "alpha": alpha, "targets": list(targets)}}


def serial(width):
    return {"serial": {"width": width}}


def parallel(width):
    return {"parallel": {"width": width}}


def prefix(length):
    return {"prefix": {"length": length}}


def cases(tiny, mini, roberta, xlm, camembert, electra, distilbert):
    """Name, model, layers, head, outputs, and the kind of the task if its heads are not those of the number of outputs."""
    rnd = torch.Generator().manual_seed(7)

    def draw(*options):
        return options[int(torch.randint(len(options), (1,), generator=rnd))]

    def hybrid(layers):
        plan = []
        for _ in range(layers):
            layer = {}
            for option in (serial(draw(1, 13, 24)), parallel(draw(7, 33)), prefix(draw(2, 5)),
                           lora(draw(2, 4), draw(1.5, 8), *draw(["query", "value"], ["key"], ["ffn_in", "ffn_out"], ["query", "ffn_in"]))):
                if draw(True, False):
                    layer |= option
            plan.append(layer)
        return plan

    one = "query", "value"
    yield "serial", mini, [serial(24)] * 6, "linear", 1
    yield "parallel", mini, [parallel(24)] * 6, "linear", 3
    yield "prefix", mini, [prefix(5)] * 6, "dense", 1
    yield "prefix, linear head", tiny, [prefix(3)] * 2, "linear", 2
    yield "prefix, some layers", mini, [{}, prefix(7), {}, prefix(7), {}, {}], "linear", 1
    yield "prefixes of two lengths", mini, [prefix(2), {}, prefix(9), prefix(2), {}, {}], "linear", 2
    yield "lora", mini, [lora(8, 16, *one)] * 6, "linear", 1
    yield "lora, dense head", mini, [lora(8, 16, *one)] * 6, "dense", 3
    yield "lora, every target", tiny, [lora(3, 6, *TARGETS)] * 2, "dense", 2
    yield "lora, all but attention_output", tiny, [lora(3, 6, *TARGETS[:3], *TARGETS[4:])] * 2, "linear", 2
    yield "loras of two ranks", mini, [lora(2, 8, *one), {}, lora(16, 16, *one), lora(2, 8, *one), {}, {}], "linear", 1
    yield "loras of two alphas", mini, [lora(4, 8, *one), {}, lora(4, 2.5, *one), {}, {}, {}], "linear", 1
    yield "head only", tiny, [{}] * 2, "linear", 3
    yield "serial and parallel apart", mini, [serial(13), parallel(26), {}, {}, serial(1), {}], "linear", 1
    yield "serial and parallel together", mini, [serial(13) | parallel(26), {}, serial(2), {}, parallel(5), {}], "dense", 1
    yield "serial and parallel everywhere", tiny, [serial(5) | parallel(6)] * 2, "linear", 1
    yield "everything in a layer", tiny, [serial(5) | parallel(6) | prefix(3) | lora(2, 4, *one)] * 2, "linear", 2
    for n in range(1, 7):
        yield f"hybrid {n}", mini, hybrid(6), draw("linear", "dense"), draw(1, 2, 5)
    yield "roberta lora", roberta, [lora(2, 4, *TARGETS)] * 2, "dense", 2
    yield "roberta lora, linear head", roberta, [lora(2, 4, *one), {}], "linear", 1
    yield "roberta prefix", roberta, [prefix(4)] * 2, "dense", 2  # PEFT cannot run it
    yield "roberta hybrid", roberta, [serial(5) | parallel(6) | lora(2, 4, *one), prefix(3) | serial(2)], "linear", 2
    for name, model in (("xlm-roberta", xlm), ("camembert", camembert), ("electra", electra), ("distilbert", distilbert)):
        yield f"{name} hybrid", model, [serial(5) | parallel(6) | lora(2, 4, *one), prefix(3) | serial(2)], "linear", 2
        yield f"{name} hybrid, dense head", model, [parallel(6) | prefix(2), serial(2) | lora(3, 6, "key", "ffn_in", "ffn_out")], "dense", 1
        yield f"{name} lora", model, [lora(2, 4, *TARGETS), lora(3, 3, *one)], "dense", 2
        yield f"{name} lora, linear head", model, [lora(2, 4, *TARGETS[:3], *TARGETS[4:]), {}], "linear", 3
        yield f"{name} prefix", model, [prefix(4)] * 2, "linear", 2
    for kind, outputs in (("multilabel", 3), ("token_classification", 5), ("multiple_choice", 1), ("coreference", 2)):
        for name, model in (("bert", tiny), ("roberta", roberta), ("electra", electra), ("distilbert", distilbert)):
            yield f"{name} {kind} lora", model, [lora(2, 4, *one), {}], "linear", outputs, kind
        yield f"bert {kind} lora, dense head", tiny, [lora(2, 4, *one), {}], "dense", outputs, kind
        yield f"bert {kind} prefix", tiny, [prefix(3)] * 2, "linear", outputs, kind


def trained_cases():
    """Name, layers of a plan for a model of two layers that is trained here, the libraries' formats that hold it, and the
    input's modules."""
    one = "query", "value"

    def bottleneck(method, **settings):
        return [{method: {"width": 5} | settings}] * 2

    def low_rank(method, **settings):
        return [{method: {"targets": list(one)} | settings}] * 2

    yield "serial gelu, scaled", bottleneck("serial", non_linearity="gelu", scale=0.5), {"adapters"}
    yield "serial, learned scale", bottleneck("serial", learned_scale=True), {"adapters"}
    yield "parallel tanh, learned scale", bottleneck("parallel", learned_scale=True, non_linearity="tanh"), {"adapters"}
    yield "houlsby", [{"houlsby": {"width": 5}}, {"houlsby": {"width": 7}}], {"adapters"}
    yield "compacter", [{"compacter": {"width": 4}}, {"compacter": {"width": 8, "non_linearity": "tanh", "scale": 2}}], {"adapters"}
    yield "compacter++", [{"compacter": {"width": 4, "ffn_only": True}}, {"compacter": {"width": 12, "ffn_only": True, "learned_scale": True}}], {"adapters"}
    yield ("compacter beside others", [{"compacter": {"width": 4}, "prefix": {"length": 2}},
                                       {"compacter": {"width": 8}} | lora(2, 4, *one)], {"adapters"})
    yield "serial, gated", bottleneck("serial", gate=True), {"adapters"}
    yield "parallel, gated", bottleneck("parallel", gate=True), {"adapters"}
    yield "lora, gated", low_rank("lora", rank=3, alpha=3, gate=True), {"adapters"}
    yield "prefix, gated", [{"prefix": {"length": 3, "gate": True}}] * 2, set()
    yield ("dora", [{"dora": {"rank": 3, "alpha": 6, "targets": list(one)}},
                    {"dora": {"rank": 2, "alpha": 2, "targets": ["ffn_in"]}}], {"peft", "merged"})
    yield "vera", low_rank("vera", rank=8), {"peft", "merged"}
    yield "ia3", [{"ia3": {"targets": ["key", "value", "ffn_out"]}}] * 2, {"peft", "merged"}
    yield "bitfit", [{"bitfit": {}}, {"bitfit": {"norms": True}}], {"merged"}
    yield "trained prefix", [{"prefix": {"length": 3}}] * 2, {"adapters", "peft"}
    yield "prompt", [{}] * 2, {"peft"}, {"prompt": {"length": 4}}
    yield "prompt, after first", [{}] * 2, set(), {"prompt": {"length": 4, "after_first": True}}
    yield "prompt, normed", [{}] * 2, {"adapters"}, {"prompt": {"length": 4, "normed": True}}
    yield "prompt, normed after first", [{}] * 2, {"adapters"}, {"prompt": {"length": 4, "normed": True, "after_first": True}}
    yield ("prompt, normed beside others", [{"serial": {"width": 5}, "prefix": {"length": 2}}, {"prefix": {"length": 3}}], {"adapters"},
           {"prompt": {"length": 3, "normed": True, "after_first": True}})


def gpt2_cases():
    """The same for a GPT-2, where query, key and value are one matrix."""
    one = "query", "value"
    yield "gpt2 serial", [serial(5), serial(2)], {"adapters"}
    yield "gpt2 parallel, prefix", [parallel(5) | prefix(3), prefix(3)], {"adapters"}
    yield "gpt2 prefixes of two lengths", [prefix(3), prefix(5)], {"adapters"}
    yield "gpt2 houlsby", [{"houlsby": {"width": 5}}, {"houlsby": {"width": 7}}], {"adapters"}
    yield "gpt2 compacter", [{"compacter": {"width": 4}}, {"compacter": {"width": 8, "ffn_only": True}}], {"adapters"}
    yield "gpt2 everything", [serial(3) | prefix(2) | lora(2, 4, *one, "ffn_in")] * 2, {"adapters"}
    yield "gpt2 lora", [lora(3, 6, *one), lora(3, 6, *one)], {"adapters", "peft", "merged"}
    yield "gpt2 loras of two ranks", [lora(3, 6, *one), lora(2, 6, "key")], {"peft", "merged"}
    yield "gpt2 lora, every target", [lora(3, 6, *TARGETS)] * 2, {"peft", "merged"}
    yield "gpt2 dora", [{"dora": {"rank": 2, "alpha": 4, "targets": [*TARGETS[:3], "ffn_out"]}}, {}], {"peft", "merged"}
    yield "gpt2 dora, query", [{"dora": {"rank": 2, "alpha": 4, "targets": ["query"]}}, {}], {"merged"}
    yield "gpt2 vera", [{"vera": {"rank": 8, "targets": ["attention_output", "ffn_out"]}}] * 2, {"peft", "merged"}
    yield "gpt2 ia3", [{"ia3": {"targets": ["key", "value", "ffn_out"]}}] * 2, {"peft", "merged"}
    yield "gpt2 head only", [{}, {}], {"adapters", "merged"}


def t5_cases():
    """The same for a T5 with gates and attention that is narrower than its layers: two layers of an encoder, two of a decoder."""
    own, both = ("query", "value"), ("query", "value", "cross_query", "cross_value")
    shifted, crossed = ({"prefix": {"length": 3, "shifted": True, "cross": cross}} for cross in (False, True))
    yield "t5 serial", [serial(5), {}, serial(2), serial(3)], {"adapters"}
    yield "t5 parallel", [{}, parallel(5), parallel(5), {}], {"adapters"}
    yield "t5 serial and parallel", [serial(5) | parallel(4), {}, parallel(5), serial(3)], {"adapters"}
    yield "t5 houlsby", [{"houlsby": {"width": 5}}, {}, {}, {"houlsby": {"width": 7}}], {"adapters"}
    yield "t5 prefix", [prefix(3)] * 4, set()
    yield "t5 prefix, shifted", [shifted] * 2 + [crossed] * 2, {"adapters"}
    yield "t5 prefix, shifted, decoder", [{}] * 2 + [shifted] * 2, {"adapters"}
    yield "t5 prefix, shifted, some layers", [{}, shifted, {}, {}], set()
    yield "t5 lora", [lora(3, 6, *own)] * 2 + [lora(3, 6, *both)] * 2, {"adapters", "peft", "merged"}
    yield "t5 lora, one attention", [lora(3, 6, *own), {}, lora(3, 6, *own, "ffn_in"), lora(2, 6, "cross_key")], {"adapters", "peft", "merged"}
    yield "t5 lora, every target", [lora(3, 6, *TARGETS)] * 2 + [lora(3, 6, *TARGETS, *(f"cross_{t}" for t in ("query", "key", "value", "output")))] * 2, {"peft", "merged"}
    yield "t5 everything", [serial(3) | shifted | lora(2, 4, *own, "ffn_in")] * 2 + [parallel(3) | crossed | lora(2, 4, *both, "ffn_out")] * 2, {"adapters"}
    yield "t5 dora", [{"dora": {"rank": 2, "alpha": 4, "targets": ["query", "ffn_in"]}}, {}, {"dora": {"rank": 2, "alpha": 4, "targets": ["cross_value"]}}, {}], {"peft", "merged"}
    yield "t5 vera", [{"vera": {"rank": 8, "targets": ["attention_output", "ffn_out"]}}] * 2 + [{"vera": {"rank": 8, "targets": ["cross_key"]}}] * 2, {"peft", "merged"}
    yield "t5 ia3", [{"ia3": {"targets": ["key", "value", "ffn_out"]}}] * 2 + [{"ia3": {"targets": ["cross_key", "cross_value", "ffn_out"]}}] * 2, {"peft", "merged"}
    yield "t5 head only", [{}] * 4, {"adapters", "merged"}


STUDY = """study: exports
model: {path: %s, head: %s}
task:
  kind: regression
  train: %s/train.tsv
  dev: %s/dev.tsv
  columns: {text: sentence1, text_pair: sentence2, label: score}
training: {learning_rate: 5.0e-3}
budget: {trials: 1, train_rows: 400, rungs: [1], train: {epochs: 0.3}}
evaluator: {precision: float32, threads: 2}
"""


def write_gpt2(place):
    """A small random GPT-2 with a tokenizer of its own."""
    sentences = (pathlib.Path("examples/data/stsb") / "train.tsv").read_text(encoding="utf-8").splitlines()[:2000]
    tokens = tokenizers.ByteLevelBPETokenizer()
    tokens.train_from_iterator(sentences, vocab_size=600, special_tokens=["<|endoftext|>"], show_progress=False)
    transformers.GPT2TokenizerFast(tokenizer_object=tokens._tokenizer).save_pretrained(place)
    torch.manual_seed(5)
    config = transformers.GPT2Config(vocab_size=tokens.get_vocab_size(), n_embd=64, n_layer=2, n_head=2, n_positions=128,
                                     initializer_range=0.2, bos_token_id=0, eos_token_id=0)
    transformers.GPT2Model(config).save_pretrained(place)


def write_t5(place, kind):
    """A small random T5 or mT5 with a tokenizer of its own."""
    sentences = (pathlib.Path("examples/data/stsb") / "train.tsv").read_text(encoding="utf-8").splitlines()[:2000]
    tokens = tokenizers.SentencePieceUnigramTokenizer()
    tokens.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
    tokens.train_from_iterator(sentences, vocab_size=600, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False)
    tokens.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    transformers.T5TokenizerFast(tokenizer_object=tokens._tokenizer, extra_ids=0).save_pretrained(place)
    torch.manual_seed(5)
    config = kind.config_class(vocab_size=tokens.get_vocab_size(), d_model=64, d_kv=24, d_ff=96, num_layers=2, num_heads=2,
                               feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0)
    kind(config).save_pretrained(place)


def check_trained(place, model, cases, coded, words, head="linear"):
    """Compares exports of plans that are trained with what `peftsearch predict` says, one row at a time: the library's
    gates average over padding. coded are the formats with code of the model, which hold every plan. Returns the number of
    failures."""
    data = pathlib.Path("examples/data/stsb").resolve()
    (place / "study.yaml").write_text(STUDY % (model, head, data, data))
    with open(data / "dev.tsv", newline="", encoding="utf-8") as f:
        rows = [(r["sentence1"], r["sentence2"]) for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE)][:INPUTS]
    (place / "rows.tsv").write_text("\n".join("\t".join(r) for r in [("sentence1", "sentence2"), *rows]) + "\n")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoded = [tokenizer(*row, truncation=True, max_length=128, return_tensors="pt") for row in rows]
    failures = 0

    def peftsearch(*arguments):
        return subprocess.run([PEFTSEARCH, *arguments], capture_output=True, text=True)

    for name, layers, libraries, *at_input in cases:
        held = libraries | coded
        if not all(word in name for word in words):
            continue
        trained = place / name
        (place / "plan.json").write_text(json.dumps({"version": 2, "input": (at_input or [{}])[0], "layers": layers}))
        for arguments in (["train", "--plan", place / "plan.json", "--config", place / "study.yaml", "--out", trained, "-q"],
                          ["predict", trained, "--input", place / "rows.tsv", "--json", "-q"]):
            done = peftsearch(*arguments)
            done.check_returncode()
        want = [p["logits"][0] for p in json.loads(done.stdout)["predictions"]]
        row = f"{name:38}{head:>8}{1:>9}"
        for to in FORMATS:
            out = place / f"{name}-{to}"
            if peftsearch("export", trained, "--to", to, "--out", out).returncode:
                right = to not in held
                row += f"{'refused' if right else 'wrong':>13}"
            else:
                with torch.no_grad():
                    names = load(out, {model.name: str(model)})
                    worst = max(relative(run(names, e), torch.tensor(w)).item() for e, w in zip(encoded, want))
                right = to in held and worst <= (tolerance(head, to) if coded else EXACT)
                row += f"{worst:13.1e}"
            failures += not right
        print(row, flush=True)
    return failures


def tolerance(head, to):
    return LINEAR if head == "linear" and to in ("peft", "merged") else EXACT


def refused(plan, head, model_type, to, kind):
    """Whether the format cannot hold the plan with the head of a task."""
    if to in ("transformers", "onnx"):
        return False
    if kind == "coreference" or kind == "token_classification" and head == "dense" and to != "adapters":
        return True
    if kind == "multiple_choice" and to == "peft" and "prefix" in plan[0]:
        return True
    if to == "adapters" and model_type == "camembert" or to != "adapters" and head == "dense" and model_type in ("electra", "distilbert"):
        return True
    used = {m for layer in plan for m in layer}
    targets = {t for layer in plan for t in layer.get("lora", {}).get("targets", [])}
    if to == "adapters":
        return "attention_output" in targets
    if to == "merged":
        return bool(used - {"lora"})
    uniform = model_type == "bert" and used == {"prefix"} and all(layer == plan[0] for layer in plan)
    return used != {"lora"} and not uniform


def fingerprint(model):
    total = hashlib.sha256()
    for name in ["config.json", "model.safetensors", *TOKENIZER_FILES]:
        if (model / name).exists():
            digest = hashlib.sha256((model / name).read_bytes()).hexdigest()
            total.update(f"{name}\n{digest}\n".encode())
    return total.hexdigest()


class Reference:
    """The formula, on a plan's tensors."""

    def __init__(self, model, plan, head, outputs, seed, kind):
        self.config = c = json.loads((model / "config.json").read_text())
        for ours, theirs in (("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("intermediate_size", "hidden_dim")):
            c.setdefault(ours, c.get(theirs))
        c.setdefault("layer_norm_eps", 1e-12)
        self.plan, self.head, self.kind = plan, head, kind
        self.w = {}
        for name, t in safetensors.torch.load_file(model / "model.safetensors").items():
            name = re.sub(r"^(bert|roberta)\.", "", name).replace("gamma", "weight").replace("beta", "bias")
            for bert, theirs in DISTILBERT.items():
                name = name.replace(theirs, bert)
            self.w[name] = t.float() if t.is_floating_point() else t
        g, d = torch.Generator().manual_seed(seed), c["hidden_size"]

        def tensor(std, *shape):
            return torch.randn(shape, generator=g) * std

        wide = 2 * d if kind == "coreference" else d
        self.modules, self.heads = {}, {"head.weight": tensor(0.3, outputs, wide), "head.bias": tensor(0.3, outputs)}
        if head == "dense":
            self.heads |= {"head.dense.weight": tensor(0.1, wide, wide), "head.dense.bias": tensor(0.1, wide)}
        if kind == "coreference":
            self.heads["head.pool.weight"] = tensor(0.3, 1, d)
        for i, layer in enumerate(plan):
            for kind in ("serial", "parallel"):
                if kind in layer:
                    b, name = layer[kind]["width"], f"layers.{i}.{kind}."
                    self.modules |= {name + "down.weight": tensor(0.1, b, d), name + "down.bias": tensor(0.1, b),
                                     name + "up.weight": tensor(0.1, d, b), name + "up.bias": tensor(0.1, d)}
            if "prefix" in layer:
                p = layer["prefix"]["length"]
                self.modules |= {f"layers.{i}.prefix.keys": tensor(1, p, d), f"layers.{i}.prefix.values": tensor(1, p, d)}
            for target in layer.get("lora", {}).get("targets", []):
                out, wide = self.w[f"encoder.layer.{i}.{MODULES[target]}.weight"].shape
                rank = layer["lora"]["rank"]
                self.modules |= {f"layers.{i}.lora.{target}.a": tensor(0.1, rank, wide),
                                 f"layers.{i}.lora.{target}.b": tensor(0.1, out, rank)}

    def linear(self, i, target, x):
        name = f"encoder.layer.{i}.{MODULES[target]}"
        y = F.linear(x, self.w[name + ".weight"], self.w[name + ".bias"])
        low_rank = self.plan[i].get("lora", {"targets": []})
        if target in low_rank["targets"]:
            a, b = self.modules[f"layers.{i}.lora.{target}.a"], self.modules[f"layers.{i}.lora.{target}.b"]
            y = y + low_rank["alpha"] / low_rank["rank"] * (x @ a.T) @ b.T
        return y

    def norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], self.config["layer_norm_eps"])

    def adapter(self, i, kind, h):
        m = {k: self.modules[f"layers.{i}.{kind}.{k}"] for k in ("down.weight", "down.bias", "up.weight", "up.bias")}
        return F.linear(F.relu(F.linear(h, m["down.weight"], m["down.bias"])), m["up.weight"], m["up.bias"])

    def logits(self, **inputs):
        """What the head says of each row, of each token or, two rows being an example, of each choice."""
        if inputs["input_ids"].dim() == 3:  # examples of choices
            inputs = {key: value.flatten(0, 1) for key, value in inputs.items()}
        with torch.no_grad():
            logits = self.scores(**inputs)
        return logits.view(-1, 2) if self.kind == "multiple_choice" else logits

    def scores(self, input_ids, attention_mask, token_type_ids=None, spans=None):
        c, w, mask = self.config, self.w, attention_mask
        n, s = input_ids.shape
        heads, d = c["num_attention_heads"], c["hidden_size"]
        positions = torch.arange(s)[None].expand(n, s)
        if c["model_type"] in ("roberta", "xlm-roberta", "camembert"):
            positions = torch.where(mask.bool(), positions + c["pad_token_id"] + 1, c["pad_token_id"])
        x = w["embeddings.word_embeddings.weight"][input_ids] + w["embeddings.position_embeddings.weight"][positions]
        if "embeddings.token_type_embeddings.weight" in w:
            x = x + w["embeddings.token_type_embeddings.weight"][token_type_ids]
        x = self.norm("embeddings.LayerNorm", x)
        if "embeddings_project.weight" in w:
            x = F.linear(x, w["embeddings_project.weight"], w["embeddings_project.bias"])
        for i, layer in enumerate(self.plan):
            q, k, v = (self.linear(i, t, x) for t in TARGETS[:3])
            visible = mask.bool()
            if "prefix" in layer:
                keys, values = (self.modules[f"layers.{i}.prefix.{part}"] for part in ("keys", "values"))
                k, v = (torch.cat([t.expand(n, *t.shape), own], 1) for t, own in ((keys, k), (values, v)))
                visible = torch.cat([torch.ones(n, len(keys), dtype=bool), visible], 1)
            q, k, v = (t.view(n, -1, heads, d // heads).transpose(1, 2) for t in (q, k, v))
            scores = (q @ k.transpose(2, 3) / (d // heads) ** 0.5).masked_fill(~visible[:, None, None], float("-inf"))
            context = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, s, d)
            a = self.norm(f"encoder.layer.{i}.attention.output.LayerNorm", x + self.linear(i, "attention_output", context))
            f = self.linear(i, "ffn_out", F.gelu(self.linear(i, "ffn_in", a)))
            out, y = f"encoder.layer.{i}.output.LayerNorm", a + f
            if "serial" in layer:
                y = y + self.adapter(i, "serial", self.norm(out, a + f))
            if "parallel" in layer:
                y = y + 4 * self.adapter(i, "parallel", a)
            x = self.norm(out, y)
        h = x if self.kind == "token_classification" else x[:, 0]
        if self.kind == "coreference":
            pooled = torch.stack([torch.stack([(states[a:b].T @ (states[a:b] @ self.heads["head.pool.weight"][0]).softmax(0))
                                               for a, b in row.tolist()]) for states, row in zip(x, spans)])
            h = torch.cat([pooled[:, :1].expand_as(pooled[:, 1:]), pooled[:, 1:]], -1)
        if self.head == "dense":
            h = torch.tanh(F.linear(h, self.heads["head.dense.weight"], self.heads["head.dense.bias"]))
        return F.linear(h, self.heads["head.weight"], self.heads["head.bias"])

    def write(self, directory, model, outputs):
        """A trained directory."""
        directory.mkdir()
        c, params = self.config, sum(t.numel() for name, t in self.w.items() if re.match(r"(embeddings|encoder|embeddings_project)\..*(weight|bias)$", name))
        save = lambda name, tensors: safetensors.torch.save_file({k: t.contiguous() for k, t in tensors.items()}, directory / name)
        save("head.safetensors", self.heads)
        if self.modules:
            save("modules.safetensors", self.modules)
        documents = {
            "metrics.json": {"best_step": 1, "dev": {}},
            "task.json": {
                "version": 1, "model": str(model), "model_fingerprint": fingerprint(model), "head": self.head,
                "geometry": {"architecture": c["model_type"], "layers": len(self.plan), "hidden": c["hidden_size"],
                             "ffn": c["intermediate_size"], "heads": c["num_attention_heads"], "backbone_params": params},
                "task": {"kind": self.kind, "columns": {"text": "a", "text_pair": "b", "label": "c"}, "max_length": 128},
                "labels": [f"class {n}" for n in range(outputs)] if outputs > 1 else None, "training": {}, "seed": 1},
            "plan.json": {"version": 1, "layers": self.plan},
        }
        for name, value in documents.items():
            (directory / name).write_text(json.dumps(value))


def random_model(target, config_class, model_class, **config):
    """A small random model with MiniLM's vocabulary."""
    torch.manual_seed(3)
    c = config_class(vocab_size=30522, hidden_size=32, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=140,
                     pad_token_id=0, **config)
    model = model_class(c)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 2:
                p.normal_(0, 0.3)
    model.save_pretrained(target)
    tokenizer = transformers.DistilBertTokenizerFast if c.model_type == "distilbert" else transformers.BertTokenizerFast
    tokenizer.from_pretrained("models/all-MiniLM-L6-v2").save_pretrained(target)
    return target


def random_models(place):
    t = transformers
    for name, *classes, config in (
            ("roberta", t.RobertaConfig, t.RobertaModel, dict(intermediate_size=48, type_vocab_size=2, layer_norm_eps=1e-5)),
            ("xlm-roberta", t.XLMRobertaConfig, t.XLMRobertaModel, dict(intermediate_size=48, type_vocab_size=2)),
            ("camembert", t.CamembertConfig, t.CamembertModel, dict(intermediate_size=48, type_vocab_size=2)),
            ("electra", t.ElectraConfig, t.ElectraModel, dict(intermediate_size=48, embedding_size=16)),
            ("distilbert", t.DistilBertConfig, t.DistilBertModel, dict(hidden_dim=48))):
        yield random_model(place / name, *classes, **config)


def inputs():
    """Real sentence pairs, by length; the models share a vocabulary."""
    tokenizer = transformers.AutoTokenizer.from_pretrained("models/all-MiniLM-L6-v2")
    with open("examples/data/stsb/dev.tsv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE))
    text = sorted(((r["sentence1"], r["sentence2"]) for r in rows[:INPUTS]), key=lambda pair: len("".join(pair)))
    return [tokenizer(*map(list, zip(*text[start:start + BATCH])), truncation=True, max_length=128, padding=True, return_tensors="pt")
            for start in range(0, INPUTS, BATCH)]


def load(directory, models):
    """Runs the README's code: its names. models are the directories of what it names as the pretrained model."""
    code = re.search(r"```python\n(.*?)```", (directory / "README.md").read_text(), re.S).group(1)
    for name, path in models.items():
        code = code.replace(f'"{name}"', repr(str(path)))
    names = {}
    with contextlib.chdir(directory):
        exec(compile(code, str(directory / "README.md"), "exec"), names)
    return names


def relative(got, want):
    """Differences of logits, relative to those above 1."""
    return (got - want).abs() / want.abs().clamp(min=1)


def shaped(kind, model_type, batch):
    """A batch of rows as the task's models take it."""
    if model_type == "distilbert":
        batch = {k: v for k, v in batch.items() if k != "token_type_ids"}
    if kind == "multiple_choice":
        batch = {k: v.view(-1, 2, v.shape[-1]) for k, v in batch.items()}
    if kind == "coreference":
        batch = dict(batch, spans=torch.tensor([[[1, 2], [0, 1], [2, 4]]]).expand(len(batch["input_ids"]), -1, -1))
    return batch


def run(names, batch):
    """The logits of the loaded export."""
    if "session" in names:
        taken = {k: v.numpy() for k, v in batch.items() if k in names["taken"]}
        return torch.from_numpy(names["session"].run(None, taken)[0])
    return names["model"](**batch).logits


@torch.no_grad()
def compare(directory, kind, batches, wanted, models, example=None):
    """The largest relative difference of logits on the batches and on the README's example."""
    names = load(directory, models)
    worst = 0.0
    if example:
        tensors = {k: torch.as_tensor(numpy.asarray(v)) for k, v in names["inputs"].items()}
        worst = relative(torch.as_tensor(names["logits"]), example(**tensors)).max().item()
    for batch, want in zip(batches, wanted):
        difference = relative(run(names, batch), want)
        if kind == "token_classification":
            difference = difference[batch["attention_mask"].bool()]
        worst = max(worst, difference.max().item())
    return worst


def loss_of(kind, logits, labels):
    if kind == "regression":
        return F.mse_loss(logits.view(-1), labels)
    if kind == "multilabel":
        return F.binary_cross_entropy_with_logits(logits, labels)
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.view(-1))


def step(directory, reference, batch, models):
    """How differently a step of training moves the loss of an export for transformers and that of the formula: the
    difference of the losses after the step, relative to how far it moved."""
    torch.manual_seed(1)
    kind, outputs = reference.kind, reference.heads["head.bias"].numel()
    n, s = batch["input_ids"].shape[0], batch["input_ids"].shape[-1]
    labels = {"regression": lambda: torch.rand(n), "multilabel": lambda: (torch.rand(n, outputs) > 0.5).float(),
              "token_classification": lambda: torch.randint(outputs, (n, s)), "coreference": lambda: torch.randint(2, (n, 2)),
              "multiple_choice": lambda: torch.randint(2, (n,))}.get(kind, lambda: torch.randint(outputs, (n,)))()
    model = load(directory, models)["model"]
    model.freeze_backbone()
    theirs = [p for p in model.parameters() if p.requires_grad]
    ours = [t.requires_grad_() for t in (*reference.modules.values(), *reference.heads.values())]
    if sum(p.numel() for p in theirs) != sum(p.numel() for p in ours):
        return float("inf")
    rows = {k: v.flatten(0, 1) if kind == "multiple_choice" else v for k, v in batch.items()}

    def formula():
        logits = reference.scores(**rows)
        return loss_of(kind, logits.view(-1, 2) if kind == "multiple_choice" else logits, labels)

    losses = []
    for parameters, loss in ((theirs, lambda: model(**batch, labels=labels).loss), (ours, formula)):
        optimizer = torch.optim.AdamW(parameters, 1e-3)
        before = loss()
        before.backward()
        optimizer.step()
        losses.append((before.item(), loss().item()))
    for t in ours:
        t.requires_grad_(False)
    (_, after), (before, want) = losses
    return abs(after - want) / max(abs(want - before), 1e-9)


def load_here(listed):
    """Compares the listed exports in this environment: writes a difference, or why there is none, for each."""
    results = []
    for line in json.loads(pathlib.Path(listed).read_text()):
        saved = torch.load(line["batches"])
        try:
            got = compare(pathlib.Path(line["directory"]), line["kind"], saved["batches"], saved["wanted"], line["models"])
        except Exception as e:
            got = f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"[:150]
        results.append(got)
    versions = ", ".join(f"{name} {sys.modules[name].__version__}" for name in ("transformers", "peft") if name in sys.modules)
    pathlib.Path(listed).with_suffix(".results").write_text(json.dumps([versions, *results]))


def elsewhere(name, python, exported, place):
    """Loads exports in another environment. Returns the number of failures."""
    wanted = [e for e in exported if e["to"] in (["peft"] if name.startswith("peft") else ["peft", "merged", "transformers", "onnx"])]
    path = place / f"{name}.json"
    path.write_text(json.dumps(wanted))
    done = subprocess.run([*shlex.split(python), __file__, "--load", path], capture_output=True, text=True)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return 1
    versions, *results = json.loads(path.with_suffix(".results").read_text())
    failures = 0
    print(f"\n{name}: {versions}")
    for to in FORMATS:
        got = [(e, g) for e, g in zip(wanted, results) if e["to"] == to]
        if not got:
            continue
        errors = [(e, g) for e, g in got if isinstance(g, str)]
        worst = max((g for _, g in got if not isinstance(g, str)), default=0)
        print(f"  {to:13} {len(got):3} exports, largest difference {worst:.1e}, not loaded {len(errors)}")
        for e, g in errors:
            print(f"    {e['name']}: {g}")
        # The library itself runs no prefix in some versions; every other export loads.
        failures += sum(g > e["tolerance"] for e, g in got if not isinstance(g, str))
        failures += sum("prefix" not in e["name"] for e, _ in errors)
    return failures


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PYTHON")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    if arguments.load:
        return load_here(arguments.load)
    batches, failures, exported, refusals, worsts = inputs(), 0, [], {}, dict.fromkeys([*FORMATS, "step"], 0.0)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        os.environ["HF_MODULES_CACHE"] = str(place / "code")
        models = [pathlib.Path("models", name).resolve() for name in ("bert-tiny", "all-MiniLM-L6-v2")]
        print(f"{'plan':38}{'head':>8}{'outputs':>9}" + "".join(f"{to:>13}" for to in [*FORMATS, "step"]))
        for seed, (name, model, plan, head, outputs, *kind) in enumerate(cases(*models, *random_models(place))):
            kind = kind[0] if kind else "regression" if outputs == 1 else "classification"
            if not all(word in name for word in arguments.words):
                continue
            reference = Reference(model, plan, head, outputs, seed, kind)
            trained, known = place / f"{seed}", {model.name: str(model)}
            reference.write(trained, model, outputs)
            rows = [shaped(kind, reference.config["model_type"], dict(b)) for b in batches]
            wanted = [reference.logits(**b) for b in rows]
            torch.save({"batches": rows, "wanted": wanted}, place / f"{seed}.pt")
            row = f"{name:38}{head:>8}{outputs:>9}"
            for to in FORMATS:
                out = place / f"{seed}-{to}"
                done = subprocess.run([PEFTSEARCH, "export", trained, "--to", to, "--out", out], capture_output=True, text=True)
                expected = refused(plan, head, reference.config["model_type"], to, kind)
                if done.returncode or expected:
                    right = bool(done.returncode) and expected and not out.exists()
                    row += f"{'refused' if right else 'wrong':>13}"
                    refusals.setdefault(done.stderr.split("\n")[0], []).append(name)
                    if not right:
                        print(done.stderr, file=sys.stderr)
                else:
                    worst = compare(out, kind, rows, wanted, known, reference.logits)
                    right = worst <= tolerance(head, to)
                    row += f"{worst:13.1e}"
                    worsts[to] = max(worsts[to], worst)
                    exported.append({"name": name, "to": to, "kind": kind, "directory": str(out), "models": known,
                                     "batches": str(place / f"{seed}.pt"), "tolerance": tolerance(head, to)})
                failures += not right
            moved = step(place / f"{seed}-transformers", reference, rows[0], known)
            worsts["step"] = max(worsts["step"], moved)
            failures += moved > STEP
            print(row + f"{moved:13.1e}", flush=True)
        print(f"{'largest':55}" + "".join(f"{worsts[to]:13.1e}" for to in worsts))
        for reason, names in refusals.items():
            print(f"{len(names):3} refused: {reason}")
        for environment in arguments.also:
            failures += elsewhere(*environment.split("=", 1), exported, place)
        failures += check_trained(place, models[0], trained_cases(), {"transformers", "onnx"}, arguments.words)
        write_gpt2(place / "gpt2")
        failures += check_trained(place, place / "gpt2", gpt2_cases(), set(), arguments.words)
        for name, kind in (("t5", transformers.T5ForConditionalGeneration), ("mt5", transformers.MT5ForConditionalGeneration)):
            write_t5(place / name, kind)
            renamed = ((case[0].replace("t5", name), *case[1:]) for case in t5_cases() if name == "t5" or case[0] in ("t5 everything", "t5 lora"))
            failures += check_trained(place, place / name, renamed, set(), arguments.words, "dense")
    if failures:
        sys.exit(f"{failures} exports differ by too much or were wrongly refused or accepted")


if __name__ == "__main__":
    main()
