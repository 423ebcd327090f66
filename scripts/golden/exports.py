#!/usr/bin/env python3
"""Write peft/testdata/exports: the tensors and configurations that the libraries themselves have for six plans.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, peft 0.21.2, safetensors 0.8.0. Run it
in the repository root.

The modules are built with the libraries' own classes on a two-layer BERT of width 8. In each safetensors file,
"ours." tensors are named as in a trained directory, "theirs." as in the library's state dict.
"""
import json
import os
import pathlib
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # peft asks for the base model, which does not exist

import adapters
import adapters.composition as ac
import peft
import safetensors.torch
import torch
import transformers

OUT = pathlib.Path("peft/testdata/exports")
D, CONFIG = 8, dict(vocab_size=11, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
                    max_position_embeddings=12)
PARTS = {"down.weight": "adapter_down.0.weight", "down.bias": "adapter_down.0.bias", "up.weight": "adapter_up.weight",
         "up.bias": "adapter_up.bias"}
MODULES = {"query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
           "attention_output": "attention.output.dense", "ffn_in": "intermediate.dense", "ffn_out": "output.dense"}


def fill(parameters):
    with torch.no_grad():
        for p in parameters:
            p.normal_(0, 1)


def factors(**widths):
    return {k[1:]: D / (b + 0.5) for k, b in widths.items()}


def adapters_model():
    torch.manual_seed(1)
    return adapters.BertAdapterModel(transformers.BertConfig(**CONFIG))


def theirs(model):
    """What adapters saves: the state dict without the backbone and the aliases of prefixes."""
    marks = ("adapters.", "loras.", "prefix_tunings.", "adapter_fusion_layer.", "heads.")
    return {k: v for k, v in model.state_dict().items() if any(m in k for m in marks) and ".pool." not in k and "heads.default" not in k}


def bottleneck(model, name, layer, kind):
    state = model.get_adapter(name)[layer]["output_adapter"].state_dict()
    return {f"layers.{layer}.{kind}.{ours}": state[library] for ours, library in PARTS.items()}


def lora(model, name, layer, *targets):
    found = {}
    for target in targets:
        state = model.base_model.encoder.layer[layer].get_submodule(MODULES[target]).loras[name].state_dict()
        found |= {f"layers.{layer}.lora.{target}.{part}": state["lora_" + part.upper()] for part in "ab"}
    return found


def prefix(model, name, length, layers):
    flat = model.base_model.prefix_tuning.prefix_tunings[name].self_prefix.control_trans.detach().view(length, len(layers), 2, D)
    return {f"layers.{i}.prefix.{part}": flat[:, at, k] for at, i in enumerate(layers) for k, part in enumerate(("keys", "values"))}


def one_adapter():
    """All methods in one adapter, and a dense head."""
    model = adapters_model()
    config = adapters.ConfigUnion(
        adapters.SeqBnConfig(reduction_factor=factors(l0=3), leave_out=[1]),
        adapters.ParBnConfig(reduction_factor=factors(l1=2), leave_out=[0]),
        adapters.PrefixTuningConfig(flat=True, prefix_length=2, leave_out=[0]),
        adapters.LoRAConfig(r=2, alpha=4, attn_matrices=["q", "v"], intermediate_lora=True, leave_out=[1]))
    model.add_adapter("task", config=config)
    model.add_classification_head("task", num_labels=2, layers=2, activation_function="tanh", id2label={0: "no", 1: "yes"})
    fill(theirs(model).values())
    head = theirs(model)
    ours = (bottleneck(model, "task", 0, "serial") | bottleneck(model, "task", 1, "parallel") | prefix(model, "task", 2, [1])
            | lora(model, "task", 0, "query", "value", "ffn_in")
            | {f"head.dense.{k}": head[f"heads.task.1.{k}"] for k in ("weight", "bias")}
            | {f"head.{k}": head[f"heads.task.4.{k}"] for k in ("weight", "bias")})
    plan = [{"serial": {"width": 3}, "lora": {"rank": 2, "alpha": 4, "targets": ["query", "value", "ffn_in"]}},
            {"parallel": {"width": 2}, "prefix": {"length": 2}}]
    return "adapter", "adapters", plan, "dense", ["no", "yes"], ours, theirs(model), {
        "adapter_config.json": model.adapters_config.get("task").to_dict(), "head_config.json": model.heads["task"].config}


def setup():
    """Two lengths, two ranks, and a serial and a parallel adapter in layer 0; layer 1 has only a serial one."""
    model = adapters_model()
    a = adapters
    configs = {
        "task-1": a.ConfigUnion(a.PrefixTuningConfig(flat=True, prefix_length=2, leave_out=[1]),
                                a.LoRAConfig(r=1, alpha=2, attn_matrices=["k"], leave_out=[1])),
        "task-2": a.ConfigUnion(a.PrefixTuningConfig(flat=True, prefix_length=3, leave_out=[0]),
                                a.LoRAConfig(r=2, alpha=3, selfattn_lora=False, attn_matrices=[], output_lora=True, leave_out=[0])),
        "task-pa": a.ParBnConfig(scaling=8.0, reduction_factor=factors(l0=2, l1=1)),
        "task-sa": a.SeqBnConfig(scaling=2.0, reduction_factor=factors(l0=3, l1=2)),
    }
    for name, config in configs.items():
        model.add_adapter(name, config=config)
    fusion = {"key": False, "query": True, "value": False, "query_before_ln": False, "regularization": False, "residual_before": False,
              "temperature": False, "value_before_softmax": True, "value_initialized": False, "dropout_prob": None}
    model.add_adapter_fusion(ac.Fuse("task-pa", "task-sa"), fusion)
    model.add_classification_head("task", num_labels=1, layers=1, activation_function=None, use_pooler=False)
    fill(theirs(model).values())
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "adapter_fusion_layer" in name or "layer.1.output.adapters.task-pa" in name:
                p.zero_()
    head = theirs(model)
    ours = (bottleneck(model, "task-sa", 0, "serial") | bottleneck(model, "task-pa", 0, "parallel") | bottleneck(model, "task-sa", 1, "serial")
            | prefix(model, "task-1", 2, [0]) | prefix(model, "task-2", 3, [1])
            | lora(model, "task-1", 0, "key") | lora(model, "task-2", 1, "ffn_out")
            | {f"head.{k}": head[f"heads.task.1.{k}"] for k in ("weight", "bias")})
    plan = [{"serial": {"width": 3}, "parallel": {"width": 2}, "prefix": {"length": 2}, "lora": {"rank": 1, "alpha": 2, "targets": ["key"]}},
            {"serial": {"width": 2}, "prefix": {"length": 3}, "lora": {"rank": 2, "alpha": 3, "targets": ["ffn_out"]}}]
    stack = ac.Stack(ac.Stack("task-1"), ac.Stack("task-2"), ac.Fuse(ac.Stack("task-pa"), "task-sa")).to_dict()
    stack["children"][:2] = [child["children"][0] for child in stack["children"][:2]]
    return "setup", "adapters", plan, "linear", None, ours, theirs(model), {
        f"{name}/adapter_config.json": model.adapters_config.get(name).to_dict() for name in configs} | {
        "task/head_config.json": model.heads["task"].config, "task-pa,task-sa/adapter_fusion_config.json": fusion,
        "adapter_setup.json": stack}


def saved(model):
    """What peft saves."""
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        tensors = safetensors.torch.load_file(place + "/adapter_model.safetensors")
        config = json.loads(pathlib.Path(place, "adapter_config.json").read_text())
    # peft appends its default names, once or twice; "score" is for other architectures.
    config["modules_to_save"] = sorted(set(config["modules_to_save"]) - {"score"})
    config["target_modules"] = sorted(config.get("target_modules") or [])
    return tensors, config


def classifier():
    torch.manual_seed(2)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**CONFIG, num_labels=2))
    model.name_or_path = "models/small"
    return model


def head_of(model):
    state = {k: v for k, v in model.state_dict().items() if "modules_to_save" in k}
    pick = lambda part: next(v for k, v in state.items() if k.endswith(part))
    return {"head.dense.weight": pick("dense.weight"), "head.dense.bias": pick("dense.bias"),
            "head.weight": next(v for k, v in state.items() if "classifier" in k and k.endswith("weight")),
            "head.bias": next(v for k, v in state.items() if "classifier" in k and k.endswith("bias"))}


def peft_lora():
    """Two ranks and alphas, every target."""
    names = {f"encoder.layer.{i}.{MODULES[t]}": i for i, targets in ((0, MODULES), (1, ["query"])) for t in targets}
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=2, lora_alpha=4.0, target_modules=["bert." + n for n in names],
        rank_pattern={n: (2, 1)[i] for n, i in names.items()}, alpha_pattern={n: (4, 3)[i] for n, i in names.items()},
        modules_to_save=["classifier", "pooler"])
    model = peft.get_peft_model(classifier(), config)
    fill(p for p in model.parameters() if p.requires_grad)
    ours = head_of(model)
    for n, i in names.items():
        module = model.base_model.model.get_submodule("bert." + n)
        target = next(t for t in MODULES if n.endswith(f"layer.{i}.{MODULES[t]}"))
        ours |= {f"layers.{i}.lora.{target}.a": module.lora_A["default"].weight, f"layers.{i}.lora.{target}.b": module.lora_B["default"].weight}
    tensors, written = saved(model)
    plan = [{"lora": {"rank": 2, "alpha": 4, "targets": list(MODULES)}}, {"lora": {"rank": 1, "alpha": 3, "targets": ["query"]}}]
    return "peft-lora", "peft", plan, "dense", ["no", "yes"], ours, tensors, {"adapter_config.json": written}


def peft_prefix():
    """One length in every layer."""
    config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=3, modules_to_save=["classifier", "pooler"])
    model = peft.get_peft_model(classifier(), config)
    fill(p for p in model.parameters() if p.requires_grad)
    ours = head_of(model)
    for i, layer in enumerate(model.get_prompt(1).layers):
        for part, t in (("keys", layer.keys), ("values", layer.values)):  # [1, heads, p, D/heads]
            ours[f"layers.{i}.prefix.{part}"] = t.detach()[0].transpose(0, 1).reshape(3, D)
    tensors, written = saved(model)
    return "peft-prefix", "peft", [{"prefix": {"length": 3}}] * 2, "dense", ["no", "yes"], ours, tensors, {"adapter_config.json": written}


DISTILBERT = transformers.DistilBertConfig(vocab_size=11, dim=D, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=12, num_labels=2)
DISTILBERT_MODULES = {"query": "attention.q_lin", "key": "attention.k_lin", "value": "attention.v_lin", "attention_output": "attention.out_lin",
                      "ffn_in": "ffn.lin1", "ffn_out": "ffn.lin2"}


def distilbert_adapter():
    """All methods in one adapter of an architecture with names of its own, and a linear head."""
    torch.manual_seed(3)
    model = adapters.DistilBertAdapterModel(DISTILBERT)
    model.add_adapter("task", config=adapters.ConfigUnion(
        adapters.SeqBnConfig(reduction_factor=factors(l0=3), leave_out=[1]),
        adapters.ParBnConfig(reduction_factor=factors(l1=2), leave_out=[0]),
        adapters.PrefixTuningConfig(flat=True, prefix_length=2, leave_out=[0]),
        adapters.LoRAConfig(r=2, alpha=4, attn_matrices=["q", "v"], intermediate_lora=True, leave_out=[1])))
    model.add_classification_head("task", num_labels=2, layers=1, activation_function=None, id2label={0: "no", 1: "yes"})
    fill(theirs(model).values())
    ours = bottleneck(model, "task", 0, "serial") | bottleneck(model, "task", 1, "parallel")
    flat = model.base_model.prefix_tuning.prefix_tunings["task"]["self"].control_trans.detach().view(2, 1, 2, D)
    ours |= {f"layers.1.prefix.{part}": flat[:, 0, k] for k, part in enumerate(("keys", "values"))}
    for target in ("query", "value", "ffn_in"):
        state = model.base_model.transformer.layer[0].get_submodule(DISTILBERT_MODULES[target]).loras["task"].state_dict()
        ours |= {f"layers.0.lora.{target}.{part}": state["lora_" + part.upper()] for part in "ab"}
    ours |= {f"head.{k}": theirs(model)[f"heads.task.1.{k}"] for k in ("weight", "bias")}
    plan = [{"serial": {"width": 3}, "lora": {"rank": 2, "alpha": 4, "targets": ["query", "value", "ffn_in"]}},
            {"parallel": {"width": 2}, "prefix": {"length": 2}}]
    return "adapter-distilbert", "adapters", plan, "linear", ["no", "yes"], ours, theirs(model), {
        "adapter_config.json": model.adapters_config.get("task").to_dict(), "head_config.json": model.heads["task"].config}


def distilbert_lora():
    """Every target, and a linear head behind a ReLU."""
    torch.manual_seed(4)
    base = transformers.DistilBertForSequenceClassification(DISTILBERT)
    base.name_or_path = "models/small"
    names = {f"distilbert.transformer.layer.0.{m}": t for t, m in DISTILBERT_MODULES.items()}
    model = peft.get_peft_model(base, peft.LoraConfig(
        task_type="SEQ_CLS", r=2, lora_alpha=4.0, target_modules=list(names), rank_pattern={n.removeprefix("distilbert."): 2 for n in names},
        alpha_pattern={n.removeprefix("distilbert."): 4.0 for n in names}, modules_to_save=["classifier", "pre_classifier"]))
    fill(p for p in model.parameters() if p.requires_grad)
    head = {k.rsplit(".", 1)[1]: p for k, p in model.named_parameters() if "modules_to_save" in k and ".classifier." in k}
    ours = {f"head.{k}": p.detach().clone() for k, p in head.items()}
    with torch.no_grad():  # h + 64 goes through the ReLU, and the classifier takes 64 from it
        for k, p in model.named_parameters():
            if "modules_to_save" in k and "pre_classifier" in k:
                p.copy_(torch.eye(D) if k.endswith("weight") else torch.full((D,), 64.0))
        head["bias"].copy_(ours["head.bias"].double() - 64 * ours["head.weight"].double().sum(1))
    for n, target in names.items():
        module = model.base_model.model.get_submodule(n)
        ours |= {f"layers.0.lora.{target}.a": module.lora_A["default"].weight, f"layers.0.lora.{target}.b": module.lora_B["default"].weight}
    tensors, written = saved(model)
    plan = [{"lora": {"rank": 2, "alpha": 4, "targets": list(MODULES)}}, {}]
    return "peft-distilbert", "peft", plan, "linear", ["no", "yes"], ours, tensors, {"adapter_config.json": written}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, to, plan, head, labels, ours, library, documents in (
            one_adapter(), setup(), peft_lora(), peft_prefix(), distilbert_adapter(), distilbert_lora()):
        tensors = {"ours." + k: v for k, v in ours.items()} | {"theirs." + k: v for k, v in library.items()}
        safetensors.torch.save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, OUT / f"{name}.safetensors")
        cases.append({"name": name, "architecture": "distilbert" if "distilbert" in name else "bert", "format": to, "plan": {"version": 1, "layers": plan}, "head": head, "labels": labels,
                      "documents": documents})
    (OUT / "golden.json").write_text(json.dumps(cases, indent=1, sort_keys=True, default=list) + "\n")


if __name__ == "__main__":
    main()
