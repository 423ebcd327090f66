package peft

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// How what left the house is trained on: the part of the README for it.

// trainOn is Python that follows the code that loads an export. It leaves to be trained what was trained here, all of a
// merged model, and makes an optimiser. It is "" for what cannot be trained.
func (t Trained) trainOn(format Format) string {
	l := t.head().layers
	classHead := format == FormatPEFT || format == FormatMerged
	switch {
	case t.configOnly() || format == FormatPlan || format == FormatONNX:
		return ""
	case classHead && t.linearHead() && l(t.family()).between != tanh:
		return fmt.Sprintf("In this form the head does not learn as it did here: train on from the export for %s.\n",
			FormatTransformers)
	}
	lines := []string{"import torch", ""}
	var last string
	if classHead {
		layers, wrap := l(t.family()), func(name string) string { return name }
		if format == FormatPEFT {
			wrap = layers.inPEFT
			lines = append(lines, t.peftTrained(wrap(layers.dense))...)
		} else if t.linearHead() {
			lines = append(lines, "model.get_submodule("+pythonString(layers.dense)+").requires_grad_(False)  # 2^-7·I")
		}
		if t.linearHead() {
			last = wrap(layers.logits) + ".weight"
		}
	}
	switch format {
	case FormatTransformers:
		lines = append(lines, "model.freeze_backbone()")
	case FormatAdapters:
		lines = append(lines, t.adaptersTrained()...)
		if t.Info.dropout() == 0 {
			lines = append(lines, "model.eval()  # train_adapter turned dropout on, without which it was trained")
		}
	}
	code := python(append(lines, t.optimizer(last)...)...)
	if format == FormatPEFT && t.family().turned {
		code += "\nQuery, key and value are one matrix here, of which zeros learn too that a plan does not have, and a head " +
			"without a bias cannot move it: an export for " + string(FormatTransformers) + " learns as it did here.\n"
	}
	return code
}

// optimizer is AdamW with the training's own rate. Of a linear head in a class with a tanh the last layer, of this
// name, has weights 1/ε times as large, which move as far in steps of 1/ε times the rate.
func (t Trained) optimizer(last string) []string {
	training := struct {
		Rate  float64 `json:"learning_rate"`
		Decay float64 `json:"weight_decay"`
	}{}
	if err := json.Unmarshal(t.Info.Training, &training); err != nil || training.Rate <= 0 {
		training.Rate = 1e-3
	}
	lines := []string{fmt.Sprintf("rate, decay = %g, %g", training.Rate, training.Decay)}
	if last == "" {
		return append(lines, "trained = [p for p in model.parameters() if p.requires_grad]",
			"optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)")
	}
	scale := 1 / linearScale
	return append(lines, "scaled, trained = [], []  # the head's last weights are "+fmt.Sprintf("%g times as large here", scale),
		"for name, p in model.named_parameters():",
		"    if p.requires_grad:",
		fmt.Sprintf("        (scaled if name.endswith(%s) else trained).append(p)", pythonString(last)),
		fmt.Sprintf(`groups = [{"params": trained}, {"params": scaled, "lr": %g * rate, "weight_decay": decay / %g}]`, scale,
			scale),
		"optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=decay)")
}

// inPEFT is what PEFT calls a layer of the head, of which it keeps a copy.
func (l headLayers) inPEFT(name string) string {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if slices.Contains(l.saved, part) {
			parts[i] += ".modules_to_save.default"
			break
		}
	}
	return strings.Join(parts, ".")
}

// peftTrained chooses what is trained. PEFT's own is_trainable refuses prompts and prefixes, and trains copies that
// only stand for something: of positions, of the norm that holds the head's bias, of the layer before a linear head.
func (t Trained) peftTrained(dense string) []string {
	kept := []string{`"position_embeddings"`}
	if norm := t.family().finalNorm; norm != "" {
		kept = append(kept, pythonString("."+norm+"."))
	}
	if t.linearHead() {
		kept = append(kept, pythonString(dense+"."))
	}
	return []string{`parts = getattr(model.base_model, "prefix", "prompt_encoder."), "modules_to_save.default"`,
		"kept = [" + strings.Join(kept, ", ") + "]", "for name, p in model.named_parameters():",
		"    p.requires_grad_(any(part in name for part in parts) and not any(part in name for part in kept))"}
}

// adaptersTrained lets the library choose, but for the constants of a fusion.
func (t Trained) adaptersTrained() []string {
	fused := needsFusion(t.Plan)
	a := &adaptersExport{Trained: t}
	switch parts := a.parts(fused); {
	case len(parts) == 0 && !fused:
		return []string{"model.base_model.requires_grad_(False)"}
	case len(parts) == 1 && !fused:
		return []string{fmt.Sprintf("model.train_adapter(%q)", t.adapterName())}
	}
	lines := []string{"from adapters.composition import Stack", "", "setup = model.active_adapters",
		"model.train_adapter(Stack(*sorted(setup.flatten())))", "model.set_active_adapters(setup)",
		fmt.Sprintf("model.active_head = %q", t.adapterName())}
	if fused {
		lines = append(append(lines, a.constants()...), "for p in constant:", "    p.requires_grad_(False)")
	}
	return lines
}
