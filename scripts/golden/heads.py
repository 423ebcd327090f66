#!/usr/bin/env python3
"""Write evaluator/model/testdata/heads.*: what the reference libraries compute with the heads of tasks.

Made with Python 3.11 and torch 2.15.0, transformers 4.57.6, adapters 1.3.0, safetensors 0.8.0. Run it in the repository
root after scripts/golden/model.py. Neither library has a head for coreference: that one is written out, with the
pooling of AllenNLP's SelfAttentiveSpanExtractor, which is that of Lee et al. (2017).
"""
import json
import pathlib

import adapters
import safetensors.torch
import torch
import transformers

OUT = pathlib.Path("evaluator/model/testdata")
MODEL = OUT / "bert"
SEED = 11
g = torch.Generator().manual_seed(SEED)
cases, tensors = [], {}


def config(**changes):
    return transformers.AutoConfig.from_pretrained(MODEL, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.0, **changes)


def fill(parameter, std=0.5):
    with torch.no_grad():
        parameter.copy_(torch.randn(parameter.shape, generator=g) * std)


def rows(lengths, seed):
    r = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = (torch.arange(width)[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 40, (len(lengths), width), generator=r) * mask
    types = torch.randint(0, 2, (len(lengths), width), generator=r) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def record(name, kind, head, outputs, batch, lengths, targets, logits, loss, parameters, **more):
    """loss is the mean over the terms; parameters are those of the head, by our names."""
    for ours, parameter in parameters.items():
        parameter.grad = None
    loss.backward()
    for ours, parameter in parameters.items():
        tensors[f"{name}.value.{ours}"] = parameter.detach().clone()
        tensors[f"{name}.grad.{ours}"] = parameter.grad.clone()
    flat = lambda key: [int(v) for row, n in zip(batch[key], lengths) for v in row[:n]]
    cases.append({"name": name, "task": kind, "head": head, "outputs": outputs, "ids": flat("input_ids"), "types": flat("token_type_ids"),
                  "lengths": lengths, "targets": targets, "logits": [float(v) for v in logits.flatten()], "loss": float(loss), **more})


def named(weight, bias, dense=None):
    parameters = {"head.weight": weight, "head.bias": bias}
    if dense is not None:
        parameters |= {"head.dense.weight": dense.weight, "head.dense.bias": dense.bias}
    for parameter in parameters.values():
        fill(parameter)
    return parameters


def tokens():
    model = transformers.BertForTokenClassification.from_pretrained(MODEL, config=config(num_labels=5)).train()
    parameters = named(model.classifier.weight, model.classifier.bias)
    lengths, marked = [7, 3, 5], [[1, 2, 5], [1], [1, 3]]
    batch, targets = rows(lengths, 1), [0, 3, 4, 1, 2, 0]
    labels, wanted = torch.full_like(batch["input_ids"], -100), iter(targets)
    for row, positions in enumerate(marked):
        for position in positions:
            labels[row, position] = next(wanted)
    labels[0, 2] = targets[1] = -100  # a token that counts for nothing
    out = model(**batch, labels=labels)
    logits = torch.cat([out.logits[row, positions] for row, positions in enumerate(marked)])
    record("tokens", "token_classification", "linear", 5, batch, lengths, targets, logits, out.loss, parameters, marked=marked)


def choices(name, model, parameters, head):
    """Rows of 2 and 4 choices: the loss of a batch is the mean of theirs."""
    numbers, lengths, targets = [2, 4], [6, 4, 5, 8, 3, 5], [1, 2]
    batch, losses, logits, at = rows(lengths, 2), [], [], 0
    for number, target in zip(numbers, targets):
        part = {key: value[at:at + number] for key, value in batch.items()}
        at += number
        out = model(part, torch.tensor([target]))
        losses.append(out.loss)
        logits.append(out.logits.flatten())
    record(name, "multiple_choice", head, 1, batch, lengths, targets, torch.cat(logits), torch.stack(losses).mean(), parameters, sequences=numbers)


def choice_transformers():
    model = transformers.BertForMultipleChoice.from_pretrained(MODEL, config=config()).train()
    parameters = named(model.classifier.weight, model.classifier.bias, model.bert.pooler.dense)
    choices("choice-transformers", lambda part, label: model(**{k: v[None] for k, v in part.items()}, labels=label), parameters, "dense")


def adapter_model():
    # Its heads have the dropout of the configuration at the time at which they are added.
    return adapters.BertAdapterModel.from_pretrained(MODEL, config=config()).train()


def choice_adapters():
    model = adapter_model()
    for number in (2, 4):
        model.add_multiple_choice_head(f"of-{number}", num_choices=number, layers=2)
    layers = [model.heads["of-2"], model.heads["of-4"]]
    parameters = named(layers[0][4].weight, layers[0][4].bias, layers[0][1])
    layers[1][1], layers[1][4] = layers[0][1], layers[0][4]

    def run(part, label):
        number = len(part["input_ids"])
        return model(**{k: v[None] for k, v in part.items()}, labels=label, head=f"of-{number}")

    choices("choice-adapters", run, parameters, "dense")


def multilabel_transformers():
    model = transformers.BertForSequenceClassification.from_pretrained(MODEL, config=config(num_labels=3, problem_type="multi_label_classification")).train()
    parameters = named(model.classifier.weight, model.classifier.bias, model.bert.pooler.dense)
    multilabel("multilabel-transformers", model, parameters, "dense")


def multilabel_adapters():
    model = adapter_model()
    model.add_classification_head("labels", num_labels=3, layers=1, multilabel=True, use_pooler=False)
    parameters = named(model.heads["labels"][1].weight, model.heads["labels"][1].bias)
    multilabel("multilabel-adapters", model, parameters, "linear")


def multilabel(name, model, parameters, head):
    lengths, targets = [4, 9, 6], [[1, 0, 1], [0, 0, 0], [1, 1, 0]]
    batch = rows(lengths, 3)
    out = model(**batch, labels=torch.tensor(targets).float())
    record(name, "multilabel", head, 3, batch, lengths, sum(targets, []), out.logits, out.loss, parameters)


def coreference(name, head):
    backbone = transformers.BertModel.from_pretrained(MODEL, config=config(), add_pooling_layer=False).train()
    d = backbone.config.hidden_size
    classifier, dense, pool = torch.nn.Linear(2 * d, 2), torch.nn.Linear(2 * d, 2 * d), torch.nn.Linear(d, 1, bias=False)
    parameters = named(classifier.weight, classifier.bias, dense if head == "dense" else None) | {"head.pool.weight": pool.weight}
    fill(pool.weight)
    lengths, targets = [9, 6], [1, 0, 1]
    spans = [[(7, 8), (1, 4), (3, 6)], [(2, 5), (1, 3)]]  # ranges; they may overlap
    batch = rows(lengths, 4)
    hidden = backbone(**batch).last_hidden_state

    def state(row, span):
        x = hidden[row, span[0]:span[1]]
        return torch.softmax(pool(x), 0).T @ x

    pairs = torch.cat([torch.cat([state(row, mention), state(row, candidate)], 1)
                       for row, (mention, *candidates) in enumerate(spans) for candidate in candidates])
    logits = classifier(torch.tanh(dense(pairs)) if head == "dense" else pairs)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets))
    marked = [sorted({i for a, b in row for i in range(a, b)}) for row in spans]
    record(name, "coreference", head, 2, batch, lengths, targets, logits, loss, parameters, marked=marked,
           spans=[[{"Start": a, "End": b} for a, b in row] for row in spans])


if __name__ == "__main__":
    tokens()
    choice_transformers()
    choice_adapters()
    multilabel_transformers()
    multilabel_adapters()
    coreference("coreference-linear", "linear")
    coreference("coreference-dense", "dense")
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, OUT / "heads.safetensors")
    (OUT / "heads.json").write_text(json.dumps(cases, separators=(",", ":")).replace("},{\"name\"", "},\n{\"name\"") + "\n")
