package peft

import (
	"errors"
	"fmt"
	"slices"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
)

// The export for Hugging Face PEFT: one adapter of type LORA or PREFIX_TUNING.

// peftConfig is adapter_config.json. Patterns are regular expressions on the path of a module, which
// override r and lora_alpha.
type peftConfig struct {
	PEFTType           string             `json:"peft_type"`
	TaskType           string             `json:"task_type,omitempty"`
	BaseModel          string             `json:"base_model_name_or_path"`
	InferenceMode      bool               `json:"inference_mode"`
	R                  int                `json:"r,omitempty"`
	Alpha              float64            `json:"lora_alpha,omitempty"`
	TargetModules      []string           `json:"target_modules,omitempty"`
	RankPattern        map[string]int     `json:"rank_pattern,omitempty"`
	AlphaPattern       map[string]float64 `json:"alpha_pattern,omitempty"`
	ModulesToSave      []string           `json:"modules_to_save,omitempty"`
	UseDoRA            bool               `json:"use_dora,omitempty"`
	NumVirtualTokens   int                `json:"num_virtual_tokens,omitempty"`
	SaveProjection     bool               `json:"save_projection,omitempty"`
	DInitial           float64            `json:"d_initial,omitempty"`
	FeedforwardModules []string           `json:"feedforward_modules,omitempty"`
	FanInFanOut        bool               `json:"fan_in_fan_out,omitempty"`
}

// peftModule is a module of a method that PEFT has.
type peftModule interface {
	Module
	// peftHolds reports whether one adapter can hold a plan's modules of the method.
	peftHolds(p Plan, g Geometry) bool
	// peftConfig fills in the configuration.
	peftConfig(t Trained, c *peftConfig)
	// peftTensors adds the tensors of the plan's modules, by the names in the file.
	peftTensors(t Trained, into map[string]checkpoint.Tensor)
}

// peftMethod is a module of the method that an adapter for the plan has, since it has only one: the one with the most
// parameters.
func peftMethod(p Plan, g Geometry) (chosen peftModule) {
	counts, most := p.Params(g).Methods, int64(0)
	for _, m := range Methods {
		if module, ok := p.any(m).(peftModule); ok && module.peftHolds(p, g) && counts[m].Total() > most {
			chosen, most = module, counts[m].Total()
		}
	}
	return chosen
}

func peftPart(p Plan, g Geometry) (kept Plan, lost []string) {
	chosen := peftMethod(p, g)
	return split(p, func(m Module) (Module, string) {
		if chosen == nil || m.Method() != chosen.Method() {
			return nil, m.String()
		}
		return m, ""
	})
}

func exportPEFT(t Trained) (*export, error) {
	if t.Backbone != nil {
		return nil, errors.New("the backbone was trained too, and the format does not hold it: export as merged")
	}
	module := peftMethod(t.Plan, t.Info.Geometry)
	if module == nil {
		return nil, errors.New("the format needs LoRA in some layer, or a prefix of one length in every layer, and the " +
			"plan has neither")
	}
	config := peftConfig{ModulesToSave: t.head().layers(t.family()).saved, TaskType: t.head().taskType,
		BaseModel: t.modelName(), InferenceMode: !t.configOnly(), FanInFanOut: t.family().turned}
	e := &export{tensors: map[string]map[string]checkpoint.Tensor{}}
	module.peftConfig(t, &config)
	if config.NumVirtualTokens > 0 && config.TaskType == "" {
		return nil, fmt.Errorf("PEFT has no prefixes for %s: export as %s", t.Info.Task.Kind, FormatAdapters)
	}
	if config.NumVirtualTokens > 0 {
		e.notes = append(e.notes,
			fmt.Sprintf("PEFT moves the tokens to positions that begin at %d, while the prefix was trained with "+
				"positions that begin as without it. Passing `position_ids` as above undoes that; without them the outputs differ.",
				config.NumVirtualTokens))
	}
	if !t.configOnly() {
		tensors := map[string]checkpoint.Tensor{}
		module.peftTensors(t, tensors)
		if t.headShifts() {
			if err := t.peftNorm(&config, tensors); err != nil {
				return nil, err
			}
		}
		e.tensors["adapter_model.safetensors"] = tensors
		if t.linearHead() {
			e.notes = append(e.notes, linearHeadNote)
		}
	}
	e.documents = map[string]any{"adapter_config.json": config}
	e.loading = t.peftSnippet(config)
	return e, nil
}

// peftNorm adds the last LayerNorm, with the head's bias in its own.
func (t Trained) peftNorm(c *peftConfig, into map[string]checkpoint.Tensor) error {
	source, err := t.openModel()
	if err != nil {
		return err
	}
	defer source.Close()
	const canonical = "decoder.LayerNorm"
	weight, err := source.Tensor(canonical + ".weight")
	if err != nil {
		return err
	}
	bias, err := source.Tensor(canonical + ".bias")
	if err != nil {
		return err
	}
	name := t.family().finalNorm
	c.ModulesToSave = append(slices.Clone(c.ModulesToSave), name)
	name = "base_model.model." + t.family().backbone + "." + name
	into[name+".weight"] = checkpoint.NewTensor(weight.Float32(), weight.Shape...)
	into[name+".bias"], err = t.shiftedNorm(bias)
	return err
}

// peftSnippet loads the export in Python, or prepares its configuration for training.
func (t Trained) peftSnippet(c peftConfig) string {
	model := pythonString(t.modelName())
	class := t.head().autoClass()
	base := fmt.Sprintf("model = %s.from_pretrained(%s, num_labels=%d)", class, model, t.Info.Outputs())
	if t.Info.Task.Kind == data.KindMultipleChoice { // the class has one output whatever is asked for
		base = fmt.Sprintf("model = %s.from_pretrained(%s)", class, model)
	}
	if t.configOnly() {
		return python(
			"from peft import PeftConfig, get_peft_model", "from transformers import "+class, "",
			`directory = "."  # this directory`, base, "model = get_peft_model(model, PeftConfig.from_pretrained(directory))")
	}
	example := t.example()
	inputs, call := example[:len(example)-1], example[len(example)-1]
	lines := []string{"from peft import PeftModel", "from transformers import " + class + ", AutoTokenizer", "",
		`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(" + model + ")", base,
		"model = PeftModel.from_pretrained(model, directory).eval()"}
	lines = append(lines, inputs...)
	if c.NumVirtualTokens == 0 {
		return python(append(lines, call)...)
	}
	return python(append(append([]string{"import torch"}, lines...),
		fmt.Sprintf(`position_ids = torch.arange(inputs["input_ids"].shape[1])[None] - %d`, c.NumVirtualTokens),
		"logits = model(**inputs, position_ids=position_ids).logits")...)
}
