package peft

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
	"peftsearch/data/onnx"
	"peftsearch/data/quote"
)

// Format names a form in which other programs can use a plan.
type Format string

// The formats, with the versions of the libraries that they are verified with.
const (
	FormatPlan     Format = "plan"     // plan.json, for this program
	FormatAdapters Format = "adapters" // AdapterHub's adapters 1.3.0
	FormatPEFT     Format = "peft"     // Hugging Face PEFT 0.21.2
	FormatMerged   Format = "merged"   // a Hugging Face model directory, LoRA folded into the weights
	// FormatTransformers is a Hugging Face model directory with the code of its model.
	FormatTransformers Format = "transformers"
	FormatONNX         Format = "onnx" // a graph of operators, LoRA folded into the weights
)

// Formats lists every format.
var Formats = []Format{FormatPlan, FormatAdapters, FormatPEFT, FormatMerged, FormatTransformers, FormatONNX}

// Options are what is asked of an export.
type Options struct {
	Lossy bool // leave out what the format cannot express
	Merge bool // fold what can be folded into the weights, and keep the other modules: of transformers
	IDs   IDs  // of onnx; "" is IDs64
	Card  Card
}

// Export writes source to dir, which must not exist or be empty, with a README.md that says how to load
// it. A source without tensors (Head is nil) gives the configuration only; its Info needs Model,
// Geometry, Head, Labels and the kind of Task, but for a plan the Geometry alone.
//
// lost says, module by module, what the format cannot express. Unless lossy, anything lost is an error;
// with lossy it is left out and listed in README.md. After an error there is no dir, or an empty one.
func Export(format Format, source Trained, dir string, options Options) (lost []string, err error) {
	if err := errors.Join(source.exportable(format), options.Card.Validate()); err != nil {
		return nil, fmt.Errorf("export as %s: %w", format, err)
	}
	source.Name = cmp.Or(options.Card.Name, source.Name)
	if format == FormatAdapters && !adapterNames.MatchString(source.adapterName()) {
		return nil, fmt.Errorf("export as %s: the name %s: give letters, digits, dashes and underscores", format,
			quote.Text(source.Name))
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("export as %s: %s is not empty: name a new directory", format, dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("export as %s: %w", format, err)
	}
	exporter, known := exporters[format]
	if !known {
		return nil, fmt.Errorf("export format %q: must be one of %v", format, Formats)
	}
	if exporter.weights && source.configOnly() {
		return nil, fmt.Errorf("export as %s: there are no trained weights: train the plan first", format)
	}
	source.Plan, lost = exporter.part(source.Plan, source.Info.Geometry)
	if len(lost) > 0 && !options.Lossy {
		e, err := exporter.build(source, options)
		if err != nil { // a lossy export would not do
			return nil, fmt.Errorf("export as %s: %w", format, err)
		}
		if err := e.close(); err != nil {
			return nil, err
		}
		return lost, fmt.Errorf("export as %s: the format cannot express %s; a lossy export leaves that out",
			format, strings.Join(lost, ", "))
	}
	source.Info.Base = cmp.Or(options.Card.Base, source.Info.Base)
	e, err := exporter.build(source, options)
	if err == nil {
		e.notes = append(e.notes, source.lastTokenNotes(format)...)
		e.documents[planFile] = source.Plan // for Import
		var readme string
		if readme, err = e.readme(format, source, options.Card, lost); err == nil {
			err = e.write(dir, readme)
		}
		err = errors.Join(err, e.close())
	}
	if err != nil {
		return lost, fmt.Errorf("export as %s: %w", format, err)
	}
	return lost, nil
}

// adapterNames are names that the libraries take for modules.
var adapterNames = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// exporters says of each format what it can express of a plan, how that is built, and whether that takes weights.
var exporters = map[Format]struct {
	part    func(Plan, Geometry) (kept Plan, lost []string)
	build   func(Trained, Options) (*export, error)
	weights bool
}{
	FormatPlan:         {func(p Plan, _ Geometry) (Plan, []string) { return p, nil }, exportPlan, false},
	FormatAdapters:     {adaptersPart, exportAdapters, false},
	FormatPEFT:         {peftPart, exportPEFT, false},
	FormatMerged:       {mergedPart, withBackbone(Trained.merged), true},
	FormatTransformers: {transformersPart, withBackbone(Trained.selfContained), true},
	FormatONNX:         {onnxPart, withBackbone(Trained.onnx), true},
}

// withBackbone opens the backbone, which an export holds, for what fills in the export.
func withBackbone(fill func(Trained, *checkpoint.Checkpoint, *export, Options) error) func(Trained, Options) (*export,
	error) {
	return func(t Trained, options Options) (*export, error) {
		c, err := t.openBackbone()
		if err != nil {
			return nil, err
		}
		e := &export{source: c}
		if err := fill(t, c, e, options); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return e, nil
	}
}

// exportable checks what a format relies on.
func (t Trained) exportable(format Format) error {
	if g := t.Info.Geometry; g.Layers < 1 || g.Hidden < 1 || g.FFN < 1 {
		return fmt.Errorf("the backbone has %d layers of width %d and %d: at least 1 each", g.Layers, g.Hidden, g.FFN)
	}
	if err := t.Plan.Validate(t.Info.Geometry); err != nil {
		return err
	}
	if _, known := families[t.Info.Geometry.Architecture]; !known {
		return fmt.Errorf("architecture %q: must be one of %v", t.Info.Geometry.Architecture,
			slices.Sorted(maps.Keys(families)))
	}
	if err := t.Info.checkHead(); err != nil && format != FormatPlan {
		return err
	}
	if err := t.Info.refuse(format, t.family()); err != nil {
		return err
	}
	if t.configOnly() {
		return nil
	}
	return t.check()
}

// configOnly reports whether there are no trained tensors.
func (t Trained) configOnly() bool { return t.Head == nil }

// export is what goes into the directory of an export, by slash-separated path.
type export struct {
	documents map[string]any                          // JSON
	tensors   map[string]map[string]checkpoint.Tensor // safetensors
	graphs    map[string]*onnx.Graph                  // ONNX
	texts     map[string]string                       // text
	copies    map[string]string                       // path of the original
	source    *checkpoint.Checkpoint                  // where tensors may lie; nil for nowhere
	loading   string                                  // Python, or a command, that loads it
	notes     []string                                // what its user has to know
}

func exportPlan(t Trained, _ Options) (*export, error) {
	return &export{
		documents: map[string]any{planFile: t.Plan},
		loading:   "```sh\npeftsearch train --plan plan.json --config study.yaml --out trained\n```\n",
	}, nil
}

// write fills a new directory beside dir and renames it, so that dir is whole or absent.
func (e *export) write(dir, readme string) (err error) {
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(temporary))
		}
	}()
	place := func(name string) (string, error) {
		path := filepath.Join(temporary, filepath.FromSlash(name))
		return path, os.MkdirAll(filepath.Dir(path), 0o755)
	}
	for name, value := range e.documents {
		path, err := place(name)
		if err == nil {
			err = writeJSON(path, value)
		}
		if err != nil {
			return err
		}
	}
	for name, tensors := range e.tensors {
		path, err := place(name)
		if err == nil {
			// The libraries read "format" to see that the tensors are PyTorch's.
			err = checkpoint.WriteSafetensors(path, tensors, map[string]string{"format": "pt"})
		}
		if err != nil {
			return err
		}
	}
	for name, graph := range e.graphs {
		path, err := place(name)
		if err == nil {
			err = graph.Write(path)
		}
		if err != nil {
			return err
		}
	}
	for name, text := range e.texts {
		path, err := place(name)
		if err == nil {
			err = files.Write(path, []byte(text))
		}
		if err != nil {
			return err
		}
	}
	for name, original := range e.copies {
		path, err := place(name)
		if err != nil {
			return err
		}
		if err := copyFile(path, original); err != nil {
			return err
		}
	}
	if err := files.Write(filepath.Join(temporary, "README.md"), []byte(readme)); err != nil {
		return err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temporary, dir)
}

// close closes the checkpoint that the export reads.
func (e *export) close() error {
	if e.source == nil {
		return nil
	}
	return e.source.Close()
}

// copyFile copies a file of a tokenizer as it is.
func copyFile(path, original string) error {
	from, _, err := files.Open(original, files.Vocabulary)
	if err != nil {
		return err
	}
	defer from.Close()
	return files.WriteFrom(path, func(to io.Writer) error {
		_, err := io.Copy(to, from)
		return err
	})
}

// title is what was trained.
func (t Trained) title() string {
	switch {
	case t.Backbone == nil:
		return t.Plan.String()
	case t.Plan.Empty():
		return "full fine-tuning"
	}
	return "full fine-tuning · " + t.Plan.String()
}

// python fences code.
func python(lines ...string) string { return "```python\n" + strings.Join(lines, "\n") + "\n```\n" }

// pythonString writes a Python string: JSON's escapes are among Python's.
func pythonString(s string) string {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return string(quoted)
}

// example calls the model on one input of the task.
func (t Trained) example() []string {
	if t.head().writes {
		return append(t.inputs("pt"), "ids = model.generate(**inputs, "+t.generateArguments()+")",
			`text = tokenizer.decode(ids[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()`)
	}
	return append(t.inputs("pt"), "logits = model(**inputs).logits")
}

// inputs makes one input of the task, of PyTorch's tensors (pt) or NumPy's (np).
func (t Trained) inputs(tensors string) []string {
	limit := ""
	if t.Info.Task.MaxLength > 0 {
		limit = fmt.Sprintf(", max_length=%d", t.Info.Task.MaxLength)
	}
	lines := []string{fmt.Sprintf(`inputs = %s%s, return_tensors=%q)`, t.head().example(t.Info.Task), limit, tensors)}
	if t.Info.Task.Kind == data.KindMultipleChoice {
		lines = append(lines, "inputs = {key: value[None] for key, value in inputs.items()}")
	}
	if t.Info.Task.Kind == data.KindCoreference {
		array := map[string]string{"pt": "torch.tensor", "np": "numpy.array"}[tensors]
		lines = append(lines, `inputs["spans"] = `+array+
			"([[[5, 6], [1, 2]]])  # she, Ann: the first token and the one behind the last")
	}
	return lines
}

// tensor is a trained tensor of a layer's module.
func (t Trained) tensor(layer int, m Method, name string) checkpoint.Tensor {
	return t.Modules[fmt.Sprintf("layers.%d.%s.%s", layer, m, name)]
}

// labelMaps are id2label and label2id, as transformers writes them; a regression has one unnamed output.
func (i Info) labelMaps() (id2label map[string]string, label2id map[string]int) {
	labels := i.Labels
	if len(labels) == 0 {
		labels = []string{"LABEL_0"}
	}
	id2label, label2id = map[string]string{}, map[string]int{}
	for n, label := range labels {
		id2label[fmt.Sprint(n)], label2id[label] = label, n
	}
	return id2label, label2id
}

// split keeps what a format can hold of each module, in a layer or, of layer -1, at the input, by a function that gives
// nil for a module that it cannot hold, and says in words what is lost, "" for nothing.
func split(p Plan, hold func(m Module, layer int) (kept Module, lost string)) (kept Plan, lost []string) {
	var l losses
	part := func(from Layer, layer int, add func(what string)) (to Layer) {
		for _, module := range from.sorted() {
			k, what := hold(module, layer)
			if k != nil {
				to = append(to, k)
			}
			if what != "" {
				add(what)
			}
		}
		return to
	}
	kept.Input = part(p.Input, -1, func(what string) { l.input = append(l.input, what) })
	for i, layer := range p.Layers {
		kept.Layers = append(kept.Layers, part(layer, i, func(what string) { l.add(what, i) }))
	}
	return kept, l.list()
}

// losses describes the modules of a plan that a format drops, and in which layers.
type losses struct {
	input []string
	order []string
	where map[string][]int
}

func (l *losses) add(what string, layer int) {
	if l.where == nil {
		l.where = map[string][]int{}
	}
	if l.where[what] == nil {
		l.order = append(l.order, what)
	}
	l.where[what] = append(l.where[what], layer)
}

func (l *losses) list() []string {
	list := l.input
	for _, what := range l.order {
		list = append(list, fmt.Sprintf("%s (layers %s)", what, LayerRanges(l.where[what])))
	}
	return list
}
