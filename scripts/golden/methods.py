#!/usr/bin/env python3
"""Write evaluator/model/testdata/methods: what the libraries that define them compute for methods of their own.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it in
the repository root, after scripts/golden/model.py has written the checkpoints.

Bottlenecks, Compacter, gates and Houlsby's pair come from adapters, DoRA, VeRA and IA3 from peft, BitFit from the backbone
alone. Each layer has another size, so it is an adapter of its own, and the rule of Compacter is made one for all of them. Rows with gates are of one length: the library's gates count padding, ours do not.
"""
import json
import math
import pathlib
import sys

import adapters
import adapters.composition as ac
import peft
import safetensors.torch
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import model as golden  # noqa: E402

OUT = golden.OUT / "methods"
MODULES = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
           "attention_output": "attention.output.dense", "ffn_in": "intermediate.dense", "ffn_out": "output.dense"}
BOTTLENECK = {"adapter_down.0.weight": "down.weight", "adapter_down.0.bias": "down.bias", "adapter_up.weight": "up.weight",
              "adapter_up.bias": "up.bias", "gate.weight": "gate.weight", "gate.bias": "gate.bias", "scaling": "scale"}


COMPACTER = {"adapter_down.0.W_left": "down.left", "adapter_down.0.W_right": "down.right", "adapter_down.0.b": "down.bias",
             "adapter_up.W_left": "up.left", "adapter_up.W_right": "up.right", "adapter_up.b": "up.bias"}


def in_adapters(model, layers):
    """One adapter for each layer, in a stack; returns our names of its parameters."""
    adapters.init(model)
    stack, names = [], {}
    for i, layer in enumerate(layers):
        out, parts = [j for j in range(len(layers)) if j != i], []
        for method, m in layer.items():
            gate = m.get("gate", False)
            if method in ("serial", "parallel", "houlsby", "compacter"):
                base = {"serial": adapters.SeqBnConfig, "parallel": adapters.ParBnConfig, "houlsby": adapters.DoubleSeqBnConfig,
                        "compacter": adapters.CompacterPlusPlusConfig if m.get("ffn_only") else adapters.CompacterConfig}[method]
                standard = {"serial": ("relu", 1.0), "parallel": ("relu", 4.0), "houlsby": ("swish", 1.0), "compacter": ("gelu", 1.0)}[method]
                parts.append(base(reduction_factor=model.config.hidden_size / (m["width"] + 0.5), leave_out=out, use_gating=gate,
                                  non_linearity=m.get("non_linearity", standard[0]),
                                  scaling="learned" if m.get("learned_scale") else float(m.get("scale", standard[1]))))
            elif method == "prefix":
                parts.append(adapters.PrefixTuningConfig(flat=True, prefix_length=m["length"], leave_out=out, use_gating=gate))
            elif method == "lora":
                parts.append(adapters.LoRAConfig(
                    r=m["rank"], alpha=m["alpha"], leave_out=out, use_gating=gate, attn_matrices=[t[0] for t in m["targets"] if len(t) < 6],
                    intermediate_lora="ffn_in" in m["targets"], output_lora="ffn_out" in m["targets"]))
        if parts:
            model.add_adapter(f"l{i}", adapters.ConfigUnion(*parts))
            stack.append(f"l{i}")
    model.set_active_adapters(ac.Stack(*stack))
    rules = model.base_model.shared_parameters
    for name in rules:
        rules[name]["phm_rule"] = names["shared.compacter.rule"] = next(iter(rules.values()))["phm_rule"]
    p = dict(model.named_parameters())
    for t in p.values():
        t.requires_grad_(False)
    for i, layer in enumerate(layers):
        for method, m in layer.items():
            places = {"serial": {"": "output"}, "parallel": {"": "output"},
                      "houlsby": {"attention.": "attention.output", "ffn.": "output"},
                      "compacter": {"attention.": "attention.output", "ffn.": "output"}}.get(method, {})
            for ours, at in places.items():
                for theirs, tensor in (BOTTLENECK | COMPACTER).items():
                    key = f"encoder.layer.{i}.{at}.adapters.l{i}.{theirs}"
                    if key in p:
                        names[f"layers.{i}.{method}.{ours}{tensor}"] = p[key]
            if method == "prefix":
                names[f"layers.{i}.prefix"] = next(t for k, t in p.items() if f"prefix_tunings.l{i}.self_prefix" in k)
                for part in ("weight", "bias"):
                    key = f"encoder.layer.{i}.attention.self.prefix_tuning.prefix_gates.l{i}.{part}"
                    if key in p:
                        names[f"layers.{i}.prefix.gate.{part}"] = p[key]
            if method == "lora":
                for target in m["targets"]:
                    base = f"encoder.layer.{i}.{MODULES[target]}.loras.l{i}."
                    for theirs, tensor in (("lora_A", "a"), ("lora_B", "b"), ("gate.weight", "gate.weight"), ("gate.bias", "gate.bias")):
                        if base + theirs in p:
                            names[f"layers.{i}.lora.{target}.{tensor}"] = p[base + theirs]
    return model, names, {}


def in_peft(model, layers):
    """DoRA, VeRA or IA3; of VeRA the frozen matrices too."""
    method = next(m for l in layers for m in l)
    of = {i: l[method] for i, l in enumerate(layers) if method in l}
    places = {f"encoder.layer.{i}.{MODULES[t]}": (i, t) for i, m in of.items() for t in m["targets"]}
    frozen = {}
    if method == "dora":
        config = peft.LoraConfig(target_modules=list(places), use_dora=True, rank_pattern={k: of[i]["rank"] for k, (i, _) in places.items()},
                                 alpha_pattern={k: of[i]["alpha"] for k, (i, _) in places.items()})
        parts = {"lora_A.default.weight": ".a", "lora_B.default.weight": ".b", "lora_magnitude_vector.default.weight": ".magnitude"}
    elif method == "vera":
        config = peft.VeraConfig(target_modules=list(places), r=next(iter(of.values()))["rank"])
        parts = {"vera_lambda_b.default": ".b", "vera_lambda_d.default": ".d"}
    else:
        config = peft.IA3Config(target_modules=list(places), feedforward_modules=[k for k, (_, t) in places.items() if t == "ffn_out"])
        parts = {"ia3_l.default": ""}
    fresh = peft.get_peft_model(model, config)
    p = dict(fresh.named_parameters())
    names = {f"layers.{i}.{method}.{t}{ours}": p[f"base_model.model.{k}.{theirs}"]
             for k, (i, t) in places.items() for theirs, ours in parts.items()}
    if method == "vera":
        frozen = {"frozen.a": fresh.base_model.vera_A["default"], "frozen.b": fresh.base_model.vera_B["default"]}
    return fresh, names, frozen


def in_backbone(model, layers):
    """BitFit: biases, and the LayerNorms' weights."""
    modules = MODULES | {"attention_norm": "attention.output.LayerNorm", "ffn_norm": "output.LayerNorm"}
    p, names = dict(model.named_parameters()), {}
    for i, layer in enumerate(layers):
        for ours, theirs in modules.items() if "bitfit" in layer else ():
            names[f"layers.{i}.bitfit.{ours}.bias"] = p[f"encoder.layer.{i}.{theirs}.bias"]
            if "norm" in ours and layer["bitfit"].get("norms"):
                names[f"layers.{i}.bitfit.{ours}.weight"] = p[f"encoder.layer.{i}.{theirs}.weight"]
    return model, names, {}


def low(rank, alpha, *targets):
    return {"rank": rank, "alpha": alpha, "targets": list(targets)}


def gated(**module):
    return module | {"gate": True}


CASES = [  # name, how, lengths, layers
    ("non-linearity", in_adapters, [7, 11, 1, 4], [{"serial": {"width": 3, "non_linearity": "gelu"}},
                                     {"parallel": {"width": 5, "non_linearity": "swish", "scale": 2}},
                                     {"serial": {"width": 2, "non_linearity": "tanh", "scale": 0.5}}]),
    ("learned-scale", in_adapters, [7, 11, 1, 4], [{"parallel": {"width": 4, "learned_scale": True}}, {},
                                     {"serial": {"width": 6, "learned_scale": True, "non_linearity": "gelu_new"}}]),
    ("houlsby", in_adapters, [7, 11, 1, 4], [{"houlsby": {"width": 3}}, {"houlsby": {"width": 5, "non_linearity": "relu"}}, {"houlsby": {"width": 1}}]),
    ("dora", in_peft, [7, 11, 1, 4], [{"dora": low(2, 4, *MODULES)}, {"dora": low(3, 3, "value")}, {"dora": low(1, 2, "ffn_in", "query")}]),
    ("vera", in_peft, [7, 11, 1, 4], [{"vera": low(6, 0, "query", "value")}, {}, {"vera": low(6, 0, "ffn_in", "ffn_out", "key")}]),
    ("ia3", in_peft, [7, 11, 1, 4], [{"ia3": {"targets": ["key", "value", "ffn_out"]}}, {"ia3": {"targets": ["ffn_out"]}},
                       {"ia3": {"targets": ["query", "ffn_in", "attention_output"]}}]),
    ("bitfit", in_backbone, [7, 11, 1, 4], [{}, {"bitfit": {}}, {"bitfit": {"norms": True}}]),
    ("gates", in_adapters, [9, 9, 9], [{"serial": gated(width=3)}, {"prefix": gated(length=4)}, {"lora": gated(rank=2, alpha=4, targets=["query", "value"])}]),
    ("unipelt", in_adapters, [9, 9, 9], [
        {"serial": gated(width=3), "prefix": gated(length=2), "lora": gated(rank=2, alpha=2, targets=["query", "value"])},
        {"parallel": gated(width=2), "lora": gated(rank=1, alpha=2, targets=["key", "ffn_in"])},
        {"serial": gated(width=4), "prefix": gated(length=3), "lora": gated(rank=3, alpha=2, targets=["query", "value", "ffn_out"])}]),
    ("beside", in_adapters, [7, 11, 1, 4], [{"houlsby": {"width": 2}, "prefix": {"length": 3}},
                              {"parallel": {"width": 3, "learned_scale": True}, "lora": low(2, 4, "query", "ffn_out")},
                              {"houlsby": {"width": 3}, "lora": low(1, 1, "key")}]),
    ("compacter", in_adapters, [7, 11, 1, 4], [{"compacter": {"width": 8}}, {"compacter": {"width": 4, "non_linearity": "tanh", "scale": 2}}, {}]),
    ("compacter++", in_adapters, [7, 11, 1, 4], [{"compacter": {"width": 4, "ffn_only": True}}, {"compacter": {"width": 8, "learned_scale": True}},
                                                 {"compacter": {"width": 12, "ffn_only": True}}]),
    ("compacter-beside", in_adapters, [9, 9, 9], [
        {"compacter": gated(width=4), "prefix": {"length": 2}}, {"serial": {"width": 3}},
        {"compacter": {"width": 8, "ffn_only": True}, "lora": low(2, 4, "query", "ffn_in"), "prefix": {"length": 3}}]),
]


def case(name, how, lengths, layers, seed):
    model = golden.load(str(golden.OUT / "bert"))
    for p in model.parameters():
        p.requires_grad_(False)
    hidden, c = model.config.hidden_size, model.config
    model, names, frozen = how(model, layers)
    for p in names.values():
        p.requires_grad_(True)
    g = torch.Generator().manual_seed(seed)
    for key, p in names.items():
        with torch.no_grad():
            if how is in_backbone or "magnitude" in key or ".ia3." in key or key.endswith("scale"):
                p.add_(torch.randn(p.shape, generator=g) * 0.2)
            else:
                p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 2 else 0.5 if p.dim() == 3 else 0.3))
    head = {"head.weight": torch.nn.Parameter(torch.randn(2, hidden, generator=g) * 0.2),
            "head.bias": torch.nn.Parameter(torch.randn(2, generator=g) * 0.3)}
    names |= head
    inputs, labels = golden.batch(c.vocab_size, c.pad_token_id, seed, lengths), [i % 2 for i in range(len(lengths))]

    def pieces(get):
        result = {}
        for key, p in names.items():
            value = get(p).detach().clone().contiguous()
            if key.endswith(".prefix"):  # [p, 2 (keys, values), D] in adapters
                value = value.view(-1, 2, hidden)
                result[key + ".keys"], result[key + ".values"] = value[:, 0].clone(), value[:, 1].clone()
            else:
                result[key] = value.view(-1) if ".ia3." in key else value
        return result

    trained = list(names.values())
    plain = [p for k, p in names.items() if k.endswith("bias") or ".bitfit." in k]
    optimizer = torch.optim.AdamW([{"params": [p for p in trained if not any(p is q for q in plain)], "weight_decay": golden.DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=golden.PEAK)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, golden.WARMUP, golden.STEPS)
    file = {"value." + k: v for k, v in pieces(lambda p: p).items()} | {k: v.detach().clone() for k, v in frozen.items()}
    rates, losses = [], []
    for step in range(3):
        h = model(**inputs).last_hidden_state[:, 0]
        y = h @ names["head.weight"].T + names["head.bias"]
        value = torch.nn.functional.cross_entropy(y, torch.tensor(labels))
        optimizer.zero_grad()
        value.backward()
        if step == 0:
            first, grads = y.detach().clone(), pieces(lambda p: p.grad)
            file |= {"grad." + k: v for k, v in grads.items()}
            norm = math.sqrt(sum(float((v.double() ** 2).sum()) for v in grads.values()))
        torch.nn.utils.clip_grad_norm_(trained, golden.MAX_NORM)
        rates.append(schedule.get_last_lr()[0])
        losses.append(value.item())
        optimizer.step()
        schedule.step()
    file |= {"after." + k: v for k, v in pieces(lambda p: p).items()}
    safetensors.torch.save_file(file, OUT / f"{name}.safetensors")
    if name == "vera":
        layers = [{m: {k: v for k, v in module.items() if k != "alpha"} for m, module in layer.items()} for layer in layers]
    return {
        "name": "methods/" + name, "checkpoint": "bert", "plan": {"version": 2, "layers": layers}, "head": "linear", "outputs": 2,
        "prefix_mlp": 0, "backbone": False, "ids": inputs["input_ids"].flatten().tolist(),
        "types": inputs["token_type_ids"].flatten().tolist(), "lengths": lengths, "labels": [float(x) for x in labels],
        "logits": first.flatten().tolist(), "losses": losses, "grad_norm": norm, "rates": rates,
        "weight_decay": golden.DECAY, "max_grad_norm": golden.MAX_NORM,
    }


def main():
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    cases = [case(*c, seed=100 + i) for i, c in enumerate(CASES)]
    (golden.OUT / "methods.json").write_text(json.dumps({"cases": cases}, separators=(",", ":")).replace('{"name"', '\n{"name"'))


if __name__ == "__main__":
    main()
