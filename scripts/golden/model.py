#!/usr/bin/env python3
"""Write evaluator/model/testdata: what the reference libraries compute.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it
in the repository root after `make models/all-MiniLM-L6-v2 models/bert-tiny`.

Hybrids run in adapters: one adapter per layer in a Stack, and for layers with a serial and a parallel adapter a
Fuse(Stack(parallel), serial) with zero queries, whose attention weights of 1/2 the doubled scalings undo. LoRA on
every target runs in peft. The head is written out.
"""
import json
import math
import pathlib

import adapters
import adapters.composition as ac
import peft
import safetensors.torch
import torch
import transformers

OUT = pathlib.Path("evaluator/model/testdata")
DECAY, MAX_NORM, PEAK, WARMUP, STEPS = 0.5, 1.0, 1e-3, 2, 5

SENTENCES = [
    "Hello.",
    "A man is playing a flute.",
    "The cat sits outside in the sun while the dog sleeps under the old table.",
    "Stocks fell 3.2% on Tuesday, their worst day since March.",
    "Unbelievable!",
    "He didn't say whether the naïve approach would work, but everybody assumed that it would not.",
    "two birds",
    "Rain is expected in the north; the south stays dry and warm until at least Friday evening.",
]


# What DistilBERT calls the parts of a layer, by BERT's names.
DISTILBERT = {
    "encoder.layer.": "transformer.layer.", "attention.self.query": "attention.q_lin", "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin", "attention.output.dense": "attention.out_lin", "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2", "output.adapters.": "output_adapters.adapters.", ".self_prefix.": ".self.",
}


def own(model, name):
    """What a model calls a parameter of BERT."""
    if model.config.model_type == "distilbert":
        for bert, theirs in DISTILBERT.items():
            name = name.replace(bert, theirs)
    return name


def fill(t, g, std):
    with torch.no_grad():
        t.copy_(torch.randn(t.shape, generator=g) * std)


def checkpoint(name, config_class, model_class, seed, rename=lambda k: k, **config):
    """A small random checkpoint with weights large enough to matter."""
    target = OUT / name
    target.mkdir(parents=True, exist_ok=True)
    c = config_class(vocab_size=40, hidden_size=32, num_attention_heads=4, intermediate_size=48, type_vocab_size=2,
                     **config)
    c.architectures = [model_class.__name__]
    model = model_class(c, add_pooling_layer=False)
    g = torch.Generator().manual_seed(seed)
    for key, t in model.named_parameters():
        fill(t, g, 0.3 if t.dim() == 2 else 0.1)
        if "LayerNorm.weight" in key:
            with torch.no_grad():
                t.add_(1)
    safetensors.torch.save_file({rename(k): v.contiguous() for k, v in model.named_parameters()},
                                target / "model.safetensors", {"format": "pt"})
    c.save_pretrained(target)
    return target


def load(path, **changes):
    c = transformers.AutoConfig.from_pretrained(path, **changes)
    c.hidden_dropout_prob = c.attention_probs_dropout_prob = 0.0
    c.dropout = c.attention_dropout = 0.0  # DistilBERT's
    pooler = {} if c.model_type in ("distilbert", "electra") else {"add_pooling_layer": False}
    return transformers.AutoModel.from_pretrained(path, config=c, attn_implementation="eager", **pooler).train()


def batch(vocab, pad, seed, lengths, types=2):
    """Random rows, padded at their ends."""
    g = torch.Generator().manual_seed(seed)
    n, width = len(lengths), max(lengths)
    ids = torch.randint(3, vocab, (n, width), generator=g)
    kinds = torch.randint(0, types, (n, width), generator=g)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": torch.where(mask == 1, ids, pad), "attention_mask": mask, "token_type_ids": kinds * mask}


def insert(model, plan, hidden):
    """Insert a plan with adapters; returns our names of its parameters, as {name: [(parameter, view)]}."""
    adapters.init(model)
    layers, names, stack = plan["layers"], {}, []
    fused = any("serial" in l and "parallel" in l for l in layers)
    both = [i for i, l in enumerate(layers) if fused and ("serial" in l or "parallel" in l)]
    everything = range(len(layers))

    def bottleneck(parallel, width, scaling):
        base = adapters.ParBnConfig if parallel else adapters.SeqBnConfig
        return lambda out: base(reduction_factor={**{str(i): hidden / (w + 0.5) for i, w in width.items()}},
                                scaling=scaling, leave_out=out)

    def others(kept):
        return [j for j in everything if j not in kept]

    for i, layer in enumerate(layers):
        parts, out = [], others([i])
        if "prefix" in layer:
            parts.append(adapters.PrefixTuningConfig(flat=True, prefix_length=layer["prefix"]["length"], leave_out=out))
        for key in ("serial", "parallel"):
            if key in layer and i not in both:
                parts.append(bottleneck(key == "parallel", {i: layer[key]["width"]}, 4.0 if key == "parallel" else 1.0)(out))
        if "lora" in layer:
            t = layer["lora"]["targets"]
            assert "attention_output" not in t, "adapters has no LoRA there"
            parts.append(adapters.LoRAConfig(
                r=layer["lora"]["rank"], alpha=layer["lora"]["alpha"], leave_out=out,
                selfattn_lora=any(x in t for x in ("query", "key", "value")),
                attn_matrices=[x[0] for x in ("query", "key", "value") if x in t],
                intermediate_lora="ffn_in" in t, output_lora="ffn_out" in t))
        if parts:
            model.add_adapter(f"l{i}", adapters.ConfigUnion(*parts))
            stack.append(f"l{i}")
    if both:
        out = others(both)
        width = lambda i, key: layers[i].get(key, {"width": 1})["width"]  # 1: a stand-in of zeros
        model.add_adapter("pa", bottleneck(True, {i: width(i, "parallel") for i in both}, 8.0)(out))
        model.add_adapter("sa", bottleneck(False, {i: width(i, "serial") for i in both}, 2.0)(out))
        fuse = ac.Fuse(ac.Stack("pa"), "sa")
        model.add_adapter_fusion(ac.Fuse("pa", "sa"), adapters.AdapterFusionConfig.load(
            "dynamic", key=False, query=True, value=False, query_before_ln=False, regularization=False,
            residual_before=False, temperature=False, value_before_softmax=True, value_initialized=False,
            dropout_prob=None))
        stack.append(fuse)
    model.set_active_adapters(ac.Stack(*stack))
    p = dict(model.named_parameters())
    for key, t in p.items():
        if "adapter_fusion_layer" in key or any(
                own(model, f"layer.{i}.output.adapters.{a}.") in key for i in both for a, k in (("sa", "serial"), ("pa", "parallel"))
                if k not in layers[i]):
            with torch.no_grad():
                t.zero_()
    for t in p.values():
        t.requires_grad_(False)

    def take(name, parameter):
        parameter.requires_grad_(True)
        names[name] = parameter

    prefixes = []
    for i, layer in enumerate(layers):
        for key in ("serial", "parallel"):
            if key in layer:
                adapter = ("sa" if key == "serial" else "pa") if i in both else f"l{i}"
                base = own(model, f"encoder.layer.{i}.output.adapters.{adapter}.")
                for theirs, ours in (("adapter_down.0", "down"), ("adapter_up", "up")):
                    for part in ("weight", "bias"):
                        take(f"layers.{i}.{key}.{ours}.{part}", p[f"{base}{theirs}.{part}"])
        if "prefix" in layer:
            t = next(t for k, t in p.items() if k.endswith(own(model, f"prefix_tunings.l{i}.self_prefix.control_trans")))
            t.requires_grad_(True)
            prefixes.append((i, layer["prefix"]["length"], t))
        if "lora" in layer:
            for target in layer["lora"]["targets"]:
                module = {"ffn_in": "intermediate.dense", "ffn_out": "output.dense"}.get(target, f"attention.self.{target}")
                for part in "AB":
                    take(f"layers.{i}.lora.{target}.{part.lower()}",
                         p[own(model, f"encoder.layer.{i}.{module}") + f".loras.l{i}.lora_{part}"])
    return names, prefixes


def with_peft(model, plan):
    """Insert LoRA on any target with peft."""
    modules = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
               "attention_output": "attention.output.dense", "ffn_in": "intermediate.dense", "ffn_out": "output.dense"}
    places = {own(model, f"encoder.layer.{i}.{modules[t]}"): (i, t) for i, l in enumerate(plan["layers"]) if "lora" in l
              for t in l["lora"]["targets"]}
    lora = [l.get("lora") for l in plan["layers"]]
    model = peft.get_peft_model(model, peft.LoraConfig(
        target_modules=list(places), rank_pattern={k: lora[i]["rank"] for k, (i, _) in places.items()},
        alpha_pattern={k: lora[i]["alpha"] for k, (i, _) in places.items()}, lora_dropout=0.0))
    p = dict(model.named_parameters())
    return model, {f"layers.{i}.lora.{t}.{part.lower()}": p[f"base_model.model.{k}.lora_{part}.default.weight"]
                   for k, (i, t) in places.items() for part in "AB"}


def lora(rank, alpha, *targets):
    return {"rank": rank, "alpha": alpha, "targets": list(targets)}


BOTTLENECK = lambda b: {"width": b}
PREFIX = lambda p: {"length": p}
CASES = [  # name, checkpoint, library, head, outputs, layers
    ("head", "bert", "adapters", "linear", 1, [{}, {}, {}]),
    ("serial", "bert", "adapters", "linear", 2,
     [{"serial": BOTTLENECK(1)}, {"serial": BOTTLENECK(5)}, {"serial": BOTTLENECK(32)}]),
    ("parallel", "bert", "adapters", "linear", 1, [{"parallel": BOTTLENECK(7)}, {}, {"parallel": BOTTLENECK(2)}]),
    ("prefix", "bert", "adapters", "linear", 3, [{"prefix": PREFIX(1)}, {"prefix": PREFIX(3)}, {"prefix": PREFIX(9)}]),
    ("lora", "bert", "adapters", "linear", 1,
     [{}, {"lora": lora(4, 4, "query", "value")}, {"lora": lora(1, 8, "key", "ffn_in")}]),
    ("lora-everywhere", "bert", "peft", "dense", 3,
     [{"lora": lora(2, 3, "query", "key", "value", "attention_output", "ffn_in", "ffn_out")},
      {"lora": lora(3, 16, "attention_output")}, {"lora": lora(1, 1, "ffn_out", "attention_output", "query")}]),
    ("hybrid", "bert", "adapters", "dense", 3,
     [{"serial": BOTTLENECK(3), "parallel": BOTTLENECK(6), "prefix": PREFIX(2), "lora": lora(2, 4, "query", "value")},
      {}, {"serial": BOTTLENECK(8), "prefix": PREFIX(5), "lora": lora(5, 5, "ffn_in", "ffn_out")}]),
    ("hybrid-everywhere", "bert", "adapters", "linear", 1,
     [{"serial": BOTTLENECK(b), "parallel": BOTTLENECK(c), "prefix": PREFIX(p), "lora": lora(r, 8, "query", "key", "value")}
      for b, c, p, r in ((1, 4, 3, 2), (6, 1, 1, 1), (2, 3, 4, 4))]),
    ("roberta", "roberta", "adapters", "linear", 2,
     [{"parallel": BOTTLENECK(4), "lora": lora(3, 6, "query", "value")}, {"serial": BOTTLENECK(4), "prefix": PREFIX(3)}]),
    ("bert-tiny", "models/bert-tiny", "adapters", "linear", 2,
     [{"lora": lora(1, 2, "query")}, {"serial": BOTTLENECK(2), "parallel": BOTTLENECK(1), "prefix": PREFIX(2)}]),
    ("full", "bert", "backbone", "linear", 2, [{}, {}, {}]),
    ("prefix-mlp", "bert", "mlp", "linear", 1, [{"prefix": PREFIX(4)}, {}, {"prefix": PREFIX(4)}]),
    ("minilm", "models/all-MiniLM-L6-v2", "adapters", "linear", 2,
     [{"serial": BOTTLENECK(2)}, {"parallel": BOTTLENECK(1)}, {"prefix": PREFIX(2)}, {"lora": lora(1, 2, "query", "value")},
      {"serial": BOTTLENECK(1), "parallel": BOTTLENECK(2), "prefix": PREFIX(1), "lora": lora(2, 2, "key")}, {}]),
]


def case(name, where, library, head, outputs, layers, seed):
    path = where if "/" in where else str(OUT / where)
    model, plan, prefixes = load(path), {"version": 1, "layers": layers}, []
    hidden, c = model.config.hidden_size, model.config
    names = {}
    for p in model.parameters():
        p.requires_grad_(False)
    if library == "peft":
        model, names = with_peft(model, plan)
    elif library == "backbone":
        for key, p in model.named_parameters():
            p.requires_grad_(True)
            names["backbone." + key] = p
    elif library == "mlp":
        adapters.init(model)
        kept = [i for i, l in enumerate(layers) if l]
        model.add_adapter("p", adapters.PrefixTuningConfig(
            flat=False, prefix_length=4, bottleneck_size=6, leave_out=[i for i in range(len(layers)) if i not in kept]))
        model.train_adapter("p")
        theirs = {k.split("self_prefix.")[1]: p for k, p in model.named_parameters() if "self_prefix." in k}
        names = {"prefix_mlp.embedding": theirs["wte.weight"],
                 **{f"prefix_mlp.{ours}.{part}": theirs[f"control_trans.{i}.{part}"]
                    for i, ours in ((0, "in"), (2, "out")) for part in ("weight", "bias")}}
    elif any(layers):
        names, prefixes = insert(model, plan, hidden)
    if head == "dense":
        names["head.dense.weight"] = torch.nn.Parameter(torch.empty(hidden, hidden))
        names["head.dense.bias"] = torch.nn.Parameter(torch.empty(hidden))
    names["head.weight"] = torch.nn.Parameter(torch.empty(outputs, hidden))
    names["head.bias"] = torch.nn.Parameter(torch.empty(outputs))
    g = torch.Generator().manual_seed(seed)
    flat = [t for _, _, t in prefixes]
    for key, p in list(names.items()) + list(enumerate(flat)):
        if not str(key).startswith("backbone."):
            fill(p, g, 0.2 if p.dim() == 2 else 0.3)

    def pieces(get):
        """Named values; a prefix is [p, 2 (keys, values), D] in adapters."""
        result = {k: get(p).detach().clone().contiguous() for k, p in names.items()}
        for i, length, p in prefixes:
            t = get(p).detach().view(length, 2, hidden)
            result[f"layers.{i}.prefix.keys"], result[f"layers.{i}.prefix.values"] = (t[:, j].clone() for j in (0, 1))
        return result

    inputs = batch(c.vocab_size, c.pad_token_id, seed, [7, 11, 1, 4], 1 if where == "roberta" else getattr(c, "type_vocab_size", 1))
    given = {k: v for k, v in inputs.items() if k != "token_type_ids" or c.model_type != "distilbert"}
    labels = [0.5, -1.0, 2.0, 0.25] if outputs == 1 else [i % outputs for i in (1, 0, 2, 1)]

    def logits():
        h = model(**given).last_hidden_state[:, 0]
        if head == "dense":
            h = torch.tanh(h @ names["head.dense.weight"].T + names["head.dense.bias"])
        return h @ names["head.weight"].T + names["head.bias"]

    def loss(y):
        if outputs == 1:
            return torch.nn.functional.mse_loss(y[:, 0], torch.tensor(labels))
        return torch.nn.functional.cross_entropy(y, torch.tensor(labels))

    trained = list(names.values()) + flat
    plain = [p for k, p in names.items() if k.endswith("bias") or "LayerNorm" in k]
    optimizer = torch.optim.AdamW([{"params": [p for p in trained if not any(p is q for q in plain)], "weight_decay": DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=PEAK)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    file = {} if library == "backbone" else {"value." + k: v for k, v in pieces(lambda p: p).items()}
    if library == "backbone":
        file = {"value." + k: v for k, v in pieces(lambda p: p).items() if k.startswith("head.")}
    rates, losses, first = [], [], None
    for step in range(3):
        y = logits()
        value = loss(y)
        optimizer.zero_grad()
        value.backward()
        if first is None:
            first = y.detach().clone()
            grads = pieces(lambda p: p.grad)
            file.update({"grad." + k: v for k, v in grads.items()})
            norm = math.sqrt(sum(float((v.double() ** 2).sum()) for v in grads.values()))
        torch.nn.utils.clip_grad_norm_(trained, MAX_NORM)
        rates.append(schedule.get_last_lr()[0])
        losses.append(value.item())
        optimizer.step()
        schedule.step()
    if name in ("hybrid", "full", "minilm"):
        file.update({"after." + k: v for k, v in pieces(lambda p: p).items()})
    if library == "mlp":  # the flat form of the values before training
        with torch.no_grad():
            for k, v in file.items():
                if k.startswith("value."):
                    names[k[len("value."):]].copy_(v)
            ejected = next(m for m in model.modules() if type(m).__name__ == "PrefixTuning").eject().view(4, 2, 2, hidden)
        for j, i in enumerate(kept):
            file[f"flat.layers.{i}.prefix.keys"], file[f"flat.layers.{i}.prefix.values"] = (
                ejected[:, j, k].clone() for k in (0, 1))
    safetensors.torch.save_file(file, OUT / f"{name}.safetensors")
    return {
        "name": name, "checkpoint": where, "plan": plan, "head": head, "outputs": outputs,
        "prefix_mlp": 6 if library == "mlp" else 0, "backbone": library == "backbone",
        "ids": inputs["input_ids"].flatten().tolist(), "types": inputs["token_type_ids"].flatten().tolist(),
        "lengths": inputs["attention_mask"].sum(1).tolist(), "labels": [float(x) for x in labels],
        "logits": first.flatten().tolist(), "losses": losses, "grad_norm": norm, "rates": rates,
        "weight_decay": DECAY, "max_grad_norm": MAX_NORM,
    }


def sentences():
    path = "models/all-MiniLM-L6-v2"
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(path), load(path).eval()
    encoded = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        h = model(**encoded).last_hidden_state
    lengths = encoded["attention_mask"].sum(1).tolist()
    real = torch.cat([h[i, :n] for i, n in enumerate(lengths)])  # [tokens, D]
    safetensors.torch.save_file({"hidden": real}, OUT / "sentences.safetensors")
    return {"ids": encoded["input_ids"].flatten().tolist(), "lengths": lengths}


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    checkpoint("bert", transformers.BertConfig, transformers.BertModel, 1, lambda k: "bert." + k, num_hidden_layers=3,
               max_position_embeddings=16, pad_token_id=0)
    checkpoint("roberta", transformers.RobertaConfig, transformers.RobertaModel, 2, lambda k: "roberta." + k,
               num_hidden_layers=2, max_position_embeddings=18, pad_token_id=1)
    golden = {"sentences": sentences(), "cases": [case(*c, seed=10 + i) for i, c in enumerate(CASES)]}
    (OUT / "golden.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"'))


if __name__ == "__main__":
    main()
