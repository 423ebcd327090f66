#!/usr/bin/env python3
"""Write evaluator/model/testdata/gpt2*: what the reference libraries compute for GPT-2.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, safetensors 0.8.0. Run it in the
repository root, after model.py. Attention is eager: with the default one transformers ignores two keys, and adapters'
prefixes are wrong.
"""
import json

import adapters
import peft
import safetensors.torch
import torch
import transformers

from model import OUT, batch, fill, lora

SIZES = dict(vocab_size=40, n_embd=32, n_layer=2, n_positions=16)
CHECKPOINTS = {  # heads of width 8, and of 32, which have a kernel
    "gpt2": (transformers.GPT2LMHeadModel, transformers.GPT2Config(**SIZES, n_head=4, n_inner=48), {}),
    "gpt2-wide": (transformers.GPT2Model, transformers.GPT2Config(**SIZES | {"n_embd": 64}, n_head=2), {"dtype": torch.float16}),
}
HIDDEN = [
    ("gpt2", {}), ("gpt2-wide", {}), ("gpt2", {"activation_function": "gelu"}), ("gpt2", {"activation_function": "relu"}),
    ("gpt2", {"layer_norm_epsilon": 0.1}), ("gpt2", {"scale_attn_weights": False}), ("gpt2-wide", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt2-wide", {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True}), ("gpt2", {"reorder_and_upcast_attn": True}),
]
PLAN = [{"serial": {"width": 3}, "prefix": {"length": 2}, "lora": lora(2, 4, "query", "value", "ffn_out")},
        {"serial": {"width": 2}, "lora": lora(2, 4, "query", "value", "ffn_out")}]
PARALLEL = [{}, {"parallel": {"width": 5}, "prefix": {"length": 3}}]
HOULSBY = [{"houlsby": {"width": 4}}, {}]
ATTENTION_OUTPUT = [{"lora": lora(2, 3, "attention_output", "ffn_in")}, {"dora": lora(2, 4, "attention_output", "ffn_out")}]
MODULES = {"attention_output": "attn.c_proj", "ffn_in": "mlp.c_fc", "ffn_out": "mlp.c_proj"}


def write(name, seed):
    kind, config, saved = CHECKPOINTS[name]
    model, g = kind(config), torch.Generator().manual_seed(seed)
    for key, t in model.named_parameters():
        fill(t, g, 0.3 if t.dim() == 2 else 0.1)
        if ".ln_" in key and key.endswith("weight"):
            with torch.no_grad():
                t.add_(1)
    model.to(saved.get("dtype", torch.float32)).save_pretrained(OUT / name)
    (OUT / name / "generation_config.json").unlink(missing_ok=True)
    (OUT / name / "model.safetensors").chmod(0o644)


def load(where, **changes):
    c = transformers.AutoConfig.from_pretrained(OUT / where, **changes)
    c.attn_pdrop = c.embd_pdrop = c.resid_pdrop = 0.0
    return transformers.GPT2Model.from_pretrained(OUT / where, config=c, attn_implementation="eager", dtype=torch.float32)


def inputs(c, seed, lengths):
    made = batch(c.vocab_size, 0, seed, lengths, 1)
    described = {"ids": made["input_ids"].flatten().tolist(), "types": made["token_type_ids"].flatten().tolist(), "lengths": lengths}
    return {k: made[k] for k in ("input_ids", "attention_mask")}, described


def hidden(where, changes, seed):
    model = load(where, **changes).eval()
    lengths = [5, 12, 1, 3]
    given, described = inputs(model.config, seed, lengths)
    with torch.no_grad():
        h = model(**given).last_hidden_state
    return {"checkpoint": where, "config": changes} | described, torch.cat([h[i, :n] for i, n in enumerate(lengths)])


def insert_adapters(model, layers):
    """Insert a plan that one adapter holds; returns our names of its parameters, with the part that is ours. The library
    has no stack of adapters with LoRA on c_attn."""
    d, configs, names, whole = model.config.n_embd, [], {}, lambda t: t
    adapters.init(model)
    kinds = {"serial": adapters.SeqBnConfig, "parallel": adapters.ParBnConfig, "houlsby": adapters.DoubleSeqBnConfig}
    for key in ("prefix", "lora", *kinds):
        have = [i for i, layer in enumerate(layers) if key in layer]
        out = [i for i in range(len(layers)) if i not in have]
        if have and key in kinds:
            configs.append(kinds[key](reduction_factor={str(i): d / (layers[i][key]["width"] + 0.5) for i in have}, leave_out=out))
        elif have and key == "prefix":
            configs.append(adapters.PrefixTuningConfig(flat=True, prefix_length=layers[have[0]][key]["length"], leave_out=out))
        elif have:
            t = layers[have[0]][key]["targets"]
            configs.append(adapters.LoRAConfig(
                r=layers[have[0]][key]["rank"], alpha=layers[have[0]][key]["alpha"], leave_out=out, selfattn_lora=True,
                attn_matrices=[x[0] for x in ("query", "key", "value") if x in t], intermediate_lora="ffn_in" in t, output_lora="ffn_out" in t))
    model.add_adapter("a", config=adapters.ConfigUnion(*configs))
    model.set_active_adapters("a")
    p = dict(model.named_parameters())
    prefixed = [i for i, layer in enumerate(layers) if "prefix" in layer]
    for i, layer in enumerate(layers):
        places = {"serial": {"": "output"}, "parallel": {"": "output"}, "houlsby": {"attention.": "attention", "ffn.": "output"}}
        for key, where in places.items():
            for ours, place in where.items() if key in layer else ():
                for part, theirs in (("down", "adapter_down.0"), ("up", "adapter_up")):
                    for kind in ("weight", "bias"):
                        names[f"layers.{i}.{key}.{ours}{part}.{kind}"] = (p[f"h.{i}.{place}_adapters.adapters.a.{theirs}.{kind}"], whole)
        if "prefix" in layer:
            t = next(t for k, t in p.items() if k.endswith("prefix_tunings.a.self_prefix.control_trans"))
            for j, part in enumerate(("keys", "values")):
                names[f"layers.{i}.prefix.{part}"] = (t, lambda t, j=j, at=prefixed.index(i), n=layer["prefix"]["length"]:
                                                      t.view(n, len(prefixed), 2, d)[:, at, j])
        if "lora" in layer:
            rank, targets = layer["lora"]["rank"], layer["lora"]["targets"]
            merged = [x for x in ("query", "key", "value") if x in targets]
            for target in targets:
                for part in "AB":
                    t, size = p[f"h.{i}.{MODULES.get(target, 'attn.c_attn')}.loras.a.lora_{part}"], rank if part == "A" else d
                    at = merged.index(target) * size if target in merged else 0
                    names[f"layers.{i}.lora.{target}.{part.lower()}"] = (
                        t, (lambda t, at=at, size=size: t[at:at + size]) if target in merged else whole)
    return model, names


def insert_peft(model, layers):
    names = {}
    for i, layer in enumerate(layers):
        for key, low in layer.items():
            config = peft.LoraConfig(r=low["rank"], lora_alpha=low["alpha"], fan_in_fan_out=True, use_dora=key == "dora",
                                     target_modules=[f"h.{i}.{MODULES[t]}" for t in low["targets"]])
            if i == 0:
                wrapped = peft.get_peft_model(model, config, adapter_name="l0")
            else:
                wrapped.add_adapter(f"l{i}", config)
    wrapped.base_model.set_adapter([f"l{i}" for i in range(len(layers))])
    p = dict(wrapped.named_parameters())
    for i, layer in enumerate(layers):
        for key, low in layer.items():
            for target in low["targets"]:
                module = f"base_model.model.h.{i}.{MODULES[target]}"
                for part in "AB":
                    names[f"layers.{i}.{key}.{target}.{part.lower()}"] = (p[f"{module}.lora_{part}.l{i}.weight"], lambda t: t)
                if key == "dora":
                    names[f"layers.{i}.dora.{target}.magnitude"] = (p[f"{module}.lora_magnitude_vector.l{i}.weight"], lambda t: t)
    return wrapped, names


def whole_backbone(model, layers):
    """Every weight, as one matrix [out, in] or bias for each of query, key and value."""
    d, p = model.config.n_embd, dict(model.named_parameters())
    names = {"embeddings.word_embeddings.weight": (p["wte.weight"], lambda t: t),
             "embeddings.position_embeddings.weight": (p["wpe.weight"], lambda t: t)}
    norms = {"decoder.LayerNorm": "ln_f"}
    for i in range(len(layers)):
        norms |= {f"decoder.layer.{i}.attention.LayerNorm": f"h.{i}.ln_1", f"decoder.layer.{i}.intermediate.LayerNorm": f"h.{i}.ln_2"}
        for k, part in enumerate(("query", "key", "value")):
            for kind in ("weight", "bias"):
                names[f"decoder.layer.{i}.attention.self.{part}.{kind}"] = (
                    p[f"h.{i}.attn.c_attn.{kind}"], lambda t, k=k: t[..., k * d:(k + 1) * d].T if t.dim() == 2 else t[k * d:(k + 1) * d])
        for ours, theirs in (("attention.output.dense", "attn.c_proj"), ("intermediate.dense", "mlp.c_fc"), ("output.dense", "mlp.c_proj")):
            for kind in ("weight", "bias"):
                names[f"decoder.layer.{i}.{ours}.{kind}"] = (p[f"h.{i}.{theirs}.{kind}"], lambda t: t.T if t.dim() == 2 else t)
    for ours, theirs in norms.items():
        for kind in ("weight", "bias"):
            names[f"{ours}.{kind}"] = (p[f"{theirs}.{kind}"], lambda t: t)
    return model, {f"backbone.{k}": v for k, v in names.items()}


INSERT = {"adapters": insert_adapters, "peft": insert_peft, "backbone": whole_backbone}


def case(name, where, library, version, layers, seed):
    """The gradients of one step; the head reads the last token of each row."""
    model = load(where)
    d = model.config.n_embd
    model, names = INSERT[library](model, layers)
    for t in model.parameters():
        t.requires_grad_(False)
    names["head.weight"] = (torch.nn.Parameter(torch.empty(3, d)), lambda t: t)
    names["head.bias"] = (torch.nn.Parameter(torch.empty(3)), lambda t: t)
    g = torch.Generator().manual_seed(seed)
    for k, t in {id(t): (k, t) for k, (t, _) in names.items()}.values():
        t.requires_grad_(True)
        if not k.endswith("magnitude") and not k.startswith("backbone."):
            fill(t, g, 0.2 if t.dim() == 2 else 0.3)
    lengths, labels = [7, 11, 1, 4], [1, 0, 2, 1]
    given, described = inputs(model.config, seed, lengths)
    h = model(**given).last_hidden_state[torch.arange(4), torch.tensor(lengths) - 1]
    logits = h @ names["head.weight"][0].T + names["head.bias"][0]
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    file = {f"value.{k}": cut(t.detach()).clone().contiguous() for k, (t, cut) in names.items() if not k.startswith("backbone.")}
    file |= {f"grad.{k}": cut(t.grad).clone().contiguous() for k, (t, cut) in names.items()}
    safetensors.torch.save_file(file, OUT / f"{name}.safetensors")
    return {"name": name, "checkpoint": where, "plan": {"version": version, "layers": layers}, "head": "linear", "outputs": 3,
            "backbone": library == "backbone"} | described | {
        "labels": [float(x) for x in labels], "logits": logits.flatten().tolist()}


def main():
    torch.set_num_threads(1)
    for i, name in enumerate(CHECKPOINTS):
        write(name, 150 + i)
    states = [hidden(where, changes, 160 + i) for i, (where, changes) in enumerate(HIDDEN)]
    safetensors.torch.save_file({f"hidden.{i}": h.contiguous() for i, (_, h) in enumerate(states)}, OUT / "gpt2-hidden.safetensors")
    plans = (("modules", "adapters", 1, PLAN), ("parallel", "adapters", 1, PARALLEL), ("houlsby", "adapters", 2, HOULSBY),
             ("peft", "peft", 2, ATTENTION_OUTPUT), ("full", "backbone", 1, [{}, {}]))
    cases = [case(f"{where}-{name}", where, library, version, plan, 180 + i) for i, (where, name, library, version, plan) in enumerate(
        (where, *plan) for where in CHECKPOINTS for plan in plans if (where, plan[0]) != ("gpt2-wide", "full"))]
    golden = {"hidden": [c for c, _ in states], "cases": cases}
    (OUT / "gpt2.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
