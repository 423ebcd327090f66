package peft

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
)

// The export for Hugging Face PEFT: one adapter of type LORA or PREFIX_TUNING.

// peftConfig is adapter_config.json. Patterns are regular expressions on the path of a module, which
// override r and lora_alpha.
type peftConfig struct {
	PEFTType         string             `json:"peft_type"`
	TaskType         string             `json:"task_type"` // "SEQ_CLS"
	BaseModel        string             `json:"base_model_name_or_path"`
	InferenceMode    bool               `json:"inference_mode"`
	R                int                `json:"r,omitempty"`
	Alpha            float64            `json:"lora_alpha,omitempty"`
	TargetModules    []string           `json:"target_modules,omitempty"`
	RankPattern      map[string]int     `json:"rank_pattern,omitempty"`
	AlphaPattern     map[string]float64 `json:"alpha_pattern,omitempty"`
	ModulesToSave    []string           `json:"modules_to_save,omitempty"`
	NumVirtualTokens int                `json:"num_virtual_tokens,omitempty"`
}

// peftPart keeps all LoRA, or a prefix of one length in every layer if there is no LoRA and PEFT can run it.
func peftPart(p Plan, g Geometry) (kept Plan, lost []string) {
	hasLoRA := slices.ContainsFunc(p.Layers, func(l Layer) bool { return l.LoRA != nil })
	uniform := families[g.Architecture].peftPrefix && p.Layers[0].Prefix != nil && !slices.ContainsFunc(p.Layers, func(l Layer) bool {
		return l.Prefix == nil || l.Prefix.Length != p.Layers[0].Prefix.Length
	})
	var l losses
	kept.Layers = slices.Clone(p.Layers)
	for i := range kept.Layers {
		l.dropAdapters(&kept.Layers[i], i)
		if hasLoRA || !uniform {
			l.dropPrefix(&kept.Layers[i], i)
		}
	}
	return kept, l.list()
}

func exportPEFT(t Trained) (*export, error) {
	if t.Backbone != nil {
		return nil, errors.New("the backbone was trained too, and the format does not hold it: export as merged")
	}
	if t.Plan.Empty() {
		return nil, errors.New("the format needs LoRA in some layer, or a prefix of one length in every layer, and the plan has neither")
	}
	config := peftConfig{ModulesToSave: t.family().saved, TaskType: "SEQ_CLS", BaseModel: t.Info.Model, InferenceMode: !t.configOnly()}
	e := &export{tensors: map[string]map[string]checkpoint.Tensor{}}
	if prefix := t.Plan.Layers[0].Prefix; prefix != nil {
		config.PEFTType, config.NumVirtualTokens = "PREFIX_TUNING", prefix.Length
		e.notes = append(e.notes, fmt.Sprintf("PEFT moves the tokens to positions that begin at %d, while the prefix was trained with "+
			"positions that begin as without it. Passing `position_ids` as above undoes that; without them the outputs differ.", prefix.Length))
	} else {
		t.peftLoRAConfig(&config)
	}
	if !t.configOnly() {
		if config.NumVirtualTokens > 0 {
			e.tensors["adapter_model.safetensors"] = t.peftPrefixTensors()
		} else {
			e.tensors["adapter_model.safetensors"] = t.peftLoRATensors()
		}
		if t.Info.Head == headLinear {
			e.notes = append(e.notes, linearHeadNote)
		}
	}
	e.documents = map[string]any{"adapter_config.json": config}
	e.loading = t.peftSnippet(config)
	return e, nil
}

// peftModule is the path of a module in the model for sequence classification.
func (t Trained) peftModule(layer int, target Target) string {
	return t.family().backbone + "." + layerModule(layer, targetModules[target])
}

func (t Trained) peftLoRAConfig(c *peftConfig) {
	c.PEFTType = "LORA"
	c.RankPattern, c.AlphaPattern = map[string]int{}, map[string]float64{}
	for i, layer := range t.Plan.Layers {
		if layer.LoRA == nil {
			continue
		}
		if c.R == 0 {
			c.R, c.Alpha = layer.LoRA.Rank, layer.LoRA.Alpha
		}
		for _, target := range layer.LoRA.canonical().Targets {
			module := t.peftModule(i, target)
			c.TargetModules = append(c.TargetModules, module)
			// Rank and alpha are looked up independently: both are written, or alpha/rank would be wrong.
			c.RankPattern["^"+module], c.AlphaPattern["^"+module] = layer.LoRA.Rank, layer.LoRA.Alpha
		}
	}
}

func (t Trained) peftLoRATensors() map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	for i, layer := range t.Plan.Layers {
		if layer.LoRA == nil {
			continue
		}
		for _, target := range layer.LoRA.Targets {
			module := "base_model.model." + t.peftModule(i, target)
			tensors[module+".lora_A.weight"] = t.Modules[moduleTensor(i, "lora."+string(target)+".a")]
			tensors[module+".lora_B.weight"] = t.Modules[moduleTensor(i, "lora."+string(target)+".b")]
		}
	}
	for name, tensor := range t.sequenceHead() {
		tensors["base_model.model."+name] = tensor
	}
	return tensors
}

// peftPrefixTensors has the prefix as prompt_embeddings [p, layers·2·D], keys before values. The names of
// the head lack "model.": prompt learning does not wrap the model.
func (t Trained) peftPrefixTensors() map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	var pairs [][]float32
	length, d := t.Plan.Layers[0].Prefix.Length, t.Info.Geometry.Hidden
	for i := range t.Plan.Layers {
		pairs = append(pairs, t.Modules[moduleTensor(i, "prefix.keys")].Float32(), t.Modules[moduleTensor(i, "prefix.values")].Float32())
	}
	tensors["prompt_embeddings"] = checkpoint.NewTensor(interleave(pairs, length, d), length, len(pairs)*d)
	for name, tensor := range t.sequenceHead() {
		tensors["base_model."+name] = tensor
	}
	return tensors
}

// peftSnippet loads the export in Python, or prepares its configuration for training.
func (t Trained) peftSnippet(c peftConfig) string {
	model := pythonString(t.Info.Model)
	base := fmt.Sprintf("model = AutoModelForSequenceClassification.from_pretrained(%s, num_labels=%d)", model, t.Info.Outputs())
	if t.configOnly() {
		return python(
			"from peft import PeftConfig, get_peft_model", "from transformers import AutoModelForSequenceClassification", "",
			`directory = "."  # this directory`, base, "model = get_peft_model(model, PeftConfig.from_pretrained(directory))")
	}
	example := t.example()
	lines := []string{"from peft import PeftModel", "from transformers import AutoModelForSequenceClassification, AutoTokenizer", "",
		`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(" + model + ")", base,
		"model = PeftModel.from_pretrained(model, directory).eval()", example[0]}
	if c.NumVirtualTokens == 0 {
		return python(append(lines, example[1])...)
	}
	return python(append(append([]string{"import torch"}, lines...),
		fmt.Sprintf(`position_ids = torch.arange(inputs["input_ids"].shape[1])[None] - %d`, c.NumVirtualTokens),
		"logits = model(**inputs, position_ids=position_ids).logits")...)
}
