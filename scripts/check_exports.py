#!/usr/bin/env python3
"""Load exports in the libraries that they are made for, and compare logits with the formula.

`make check-exports` runs it in the repository root with torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2,
onnxruntime 1.32.0 and safetensors 0.8.0. Words on the command line select the cases with all of them in their names.
--also "NAME=PYTHON" (several times) loads the exports in another environment too: that of transformers 5, and those of
older versions of peft.

It first writes trained directories with random tensors, exports each in every format, runs the code of the export's
README.md, and compares the loaded model on real sentence pairs with a plain PyTorch forward pass of the formula in
peft/doc.go, which uses none of the libraries. Then it trains plans of every method, family and kind of task briefly,
and compares logits, the labels of pipelines and one step of training with the program's own. It prints a table and ends
with 1 if logits differ by more than 2e-5 of their size (2e-3 where a linear head becomes two layers), a step by more
than 1e-3 of how far it moves the loss, or if something is refused, or not refused, against what
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


def trained_cases(models):
    """Name, directory of the model, kind of task, head, plan, and the libraries' formats that hold it: transformers and
    onnx hold every one."""
    one = "query", "value"
    bert, roberta, xlm, camembert, electra, distilbert, gpt2, mini = models

    def both(method, **settings):
        return [{method: settings}] * 2

    def regression(name, plan, formats, at_input=None, model=bert):
        return f"bert {name}", model, "regression", "linear", plan, formats, at_input or {}

    libraries = "adapters", "peft", "merged"
    changed = "peft", "merged"
    mixed = [serial(5) | parallel(6) | lora(2, 4, *one), prefix(3) | serial(2)]
    yield regression("serial gelu, scaled", both("serial", width=5, non_linearity="gelu", scale=0.5), ["adapters"])
    yield regression("serial, learned scale", both("serial", width=5, learned_scale=True), ["adapters"])
    yield regression("parallel tanh, learned scale", both("parallel", width=5, learned_scale=True, non_linearity="tanh"), ["adapters"])
    yield regression("houlsby", [{"houlsby": {"width": 5}}, {"houlsby": {"width": 7}}], ["adapters"])
    yield regression("compacter", [{"compacter": {"width": 4}}, {"compacter": {"width": 8, "non_linearity": "tanh", "scale": 2}}],
                     ["adapters"])
    yield regression("compacter++", [{"compacter": {"width": 4, "ffn_only": True}},
                                     {"compacter": {"width": 12, "ffn_only": True, "learned_scale": True}}], ["adapters"])
    yield regression("compacter beside others", [{"compacter": {"width": 4}, "prefix": {"length": 2}},
                                                 {"compacter": {"width": 8}} | lora(2, 4, *one)], ["adapters"])
    yield regression("serial, gated", both("serial", width=5, gate=True), ["adapters"])
    yield regression("parallel, gated", both("parallel", width=5, gate=True), ["adapters"])
    yield regression("lora, gated", both("lora", rank=3, alpha=3, gate=True, targets=one), ["adapters"])
    yield regression("prefix, gated", both("prefix", length=3, gate=True), [])
    yield regression("dora", [{"dora": {"rank": 3, "alpha": 6, "targets": one}}, {"dora": {"rank": 2, "alpha": 2, "targets": ["ffn_in"]}}],
                     changed)
    yield regression("vera", both("vera", rank=8, targets=one), changed)
    yield regression("ia3", both("ia3", targets=["key", "value", "ffn_out"]), changed)
    yield regression("bitfit", [{"bitfit": {}}, {"bitfit": {"norms": True}}], ["merged"])
    yield regression("prefix", both("prefix", length=3), ["adapters", "peft"])
    yield regression("prompt", [{}] * 2, ["peft"], {"prompt": {"length": 4}})
    yield regression("prompt, after first", [{}] * 2, [], {"prompt": {"length": 4, "after_first": True}})
    yield regression("prompt, normed", [{}] * 2, ["adapters"], {"prompt": {"length": 4, "normed": True}})
    yield regression("prompt, normed after first", [{}] * 2, ["adapters"], {"prompt": {"length": 4, "normed": True, "after_first": True}})
    yield regression("prompt, normed beside others", [serial(5) | prefix(2), prefix(3)], ["adapters"],
                     {"prompt": {"length": 3, "normed": True, "after_first": True}})
    for name, model, kind, head, plan, formats, *at_input in (
            ("bert lora, dense head", bert, "classification", "dense", [lora(3, 6, *one)] * 2, libraries),
            ("bert lora", bert, "classification", "linear", [lora(3, 6, *one)] * 2, libraries),
            ("bert mixed", bert, "multilabel", "linear", mixed, ["adapters"]),
            ("bert lora", bert, "token_classification", "linear", [lora(2, 4, *one), {}], libraries),
            ("bert mixed, dense head", bert, "token_classification", "dense", mixed, ["adapters"]),
            ("bert lora", bert, "multiple_choice", "linear", [lora(2, 4, *one)] * 2, libraries),
            ("bert mixed", bert, "coreference", "linear", mixed, []),
            ("minilm mixed", mini, "classification", "linear", [*mixed, {}, serial(7), lora(3, 3, "ffn_in"), {}], ["adapters"]),
            ("bert fusion and houlsby", bert, "classification", "linear", [serial(5) | parallel(6), {"houlsby": {"width": 4}}], []),
            ("roberta mixed", roberta, "classification", "linear", mixed, ["adapters"]),
            ("roberta lora", roberta, "multilabel", "dense", [lora(2, 4, *TARGETS[:3]), lora(3, 3, *one)], libraries),
            ("roberta ia3", roberta, "token_classification", "linear", both("ia3", targets=["key", "value", "ffn_out"]), changed),
            ("xlm-roberta dora", xlm, "regression", "linear", both("dora", rank=2, alpha=4, targets=one), changed),
            ("xlm-roberta houlsby", xlm, "token_classification", "linear", both("houlsby", width=4), ["adapters"]),
            ("camembert mixed", camembert, "classification", "linear", mixed, []),
            ("camembert vera", camembert, "multilabel", "linear", both("vera", rank=8, targets=one), changed),
            ("electra prefixes", electra, "classification", "linear", [prefix(2), prefix(4)], ["adapters"]),
            ("electra lora", electra, "multiple_choice", "linear", [lora(2, 4, *one)] * 2, libraries),
            ("distilbert mixed", distilbert, "multilabel", "linear", mixed, ["adapters"]),
            ("distilbert lora", distilbert, "token_classification", "linear", [lora(2, 4, *one)] * 2, libraries),
            ("gpt2 serial", gpt2, "regression", "linear", [serial(5), serial(2)], ["adapters"]),
            ("gpt2 parallel, prefix", gpt2, "regression", "linear", [parallel(5) | prefix(3), prefix(3)], ["adapters"]),
            ("gpt2 prefixes of two lengths", gpt2, "classification", "dense", [prefix(3), prefix(5)], ["adapters"]),
            ("gpt2 houlsby", gpt2, "multilabel", "linear", [{"houlsby": {"width": 5}}, {"houlsby": {"width": 7}}], ["adapters"]),
            ("gpt2 compacter", gpt2, "regression", "linear", [{"compacter": {"width": 4}}, {"compacter": {"width": 8, "ffn_only": True}}],
             ["adapters"]),
            ("gpt2 everything", gpt2, "token_classification", "linear", [serial(3) | prefix(2) | lora(2, 4, *one, "ffn_in")] * 2,
             ["adapters"]),
            ("gpt2 lora", gpt2, "classification", "linear", [lora(3, 6, *one)] * 2, libraries),
            ("gpt2 loras of two ranks", gpt2, "regression", "linear", [lora(3, 6, *one), lora(2, 6, "key")], changed),
            ("gpt2 lora, every target", gpt2, "multilabel", "linear", [lora(3, 6, *TARGETS)] * 2, changed),
            ("gpt2 lora", gpt2, "token_classification", "linear", [lora(3, 6, *one)] * 2, libraries),
            ("gpt2 dora", gpt2, "regression", "linear", [{"dora": {"rank": 2, "alpha": 4, "targets": [*TARGETS[:3], "ffn_out"]}}, {}], changed),
            ("gpt2 dora, query", gpt2, "regression", "linear", [{"dora": {"rank": 2, "alpha": 4, "targets": ["query"]}}, {}], ["merged"]),
            ("gpt2 vera", gpt2, "regression", "linear", both("vera", rank=8, targets=["attention_output", "ffn_out"]), changed),
            ("gpt2 ia3", gpt2, "classification", "linear", both("ia3", targets=["key", "value", "ffn_out"]), changed),
            ("gpt2 head only", gpt2, "regression", "linear", [{}, {}], ["adapters", "merged"]),
            ("gpt2 serial", gpt2, "multiple_choice", "linear", [serial(5), serial(2)], []),
            ("gpt2 lora", gpt2, "coreference", "linear", [lora(3, 6, *one), prefix(2)], []),
            ("gpt2 prompt", gpt2, "classification", "linear", [lora(3, 6, *one), {}], [], {"prompt": {"length": 4}}),
            ("gpt2 prompt, normed after first", gpt2, "token_classification", "linear", [{}, {}], [],
             {"prompt": {"length": 4, "normed": True, "after_first": True}})):
        yield name, model, kind, head, plan, formats, (at_input or [{}])[0]


def t5_cases(model):
    """The same for a T5 with gates and attention that is narrower than its layers: two layers of an encoder, two of a
    decoder. Only the libraries have code for it."""
    own, both = ("query", "value"), ("query", "value", "cross_query", "cross_value")
    shifted, crossed = ({"prefix": {"length": 3, "shifted": True, "cross": cross}} for cross in (False, True))
    libraries, changed = ["adapters", "peft", "merged"], ["peft", "merged"]
    for name, plan, formats in (
            ("serial", [serial(5), {}, serial(2), serial(3)], ["adapters"]),
            ("parallel", [{}, parallel(5), parallel(5), {}], ["adapters"]),
            ("serial and parallel", [serial(5) | parallel(4), {}, parallel(5), serial(3)], ["adapters"]),
            ("houlsby", [{"houlsby": {"width": 5}}, {}, {}, {"houlsby": {"width": 7}}], ["adapters"]),
            ("prefix", [prefix(3)] * 4, []),
            ("prefix, shifted", [shifted] * 2 + [crossed] * 2, ["adapters"]),
            ("prefix, shifted, decoder", [{}] * 2 + [shifted] * 2, ["adapters"]),
            ("prefix, shifted, some layers", [{}, shifted, {}, {}], []),
            ("lora", [lora(3, 6, *own)] * 2 + [lora(3, 6, *both)] * 2, libraries),
            ("lora, one attention",
             [lora(3, 6, *own), {}, lora(3, 6, *own, "ffn_in"), lora(2, 6, "cross_key")], libraries),
            ("lora, every target",
             [lora(3, 6, *TARGETS)] * 2 + [lora(3, 6, *TARGETS, *(f"cross_{t}" for t in ("query", "key", "value", "output")))] * 2, changed),
            ("everything",
             [serial(3) | shifted | lora(2, 4, *own, "ffn_in")] * 2 + [parallel(3) | crossed | lora(2, 4, *both, "ffn_out")] * 2, ["adapters"]),
            ("dora",
             [{"dora": {"rank": 2, "alpha": 4, "targets": ["query", "ffn_in"]}}, {}, {"dora": {"rank": 2, "alpha": 4, "targets": ["cross_value"]}}, {}], changed),
            ("vera",
             [{"vera": {"rank": 8, "targets": ["attention_output", "ffn_out"]}}] * 2 + [{"vera": {"rank": 8, "targets": ["cross_key"]}}] * 2, changed),
            ("ia3",
             [{"ia3": {"targets": ["key", "value", "ffn_out"]}}] * 2 + [{"ia3": {"targets": ["cross_key", "cross_value", "ffn_out"]}}] * 2, changed),
            ("head only", [{}] * 4, ["adapters", "merged"])):
        yield f"{model.name} {name}", model, "regression", "dense", plan, formats, {}


LONGEST = 96  # tokens of an input
STEP_ROWS = 24  # of one step of training
PIPED = 10  # rows that pipelines are given
COLUMNS = {"regression": {"text": "sentence1", "text_pair": "sentence2", "label": "score"},
           "classification": {"text": "sentence1", "text_pair": "sentence2", "label": "class"},
           "multilabel": {"text": "sentence1", "text_pair": "sentence2", "label": "labels"},
           "token_classification": {"text": "words", "label": "tags"},
           "multiple_choice": {"text": "sentence1", "choices": ["choices"], "label": "right"},
           "coreference": {"text": "sentence1", "spans": ["m", "a", "b"], "offsets": ["m_at", "a_at", "b_at"], "labels": ["is_a", "is_b"]}}
LABELS = {"classification": ["low", "middle", "high"], "multilabel": ["alike", "long", "doing"]}
PIPELINES = {"regression": "text-classification", "classification": "text-classification", "multilabel": "text-classification",
             "token_classification": "token-classification"}


def task_rows(split, most, deviation=None):
    """Real sentence pairs, with an answer for every kind of task: some are made by rules of spelling. deviation is that of
    the scores, if they are to have one."""
    with open(f"examples/data/stsb/{split}.tsv", newline="", encoding="utf-8") as f:
        pairs = [r for r in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE) if len(set(r["sentence1"].split())) > 3][:most + 1]
    rows = []
    for n, pair in enumerate(pairs[:-1]):
        text, score = pair["sentence1"], float(pair["score"])
        words = text.split()
        found = list(re.finditer(r"\S+", text))
        spans = {name: found[i] for name, i in (("m", -1), ("a", 0), ("b", 2))}
        rows.append({
            "sentence1": text, "sentence2": pair["sentence2"], "score": score,
            "class": LABELS["classification"][min(2, int(score / 1.7))],
            "labels": [label for label, yes in zip(LABELS["multilabel"], (score > 3, len(text) > 35, "ing" in text)) if yes],
            "words": words, "tags": ["B-capital" if w[0].isupper() else "B-vowel" if w[0] in "aeiou" else "O" for w in words],
            "choices": [pair["sentence2"], pairs[n + 1]["sentence2"]][::1 if n % 2 else -1], "right": 0 if n % 2 else 1,
            "is_a": int(len(words[0]) > 2), "is_b": int(len(words[2]) > 4),
            **{name: span.group() for name, span in spans.items()}, **{name + "_at": span.start() for name, span in spans.items()}})
    if deviation:
        factor = deviation / numpy.std([r["score"] for r in rows])
        rows = [r | {"score": r["score"] * factor} for r in rows]
    return rows


def write_study(place, model, kind, head, step):
    """The study file of a task: of one step on the same rows each time, or of a brief training."""
    where = place / f"{model.name}-{kind}-{head}-{'step' if step else 'train'}.yaml"
    files = {split: str(place / ("step.jsonl" if step else f"{split}.jsonl")) for split in ("train", "dev", "test")}
    where.write_text(json.dumps({  # JSON is YAML
        "study": "exports", "model": {"path": str(model), "head": head},
        "task": {"kind": kind, **files, "columns": COLUMNS[kind], "max_length": LONGEST} | ({"labels": LABELS[kind]} if kind in LABELS else {}),
        "training": {"learning_rate": 5e-3} | ({"batch_size": STEP_ROWS, "schedule": "constant", "warmup_ratio": 0, "max_grad_norm": 0}
                                               if step else {}),
        "budget": {"trials": 1, "rungs": [1], "train": {"epochs": 1}}, "evaluator": {"precision": "float32", "threads": 1}}))
    return where


def encoded(kind, tokenizer, row):
    """A row as the models of the task take it, and where its numbers are among the logits."""
    cut = dict(max_length=LONGEST, return_tensors="pt")
    if kind == "token_classification":
        inputs = tokenizer(row["words"], is_split_into_words=True, truncation=True, **cut)
        words = inputs.word_ids(0)
        return inputs, torch.tensor([i for i, w in enumerate(words) if w is not None and (i == 0 or words[i - 1] != w)])
    if kind == "multiple_choice":
        inputs = tokenizer([row["sentence1"]] * 2, row["choices"], truncation="only_first", padding=True, **cut)
        return {k: v[None] for k, v in inputs.items()}, None
    if kind == "coreference":
        inputs = tokenizer(row["sentence1"], truncation=True, return_offsets_mapping=True, **cut)
        offsets = inputs.pop("offset_mapping")[0].tolist()
        spans = []
        for name in "mab":
            start, end = row[name + "_at"], row[name + "_at"] + len(row[name])
            inside = [i for i, (a, b) in enumerate(offsets) if a < end and b > start]
            spans.append([inside[0], inside[-1] + 1])
        return dict(inputs, spans=torch.tensor([spans])), None
    return tokenizer(row["sentence1"], row["sentence2"], truncation=True, **cut), None


def answer(names, kind, row):
    """The numbers that the loaded export gives for a row, in the order of `peftsearch predict`."""
    inputs, at = encoded(kind, names["tokenizer"], row)
    logits = run(names, inputs)[0]
    return (logits if at is None else logits[at]).reshape(-1)


def task_loss(kind, labels, logits, rows):
    """The mean loss over the rows' decisions, of what answer or predict says of each."""
    if kind == "regression":
        return F.mse_loss(torch.cat(logits), torch.tensor([r["score"] for r in rows]))
    if kind == "multilabel":
        targets = [[float(label in r["labels"]) for label in labels] for r in rows]
        return F.binary_cross_entropy_with_logits(torch.stack(logits), torch.tensor(targets))
    if kind == "multiple_choice":
        return F.cross_entropy(torch.stack(logits), torch.tensor([r["right"] for r in rows]))
    if kind == "classification":
        return F.cross_entropy(torch.stack(logits), torch.tensor([labels.index(r["class"]) for r in rows]))
    if kind == "coreference":
        return F.cross_entropy(torch.cat(logits).view(-1, 2), torch.tensor([[r["is_a"], r["is_b"]] for r in rows]).view(-1))
    tags = [labels.index(tag) for r, numbers in zip(rows, logits) for tag in r["tags"][:len(numbers) // len(labels)]]
    return F.cross_entropy(torch.cat(logits).view(-1, len(labels)), torch.tensor(tags))


@torch.no_grad()
def compare_rows(names, directory, kind, rows, wanted):
    """The largest relative difference from what predict says of rows, one at a time: the library's gates average over
    padding. Our own formats are given padded rows too, GPT-2 with the padding at either end."""
    worst = max(relative(answer(names, kind, row), torch.tensor(want)).max().item() for row, want in zip(rows, wanted))
    own = "session" in names or hasattr(names["model"], "freeze_backbone")
    if own and kind in ("regression", "classification", "multilabel"):
        decoder = json.loads((directory / "config.json").read_text())["model_type"] in ("gpt2", "peftsearch-decoder")
        for side in ("right", "left") if decoder else ("right",):
            names["tokenizer"].padding_side = side
            some = rows[:16]
            batch = names["tokenizer"]([r["sentence1"] for r in some], [r["sentence2"] for r in some], truncation=True, max_length=LONGEST,
                                       padding=True, return_tensors="pt")
            worst = max(worst, relative(run(names, batch), torch.tensor(wanted[:16])).max().item())
    return worst


def moved(names, kind, labels, rows, rate=None):
    """The loss before and after a step by the README's code for training on."""
    if rate:
        for group in names["optimizer"].param_groups:
            group["lr"] *= rate
    loss = task_loss(kind, labels, [answer(names, kind, row) for row in rows], rows)
    names["optimizer"].zero_grad()
    loss.backward()
    names["optimizer"].step()
    with torch.no_grad():
        return loss.item(), task_loss(kind, labels, [answer(names, kind, row) for row in rows], rows).item()


def train_on(directory, names):
    """Runs the README's code for training on, after that for loading; None where it has none."""
    code = re.search(r"## Train on\n\n```python\n(.*?)```", (directory / "README.md").read_text(), re.S)
    if code:
        exec(code.group(1), names)
    return code and names


def labels_right(names, kind, rows, predictions):
    """How many of the first rows transformers' pipeline answers as predict does."""
    pipe = transformers.pipeline(PIPELINES[kind], model=names["model"], tokenizer=names["tokenizer"])
    right = 0
    for row, want in zip(rows, predictions):
        if kind == "token_classification":
            _, at = encoded(kind, names["tokenizer"], row)
            got = {e["index"]: e["entity"] for e in pipe(" ".join(row["words"]), ignore_labels=[])}
            right += [got[i] for i in at.tolist()] == want["predictions"]
            continue
        got = pipe({"text": row["sentence1"], "text_pair": row["sentence2"]}, top_k=None, truncation=True, max_length=LONGEST)
        if kind == "regression":
            right += abs(got[0]["score"] - want["logits"][0]) < LINEAR * max(1, abs(want["logits"][0]))
        elif kind == "multilabel":
            right += {e["label"] for e in got if e["score"] > 0.5} == set(want.get("predictions") or [])
        else:
            right += got[0]["label"] == want["prediction"]
    return right


def check_trained(place, cases, words):
    """Trains plans of every method, family and kind of task briefly, and compares their exports with `peftsearch predict`: the
    logits, the labels of pipelines, and how far one step of training moves the loss. Returns the exports and the number of failures."""
    (place / "trained").mkdir()
    rows = task_rows("dev", INPUTS)
    # In training, peftsearch divides scores by their deviation; with 1 the head moves as far as by the libraries' steps.
    step_rows = task_rows("dev", STEP_ROWS, deviation=1)
    few = task_rows("train", 48)
    for name, split in (("train", task_rows("train", 200)), ("dev", few), ("test", few), ("rows", rows), ("step", step_rows)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in split))
    failures, exported, refusals, count = 0, [], {}, 0
    worsts, moves, pipes = {}, {}, {}

    def peftsearch(*arguments, check=True):
        done = subprocess.run([PEFTSEARCH, *arguments], capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(done.stderr)
        return done

    def predict(directory, file):
        return json.loads(peftsearch("predict", directory, "--input", place / file, "--json", "-q").stdout)["predictions"]

    def check(trained, name, model, kind, head, layers, libraries, at_input):
        nonlocal failures
        (place / "plan.json").write_text(json.dumps({"version": 2, "input": at_input, "layers": layers}))
        peftsearch("train", "--plan", place / "plan.json", "--config", write_study(place, model, kind, head, False), "--out", trained, "-q")
        stepped = f"{trained}-stepped"
        peftsearch("train", "--from", trained, "--config", write_study(place, model, kind, head, True), "--out", stepped, "-q")
        predictions = predict(trained, "rows.jsonl")
        wanted, known = [p["logits"] for p in predictions], {model.name: str(model)}
        labels = json.loads((trained / "task.json").read_text()).get("labels")
        before, after = (task_loss(kind, labels, [torch.tensor(p["logits"]) for p in said], step_rows).item()
                         for said in (predictions[:STEP_ROWS], predict(stepped, "step.jsonl")))
        row, notes = f"{name:60}", []
        for to in FORMATS:
            out, holds = place / f"{trained}-{to}", to in libraries or to in ("transformers", "onnx") and model.name not in ("t5", "mt5")
            done = peftsearch("export", trained, "--to", to, "--out", out, check=False)
            if done.returncode:
                row += f"{'wrong' if holds else 'refused':>13}"
                refusals.setdefault(done.stderr.split("\n")[0], []).append(name)
                failures += holds
                continue
            names, limit = load(out, known), tolerance(head, to)
            worst = compare_rows(names, out, kind, rows, wanted)
            worsts[to] = max(worsts.get(to, 0), worst)
            failures += not holds or worst > limit
            row += f"{worst:13.1e}"
            (trained / "wanted.json").write_text(json.dumps({"rows": rows, "wanted": wanted}))
            exported.append({"name": name, "to": to, "kind": kind, "directory": str(out), "models": known,
                             "wanted": str(trained / "wanted.json"), "tolerance": limit})
            if kind in PIPELINES and to != "onnx":
                right = labels_right(names, kind, rows[:PIPED], predictions)
                yes, all_of = pipes.get((PIPELINES[kind], to), (0, 0))
                pipes[PIPELINES[kind], to] = yes + right, all_of + PIPED
                failures += right < PIPED
                notes.append(f"{to} {right}/{PIPED}")
            # GPT-2's class for sequences has no bias in the head, and PEFT trains zeros between query, key and value.
            # There is no code for T5 to compare a whole model's step with.
            unlike = (model.name == "gpt2" and (to == "peft" or to == "merged" and kind != "token_classification") or
                      model.name in ("t5", "mt5") and to == "merged")
            if to == "onnx" or unlike or not train_on(out, names):
                continue
            if to == "merged":  # everything is trained: as in the code for transformers, with all of it trained
                code = f"{out}-code"
                peftsearch("export", trained, "--to", "transformers", "--merge", "--out", code)
                ours = load(pathlib.Path(code), known)
                ours["optimizer"] = torch.optim.AdamW(ours["model"].parameters(), lr=names["rate"], weight_decay=names["decay"])
                (start, want), (_, got) = (moved(n, kind, labels, step_rows, 0.02) for n in (ours, names))
            else:
                (start, want), (_, got) = (before, after), moved(names, kind, labels, step_rows)
            far = abs(got - want) / abs(want - start) if abs(want - start) > 1e-4 else float("inf")  # it has to move
            moves[to] = max(moves.get(to, 0), far)
            notes.append(f"step of {abs(want - start):.1e} to {far:.1e}")
            failures += far > (5 * STEP if limit == LINEAR else STEP)  # the tanh bends the way a little
        print(row + "   " + ", ".join(notes), flush=True)

    print(f"\n{'trained plan':60}" + "".join(f"{to:>13}" for to in FORMATS) + "   pipelines, one step")
    for name, *case in cases:
        name = f"trained {name}, {case[1]}"
        if not all(word in name for word in words):
            continue
        try:
            check(place / "trained" / str(count), name, *case)
        except Exception as e:
            print(f"{name:60} {type(e).__name__}: {e}"[:1000], flush=True)
            failures += 1
        count += 1
    print(f"{f'largest of {count} trained plans':60}" + "".join(f"{worsts.get(to, 0):13.1e}" for to in FORMATS))
    print("one step moves the loss as here to: " + ", ".join(f"{to} {far:.1e}" for to, far in moves.items()))
    print("rows that pipelines answer as predict: " + ", ".join(f"{to} {task} {yes} of {n}" for (task, to), (yes, n) in pipes.items()))
    for reason, names in refusals.items():
        print(f"{len(names):3} refused: {reason}")
    return exported, failures


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
    return place


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
    return place


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
        directory = pathlib.Path(line["directory"])
        try:
            if "wanted" in line:
                saved = json.loads(pathlib.Path(line["wanted"]).read_text())
                got = compare_rows(load(directory, line["models"]), directory, line["kind"], saved["rows"], saved["wanted"])
            else:
                saved = torch.load(line["batches"])
                got = compare(directory, line["kind"], saved["batches"], saved["wanted"], line["models"])
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
    transformers.logging.set_verbosity(logging.CRITICAL)
    transformers.logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if arguments.load:
        return load_here(arguments.load)
    batches, failures, exported, refusals, worsts = inputs(), 0, [], {}, dict.fromkeys([*FORMATS, "step"], 0.0)
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        os.environ["HF_MODULES_CACHE"] = str(place / "code")
        models = [pathlib.Path("models", name).resolve() for name in ("bert-tiny", "all-MiniLM-L6-v2")]
        others = list(random_models(place))
        print(f"{'plan':38}{'head':>8}{'outputs':>9}" + "".join(f"{to:>13}" for to in [*FORMATS, "step"]))
        for seed, (name, model, plan, head, outputs, *kind) in enumerate(cases(*models, *others)):
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
        gpt2 = write_gpt2(place / "gpt2")
        t5 = write_t5(place / "t5", transformers.T5ForConditionalGeneration)
        mt5 = write_t5(place / "mt5", transformers.MT5ForConditionalGeneration)
        few = [case for case in t5_cases(mt5) if case[0] in ("mt5 everything", "mt5 lora")]
        trained = [*trained_cases([models[0], *others, gpt2, models[1]]), *t5_cases(t5), *few]
        more, failed = check_trained(place, trained, arguments.words)
        failures += failed
        for environment in arguments.also:
            failures += elsewhere(*environment.split("=", 1), exported + more, place)
    if failures:
        sys.exit(f"{failures} exports differ by too much or were wrongly refused or accepted")


if __name__ == "__main__":
    main()
