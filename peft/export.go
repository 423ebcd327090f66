package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/files"
)

// Format names a form in which other programs can use a plan.
type Format string

// The formats, with the versions of the libraries that they are verified with.
const (
	FormatPlan     Format = "plan"     // plan.json, for this program
	FormatAdapters Format = "adapters" // AdapterHub's adapters 1.3.0
	FormatPEFT     Format = "peft"     // Hugging Face PEFT 0.21.2
	FormatMerged   Format = "merged"   // a Hugging Face model directory, LoRA folded into the weights
)

// Formats lists every format.
var Formats = []Format{FormatPlan, FormatAdapters, FormatPEFT, FormatMerged}

// Export writes source to dir, which must not exist or be empty, with a README.md that says how to load
// it. A source without tensors (Head is nil) gives the configuration only; its Info needs Model,
// Geometry, Head, Labels and the kind of Task, but for a plan the Geometry alone.
//
// lost says, module by module, what the format cannot express. Unless lossy, anything lost is an error;
// with lossy it is left out and listed in README.md. After an error there is no dir, or an empty one.
func Export(format Format, source Trained, dir string, lossy bool) (lost []string, err error) {
	if err := source.exportable(format); err != nil {
		return nil, fmt.Errorf("export as %s: %w", format, err)
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
	source.Plan, lost = exporter.part(source.Plan, source.Info.Geometry)
	if len(lost) > 0 && !lossy {
		return lost, fmt.Errorf("export as %s: the format cannot express %s; a lossy export leaves that out",
			format, strings.Join(lost, ", "))
	}
	e, err := exporter.build(source)
	if err == nil {
		e.notes = append(e.notes, source.lastTokenNotes(format)...)
		e.documents[planFile] = source.Plan // for Import
		err = e.write(dir, e.readme(format, source, lost))
	}
	if err != nil {
		return lost, fmt.Errorf("export as %s: %w", format, err)
	}
	return lost, nil
}

// exporters holds two functions for each format: part is what it can express of a plan, and build
// expresses that.
var exporters = map[Format]struct {
	part  func(Plan, Geometry) (kept Plan, lost []string)
	build func(Trained) (*export, error)
}{
	FormatPlan:     {func(p Plan, _ Geometry) (Plan, []string) { return p, nil }, exportPlan},
	FormatAdapters: {adaptersPart, exportAdapters},
	FormatPEFT:     {peftPart, exportPEFT},
	FormatMerged:   {mergedPart, exportMerged},
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
	copies    map[string]string                       // path of the original
	loading   string                                  // Python, or a command, that loads it
	notes     []string                                // what its user has to know
}

func exportPlan(t Trained) (*export, error) {
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

// readme is the README.md of the export.
func (e *export) readme(format Format, t Trained, lost []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", t.Plan)
	fmt.Fprintf(&b, "Exported by peftsearch as `%s` for `%s` (%s, %d layers, %d wide), with a %s head.\n", format,
		t.modelName(),
		t.Info.Geometry.Architecture, t.Info.Geometry.Layers, t.Info.Geometry.Hidden, t.Info.Head)
	if t.configOnly() && format != FormatPlan {
		b.WriteString("This is the configuration without trained weights.\n")
	}
	if len(t.Info.Labels) > 0 {
		fmt.Fprintf(&b, "The classes, by output: %s.\n", strings.Join(t.Info.Labels, ", "))
	}
	fmt.Fprintf(&b, "\n## Load\n\n%s", e.loading)
	for _, note := range e.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	if len(lost) > 0 {
		b.WriteString("\n## Lost\n\nThis format cannot express the following. It is left out, so the outputs differ from " +
			"those of the plan.\n\n")
		for _, l := range lost {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String()
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
	limit := ""
	if t.Info.Task.MaxLength > 0 {
		limit = fmt.Sprintf(", max_length=%d", t.Info.Task.MaxLength)
	}
	lines := []string{fmt.Sprintf(`inputs = %s%s, return_tensors="pt")`, t.head().example(t.Info.Task), limit)}
	if t.Info.Task.Kind == data.KindMultipleChoice {
		lines = append(lines, "inputs = {key: value[None] for key, value in inputs.items()}")
	}
	return append(lines, "logits = model(**inputs).logits")
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

// split keeps what a format can hold of each module, by a function that gives nil for a module that it cannot hold, and
// says in words what is lost, "" for nothing.
func split(p Plan, hold func(Module) (kept Module, lost string)) (kept Plan, lost []string) {
	var l losses
	part := func(from Layer, add func(what string)) (to Layer) {
		for _, module := range from.sorted() {
			k, what := hold(module)
			if k != nil {
				to = append(to, k)
			}
			if what != "" {
				add(what)
			}
		}
		return to
	}
	kept.Input = part(p.Input, func(what string) { l.input = append(l.input, what) })
	for i, layer := range p.Layers {
		kept.Layers = append(kept.Layers, part(layer, func(what string) { l.add(what, i) }))
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
		list = append(list, fmt.Sprintf("%s (layers %s)", what, ranges(l.where[what])))
	}
	return list
}
