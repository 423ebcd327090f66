package peft

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
)

// The export for Hugging Face PEFT: one adapter, of one method.

// peftConfig is adapter_config.json. Patterns are regular expressions on the path of a module, which
// override r and lora_alpha.
type peftConfig struct {
	PEFTType                 string             `json:"peft_type"`
	TaskType                 string             `json:"task_type,omitempty"`
	BaseModel                string             `json:"base_model_name_or_path"`
	InferenceMode            bool               `json:"inference_mode"`
	R                        int                `json:"r,omitempty"`
	Alpha                    float64            `json:"lora_alpha,omitempty"`
	TargetModules            []string           `json:"target_modules,omitempty"`
	RankPattern              map[string]int     `json:"rank_pattern,omitempty"`
	AlphaPattern             map[string]float64 `json:"alpha_pattern,omitempty"`
	ModulesToSave            []string           `json:"modules_to_save,omitempty"`
	UseDoRA                  bool               `json:"use_dora,omitempty"`
	NumVirtualTokens         int                `json:"num_virtual_tokens,omitempty"`
	TokenDim                 int                `json:"token_dim,omitempty"`
	NumTransformerSubmodules int                `json:"num_transformer_submodules,omitempty"`
	SaveProjection           bool               `json:"save_projection,omitempty"`
	DInitial                 float64            `json:"d_initial,omitempty"`
	FeedforwardModules       []string           `json:"feedforward_modules,omitempty"`
	FanInFanOut              bool               `json:"fan_in_fan_out,omitempty"`
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
	return split(p, func(m Module, _ int) (Module, string) {
		if chosen == nil || m.Method() != chosen.Method() {
			return nil, m.String()
		}
		return m, ""
	})
}

func exportPEFT(t Trained, _ Options) (*export, error) {
	if t.Backbone != nil {
		return nil, errors.New("the backbone was trained too, and the format does not hold it: export as merged")
	}
	module := peftMethod(t.Plan, t.Info.Geometry)
	if module == nil {
		return nil, fmt.Errorf("the format holds modules of one of %s, a prefix of one length in every layer, and the "+
			"plan has none of them: export as %s, or as %s if nothing but the head is trained", peftMethods(), FormatAdapters,
			FormatMerged)
	}
	config := peftConfig{ModulesToSave: t.head().layers(t.family()).saved, TaskType: t.head().taskType,
		BaseModel: t.modelName(), InferenceMode: !t.configOnly(), FanInFanOut: t.family().turned}
	e := &export{tensors: map[string]map[string]checkpoint.Tensor{}}
	module.peftConfig(t, &config)
	if config.NumVirtualTokens > 0 && config.TaskType == "" {
		return nil, fmt.Errorf("PEFT has no prefixes and prompts for %s: export as %s", t.Info.Task.Kind, FormatAdapters)
	}
	if module.Method().Input() && t.Info.Task.Kind == data.KindTokenClassification {
		return nil, fmt.Errorf("PEFT tags the tokens of a prompt too: export as %s", t.family().anyPlan())
	}
	if t.configOnly() && t.linearHead() {
		e.notes = append(e.notes, "The head is linear. The library's class has a dense layer before the classifier, and "+
			"trains that too.")
	}
	if !t.configOnly() {
		tensors := map[string]checkpoint.Tensor{}
		module.peftTensors(t, tensors)
		if t.headShifts() {
			if err := t.peftNorm(&config, tensors); err != nil {
				return nil, err
			}
		}
		if p, ok := module.(Prefix); ok {
			table, err := t.movedPositions(p.Length)
			if err != nil {
				return nil, err
			}
			tensors["base_model."+t.family().backbone+".embeddings.position_embeddings.weight"] = table
			config.ModulesToSave = append(slices.Clone(config.ModulesToSave), "position_embeddings")
			e.notes = append(e.notes, fmt.Sprintf("PEFT moves the tokens behind a prefix to positions that begin at %d, while "+
				"the prefix was trained with positions that begin as without it. So the table of positions is here too, moved "+
				"by as many rows, and inputs may have at most %d tokens.", p.Length, table.Shape[0]-p.Length))
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
	source, err := t.openBackbone()
	if err != nil {
		return err
	}
	defer source.Close()
	weight, err := source.Tensor(decoderNorm + ".weight")
	if err != nil {
		return err
	}
	bias, err := source.Tensor(decoderNorm + ".bias")
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
	base := fmt.Sprintf("model = %s.from_pretrained(%s, %s)", class, model, t.labelArguments())
	if t.Info.Task.Kind == data.KindMultipleChoice || t.head().writes { // the class has one output whatever is asked for
		base = fmt.Sprintf("model = %s.from_pretrained(%s)", class, model)
	}
	if t.configOnly() {
		return python(
			"from peft import PeftConfig, get_peft_model", "from transformers import "+class, "",
			`directory = "."  # this directory`, base, "model = get_peft_model(model, PeftConfig.from_pretrained(directory))")
	}
	lines := []string{"from peft import PeftModel", "from transformers import " + class + ", AutoTokenizer", "",
		`directory = "."  # this directory`, t.tokenizerFrom(model), base,
		"model = PeftModel.from_pretrained(model, directory).eval()"}
	return python(append(lines, t.example()...)...)
}

// labelArguments tell transformers what the outputs are: an adapter does not hold it.
func (t Trained) labelArguments() string {
	arguments := fmt.Sprintf("num_labels=%d", t.Info.Outputs())
	if len(t.Info.Labels) > 0 {
		var ids, labels []string
		for i, label := range t.Info.Labels {
			ids = append(ids, fmt.Sprintf("%d: %s", i, pythonString(label)))
			labels = append(labels, fmt.Sprintf("%s: %d", pythonString(label), i))
		}
		arguments = fmt.Sprintf("id2label={%s}, label2id={%s}", strings.Join(ids, ", "), strings.Join(labels, ", "))
	}
	if problem := t.head().problem; problem != "" {
		arguments += fmt.Sprintf(", problem_type=%q", problem)
	}
	return arguments
}

// movedPositions is the model's table of positions, of which a row stands so many rows later.
func (t Trained) movedPositions(by int) (checkpoint.Tensor, error) {
	source, err := t.openBackbone()
	if err != nil {
		return checkpoint.Tensor{}, err
	}
	defer source.Close()
	table, err := source.Tensor("embeddings.position_embeddings.weight")
	if err != nil {
		return table, err
	}
	values, width := table.Float32(), table.Shape[1]
	if by >= table.Shape[0] {
		return table, fmt.Errorf("a prefix of %d leaves no positions: the model has %d", by, table.Shape[0])
	}
	moved := make([]float32, len(values))
	copy(moved[by*width:], values)
	copy(moved[:by*width], values[len(values)-by*width:])
	return checkpoint.NewTensor(moved, table.Shape...), nil
}

// peftMethods names the methods that PEFT has.
func peftMethods() string {
	var names []string
	for _, r := range table {
		if _, ok := r.zero.(peftModule); ok {
			names = append(names, string(r.zero.Method()))
		}
	}
	return strings.Join(names, ", ")
}
