package peft

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// The export as a plain Hugging Face model with a head.

func mergedPart(p Plan, _ Geometry) (kept Plan, lost []string) {
	return split(p, func(m Module, _ int) (Module, string) {
		if merges(m, Layer{m}) == nil {
			return nil, m.String()
		}
		return m, ""
	})
}

func (t Trained) merged(c *checkpoint.Checkpoint, e *export, _ Options) error {
	_, backbone, err := t.fold(c, merges)
	if err != nil {
		return err
	}
	if t.headShifts() {
		const bias = decoderNorm + ".bias"
		if backbone[bias], err = t.shiftedNorm(backbone[bias]); err != nil {
			return err
		}
	}
	tensors := t.classHead()
	if c.Config.Untied && t.head().writes {
		if tensors[checkpoint.WordsOut], err = c.Tensor(checkpoint.WordsOut); err != nil {
			return err
		}
	}
	for name, tensor := range checkpoint.InFile(c.Config.ModelType, backbone) {
		tensors[t.family().backbone+"."+name] = tensor
	}
	config, err := t.mergedConfig(filepath.Join(c.Dir, "config.json"))
	if err != nil {
		return err
	}
	e.documents = map[string]any{"config.json": config}
	if t.head().writes {
		if e.documents["generation_config.json"], err = t.generationConfig(c); err != nil {
			return err
		}
	}
	e.tensors = map[string]map[string]checkpoint.Tensor{"model.safetensors": tensors}
	e.loading = python(append([]string{"from transformers import " + t.head().autoClass() + ", AutoTokenizer", "",
		`directory = "."  # this directory`, "tokenizer = AutoTokenizer.from_pretrained(directory)",
		"model = " + t.head().autoClass() + ".from_pretrained(directory).eval()"}, t.example()...)...)
	if t.linearHead() {
		e.notes = append(e.notes, linearHeadNote)
	}
	return t.addTokenizer(c, e)
}

// mergedConfig is the backbone's config.json with the head's keys.
func (t Trained) mergedConfig(path string) (map[string]any, error) {
	var config map[string]any
	if err := readNumbers(path, &config); err != nil {
		return nil, err
	}
	delete(config, "torch_dtype") // the older name of dtype
	for _, key := range placeKeys {
		delete(config, key)
	}
	config["dtype"] = "float32"
	if t.head().class != "" {
		config["architectures"] = []string{t.family().class(t.head())}
	}
	t.Info.nameOutputs(config)
	return config, nil
}

// placeKeys say where files lay once.
var placeKeys = []string{"_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file", "vocab_file",
	"merges_file"}

// tokenizerClasses are those of transformers, for directories whose files name none.
var tokenizerClasses = map[string]string{checkpoint.BERT: "BertTokenizer", checkpoint.ELECTRA: "ElectraTokenizer",
	checkpoint.RoBERTa: "RobertaTokenizer", checkpoint.XLMRoBERTa: "XLMRobertaTokenizer",
	checkpoint.CamemBERT: "CamembertTokenizer", checkpoint.DistilBERT: "DistilBertTokenizer",
	checkpoint.GPT2: "GPT2Tokenizer", checkpoint.T5: "T5Tokenizer", checkpoint.MT5: "MT5Tokenizer"}

const settingsFile = "tokenizer_config.json"

// addTokenizer adds the files of the tokenizer, with the longest input that was trained with.
func (t Trained) addTokenizer(c *checkpoint.Checkpoint, e *export) error {
	e.copies = map[string]string{}
	for _, name := range tokenizer.FileNames {
		if path := filepath.Join(c.Dir, name); name != settingsFile && files.Exists(path) {
			e.copies[name] = path
		}
	}
	settings := map[string]any{}
	if path := filepath.Join(c.Dir, settingsFile); files.Exists(path) {
		if err := readNumbers(path, &settings); err != nil {
			return err
		}
	}
	for _, key := range placeKeys {
		delete(settings, key)
	}
	if settings["tokenizer_class"] == nil {
		settings["tokenizer_class"] = e.tokenizerClass(t.Info.Geometry.Architecture)
	}
	if t.Info.Task.Kind == data.KindTokenClassification && slices.ContainsFunc(byteLevelClasses, func(name string) bool {
		return strings.HasPrefix(fmt.Sprint(settings["tokenizer_class"]), name)
	}) {
		settings["add_prefix_space"] = true // without it, they refuse words
	}
	if t.Info.Task.MaxLength > 0 {
		settings["model_max_length"] = t.Info.Task.MaxLength
	}
	e.documents[settingsFile] = settings
	return nil
}

// byteLevelClasses begin the names of tokenizers that tell words from parts of words by the blank before them.
var byteLevelClasses = []string{"GPT2Tokenizer", "RobertaTokenizer"}

// tokenizerFrom is Python that loads the pretrained model's tokenizer, for words if they are what the task has.
func (t Trained) tokenizerFrom(model string) string {
	more := ""
	class := tokenizerClasses[t.Info.Geometry.Architecture]
	if t.Info.Task.Kind == data.KindTokenClassification && slices.Contains(byteLevelClasses, class) {
		more = ", add_prefix_space=True"
	}
	return "tokenizer = AutoTokenizer.from_pretrained(" + model + more + ")"
}

// tokenizerClass is the one that config.json names, or that of the architecture.
func (e *export) tokenizerClass(architecture string) any {
	if config, ok := e.documents["config.json"].(map[string]any); ok && config["tokenizer_class"] != nil {
		return config["tokenizer_class"]
	}
	return tokenizerClasses[architecture]
}

// readNumbers reads a document with its numbers as they are written.
func readNumbers(path string, into any) error {
	content, err := files.Read(path, files.Vocabulary)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, quote.Error(err))
	}
	return nil
}
