package peft

import (
	"embed"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/template"

	"peftsearch/data/checkpoint"
)

// The export as a Hugging Face directory with the code of its model, which transformers runs if it is trusted. The
// code is put together from the files of modeling: what all have, the blocks of the family, the methods that occur, and
// the head.

//go:embed modeling
var modeling embed.FS

const (
	modelingName = "modeling_hybrid"
	modelingFile = modelingName + ".py"
)

// coded is a module that the code of a model can have.
type coded interface {
	Module
	// code names the files of modeling that it needs, without .py; its class is called as its type.
	code() []string
}

// sharing is a module with frozen tensors that other modules have too.
type sharing interface {
	// shared has them by what the code calls them.
	shared(g Geometry) map[string]checkpoint.Tensor
}

func withGate(gate bool, parts ...string) []string {
	if gate {
		return append([]string{"gate"}, parts...)
	}
	return parts
}

func transformersPart(p Plan, _ Geometry) (kept Plan, lost []string) {
	return split(p, func(m Module, _ int) (Module, string) {
		if _, ok := m.(coded); !ok {
			return nil, m.String()
		}
		return m, ""
	})
}

// selfContained fills in the directory.
func (t Trained) selfContained(c *checkpoint.Checkpoint, e *export, options Options) error {
	fold := func(m Module, l Layer) mergeable {
		if _, ok := m.(stored); ok || options.Merge {
			return merges(m, l)
		}
		return nil
	}
	rest, backbone, err := t.fold(c, fold)
	if err != nil {
		return err
	}
	if !options.Merge { // what is folded without being asked to has no tensors of its own there, but is trained
		rest.Plan = t.Plan
	}
	code, err := rest.modelingCode()
	if err != nil {
		return err
	}
	tensors := rest.codeTensors(backbone)
	class := rest.head().coded
	config := rest.codeConfig(c.Config)
	e.documents = map[string]any{"config.json": config}
	e.tensors = map[string]map[string]checkpoint.Tensor{"model.safetensors": tensors}
	e.texts = map[string]string{modelingFile: code}
	imports := []string{"from transformers import " + class.auto + ", AutoTokenizer", ""}
	if class == codedCoreference {
		imports = append([]string{"import torch"}, imports...)
	}
	e.loading = python(append(append(imports,
		`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(directory)",
		"model = "+class.auto+".from_pretrained(directory, trust_remote_code=True).eval()"), t.example()...)...)
	e.notes = append(e.notes, "The model's code is "+modelingFile+", which `trust_remote_code` runs: read it first.")
	return t.addPaddingTokenizer(c, e)
}

// addPaddingTokenizer adds the tokenizer for a model that finds the padding by the mask. GPT-2's has no token for it:
// there the one at the end of texts, which is its tokenizer's own unless the files name another, does.
func (t Trained) addPaddingTokenizer(c *checkpoint.Checkpoint, e *export) error {
	if err := t.addTokenizer(c, e); err != nil {
		return err
	}
	settings := e.documents[settingsFile].(map[string]any)
	if t.Info.Geometry.causal() && settings["pad_token"] == nil {
		end := settings["eos_token"]
		if end == nil {
			end = "<|endoftext|>"
		}
		settings["pad_token"] = end
	}
	return nil
}

// codedHead is the head in the code of a model.
type codedHead struct {
	file   string // of modeling, without .py
	class  string // what Hybrid… is called there
	output string // transformers' class of its outputs
	auto   string // transformers' class that finds it
}

var (
	codedSequence = codedHead{"sequence", "HybridForSequenceClassification", "SequenceClassifierOutput",
		"AutoModelForSequenceClassification"}
	codedTokens = codedHead{"tokens", "HybridForTokenClassification", "TokenClassifierOutput",
		"AutoModelForTokenClassification"}
	codedChoice = codedHead{"choice", "HybridForMultipleChoice", "MultipleChoiceModelOutput",
		"AutoModelForMultipleChoice"}
	codedCoreference = codedHead{"coreference", "HybridForCoreference", "TokenClassifierOutput", "AutoModel"}
)

// modelingCode is the code of the model.
func (t Trained) modelingCode() (string, error) {
	read := func(name string) (string, error) {
		content, err := modeling.ReadFile("modeling/" + name + ".py")
		return strings.Trim(string(content), "\n"), err
	}
	var names, methods []string
	for _, m := range Methods {
		for _, at := range t.Plan.places() {
			module := at.Module(m)
			if module == nil {
				continue
			}
			for _, name := range module.(coded).code() {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
			if entry := fmt.Sprintf("%q: %s", m, reflect.TypeOf(module).Name()); !slices.Contains(methods, entry) {
				methods = append(methods, entry)
			}
		}
	}
	// Parts that others are made of come first: one module's gate stands before another's bottleneck.
	slices.SortStableFunc(names, func(a, b string) int { return foundation(b) - foundation(a) })
	head := t.head().coded
	values := struct {
		Plan, Name, Kind, Output, Methods, Family, Head string
		Parts                                           []string
	}{Plan: t.Plan.String(), Name: t.family().name, Kind: t.family().code, Output: head.output,
		Methods: strings.Join(methods, ", ")}
	for _, name := range names {
		part, err := read(name)
		if err != nil {
			return "", err
		}
		values.Parts = append(values.Parts, part)
	}
	frame, err := read("model")
	if err != nil {
		return "", err
	}
	if values.Family, err = read(t.family().code); err != nil {
		return "", err
	}
	if values.Head, err = read(head.file); err != nil {
		return "", err
	}
	source, err := template.New("").Parse(frame + "\n")
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = source.Execute(&b, values)
	return b.String(), err
}

func foundation(part string) int {
	return map[string]int{"gate": 2, "bottleneck": 1, "lowrank": 1}[part]
}

// codeNames are pairs of a part of a canonical name and what the code calls it.
var codeNames = strings.NewReplacer(
	"embeddings.LayerNorm", "embeddings_norm", "embeddings.word_", "word_", "embeddings.position_", "position_",
	"embeddings.token_type_", "token_type_",
	"encoder.layer.", "layers.", "decoder.layer.", "layers.", "decoder.LayerNorm", "final_norm", "attention.self.", "",
	"attention.LayerNorm", "attention_norm", "intermediate.LayerNorm", "ffn_norm",
	"attention.output.dense", string(TargetAttentionOutput), "attention.output.LayerNorm", "attention_norm",
	"intermediate.dense", string(TargetFFNIn), "output.dense", string(TargetFFNOut), "output.LayerNorm", "ffn_norm")

// codeTensors are the tensors by the names that the code gives them. Modules and head are called as they are here.
func (t Trained) codeTensors(backbone map[string]checkpoint.Tensor) map[string]checkpoint.Tensor {
	tensors := map[string]checkpoint.Tensor{}
	for name, tensor := range backbone {
		tensors[codeNames.Replace(name)] = tensor
	}
	for name, tensor := range t.Modules {
		tensors[name] = tensor
	}
	for name, tensor := range t.Head {
		tensors[name] = tensor
	}
	for _, at := range t.Plan.places() {
		for _, module := range at.Layer {
			if m, ok := module.(sharing); ok {
				for name, tensor := range m.shared(t.Info.Geometry) {
					tensors["shared."+name] = tensor
				}
			}
		}
	}
	return tensors
}

// codeConfig is the config.json of the code.
func (t Trained) codeConfig(c checkpoint.Config) map[string]any {
	class := t.head().coded
	config := map[string]any{
		"model_type": "peftsearch-" + t.family().code, "base_model_type": c.ModelType,
		"architectures": []string{class.class},
		"auto_map": map[string]string{"AutoConfig": modelingName + ".HybridConfig",
			class.auto: modelingName + "." + class.class},
		"vocab_size": c.Vocab, "hidden_size": c.Hidden, "intermediate_size": c.FFN,
		"num_hidden_layers": c.Layers, "num_attention_heads": c.Heads, "max_position_embeddings": c.Positions,
		"layer_norm_eps": c.LayerNormEps, "hidden_act": string(c.Activation), "hidden_dropout_prob": t.Info.dropout(),
		"dtype": "float32", "plan": t.Plan, "head": t.Info.Head, "head_states": t.head().states,
		"head_outputs": t.Info.Outputs(),
	}
	if c.Causal {
		config["scale_attn_weights"], config["scale_attn_by_inverse_layer_idx"] = !c.Unscaled, c.InverseLayer
	} else {
		config["embedding_size"], config["type_vocab_size"], config["pad_token_id"] = c.Embedding, c.Types, c.PadID
		config["positions_after_pad"] = c.PositionsAfterPad()
	}
	t.Info.nameOutputs(config)
	return config
}

// nameOutputs adds to a config.json what its outputs mean.
func (i Info) nameOutputs(config map[string]any) {
	if headKinds[i.Task.Kind].writes {
		return
	}
	if i.Outputs() > 1 || i.Task.Kind.Numeric() {
		config["id2label"], config["label2id"] = i.labelMaps()
	}
	if problem := headKinds[i.Task.Kind].problem; problem != "" {
		config["problem_type"] = problem
	}
}
