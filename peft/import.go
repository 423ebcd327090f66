package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

const (
	maxConfigSize   = 1 << 20 // bytes; the libraries write a few thousand
	maxImportedSize = 1 << 20 // far above any useful width or length
	maxEntries      = 1000    // of a list or of a table of patterns; the libraries write one for each module at most
	maxPattern      = 1000    // bytes of a regular expression
	maxProgram      = 100_000 // steps of all compiled ones of a table, which repetitions multiply
)

// Import reads the configuration of a Hugging Face PEFT adapter or of an adapter of AdapterHub's adapters as a plan for
// a backbone, or the plan of a directory that this program wrote. path is the adapter's directory or its
// adapter_config.json. Weights are not read; heads and LoRA on them are no part of a plan. Whatever else
// a plan cannot express is an error.
func Import(path string, g Geometry) (Plan, error) {
	file := path
	if info, err := os.Stat(path); err != nil {
		return Plan{}, err
	} else if info.IsDir() {
		if plan := filepath.Join(path, planFile); files.Exists(plan) { // of a trained directory, or an export of this program
			p, err := ReadPlan(plan)
			if err == nil {
				err = p.Validate(g)
			}
			return p, err
		}
		file = filepath.Join(path, "adapter_config.json")
		if !files.Exists(file) && files.Exists(filepath.Join(path, "adapter_setup.json")) {
			return Plan{}, fmt.Errorf("%s is a setup of several adapters: import the directory of one of them", path)
		}
	}
	content, err := files.Read(file, files.Document)
	if err != nil {
		return Plan{}, err
	}
	if len(content) > maxConfigSize {
		return Plan{}, fmt.Errorf("%s has more than %d bytes: it is no adapter's configuration", file, maxConfigSize)
	}
	p, err := importConfig(content, g)
	for i := range p.Layers {
		p.Layers[i] = p.Layers[i].sorted()
	}
	if err == nil {
		err = p.Validate(g)
	}
	if err != nil {
		return Plan{}, quote.Error(fmt.Errorf("%s: %w", file, err))
	}
	return p, nil
}

func importConfig(content []byte, g Geometry) (Plan, error) {
	if _, known := families[g.Architecture]; !known {
		return Plan{}, fmt.Errorf("architecture %q: must be one of %v", g.Architecture, slices.Sorted(maps.Keys(families)))
	}
	if len(g.Stacks()) > 1 {
		return Plan{}, fmt.Errorf("plans of other libraries are not read for an encoder-decoder such as %s", g.Architecture)
	}
	var s settings
	if err := json.Unmarshal(content, &s); err != nil {
		return Plan{}, err
	}
	p := Plan{Layers: make([]Layer, g.Layers)}
	if s["peft_type"] != nil {
		err := s.importPEFT(&p, g)
		return p, err
	}
	if inner := s["config"]; inner != nil { // the file of a saved adapter; otherwise a bare configuration
		version, architecture, hidden := "", g.Architecture, g.Hidden
		if err := s.takeAll(map[string]any{"version": &version, "model_type": &architecture,
			"hidden_size": &hidden}); err != nil {
			return p, err
		}
		if architecture != g.Architecture || hidden != g.Hidden {
			return p, fmt.Errorf("the adapter is for a %.40q of width %d, the backbone is a %s of width %d", architecture,
				hidden,
				g.Architecture, g.Hidden)
		}
		s = nil
		if err := json.Unmarshal(inner, &s); err != nil {
			return p, fmt.Errorf("config: %w", err)
		}
		if string(s["architecture"]) == `"lora"` && oldLoRA(version) {
			return p, fmt.Errorf("a LoRA of %s has another scale: load and save it with adapters 1.1 or newer", version)
		}
	} else if s["architecture"] == nil && s["reduction_factor"] == nil {
		return p, errors.New(`has neither "peft_type" nor "config": it is of neither peft nor adapters`)
	}
	err := s.importAdapters(&p, g)
	return p, err
}

// oldLoRA reports whether adapters would rewrite the alpha of a LoRA that was saved by this version.
func oldLoRA(version string) bool {
	number, ok := strings.CutPrefix(version, "adapters.")
	if !ok {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(number, "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major < 1 || major == 1 && minor < 1
}

// settings is a configuration whose keys are taken out as they are understood.
type settings map[string]json.RawMessage

// take decodes and removes a key; one that is absent or null leaves into as it is.
func (s settings) take(key string, into any) error {
	raw := s[key]
	delete(s, key)
	if raw == nil || string(raw) == "null" {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// takeAll is take for several keys.
func (s settings) takeAll(into map[string]any) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(into)) {
		errs = append(errs, s.take(key, into[key]))
	}
	return errors.Join(errs...)
}

// rest refuses what was not taken, unless it is switched off or ignored: it could change what the adapter
// computes.
func (s settings) rest(ignored ...string) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s)) {
		var value any
		if err := json.Unmarshal(s[key], &value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		off := value == nil || value == false || value == "" || value == 0.0
		switch value := value.(type) {
		case []any:
			off = len(value) == 0
		case map[string]any:
			off = len(value) == 0
		}
		if !off && !slices.Contains(ignored, key) {
			errs = append(errs, fmt.Errorf("%s is %.80s: a plan cannot express it", key, s[key]))
		}
	}
	return errors.Join(errs...)
}

func (s settings) importPEFT(p *Plan, g Geometry) error {
	var kind string
	if err := s.take("peft_type", &kind); err != nil {
		return err
	}
	if f := families[g.Architecture]; f.turned {
		return fmt.Errorf("PEFT has one module with one A for query, key and value of %s, and a plan has one for each: "+
			"import a configuration of adapters, or a plan.json", f.name)
	}
	var saved []string
	if err := s.take("modules_to_save", &saved); err != nil {
		return err
	}
	for _, name := range saved {
		if !slices.Contains([]string{"classifier", "score", "pooler"}, name) {
			return fmt.Errorf("modules_to_save has %.40q: a plan trains no module of the backbone whole", name)
		}
	}
	importer, known := importers(peftImporter.peftTypes)[kind]
	if !known {
		return fmt.Errorf("peft_type %.40q: must be one of %s", kind, importable(peftImporter.peftTypes))
	}
	return importer.importPEFT(s, p, g)
}

// peftImporter is a method that PEFT has; its own value means nothing.
type peftImporter interface {
	// peftTypes are the values of peft_type that it reads.
	peftTypes() []string
	// importPEFT puts modules into a plan.
	importPEFT(s settings, p *Plan, g Geometry) error
}

// adaptersImporter is a method that adapters has; its own value means nothing.
type adaptersImporter interface {
	// architectures are the values of architecture that it reads.
	architectures() []string
	// importAdapters returns the module of each layer, or that of the input.
	importAdapters(s settings, g Geometry) (func(layer int) (Module, error), error)
}

// importers are the methods of the table that read a configuration, by what it is called there.
func importers[T any](names func(T) []string) map[string]T {
	found := map[string]T{}
	for _, r := range table {
		if importer, ok := r.zero.(T); ok {
			for _, name := range names(importer) {
				found[name] = importer
			}
		}
	}
	return found
}

func importable[T any](names func(T) []string) string {
	return strings.Join(slices.Sorted(maps.Keys(importers(names))), ", ")
}

// peftRecords are keys that do not change what a trained adapter computes.
var peftRecords = []string{"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision",
	"task_type"}

// selectModules says which modules target_modules means: a regular expression for the whole path of a
// module, "all-linear", or a list of paths and their ends, which layers_to_transform restricts.
func selectModules(targets, layers, layerNames json.RawMessage, g Geometry) (selected func(layer int, t Target) bool,
	err error) {
	prefix := families[g.Architecture].backbone + "."
	var pattern string
	if json.Unmarshal(targets, &pattern) == nil && targets != nil {
		if pattern == "all-linear" {
			return func(int, Target) bool { return true }, nil
		}
		expression, _, err := compile(`^(?:` + pattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("target_modules: %w", err)
		}
		selected = func(layer int, t Target) bool {
			path := g.path(layer, t)
			return expression.MatchString(path) || expression.MatchString(prefix+path)
		}
		for i := range g.Layers {
			if slices.ContainsFunc(Targets, func(t Target) bool { return selected(i, t) }) {
				return selected, nil
			}
		}
		return nil, fmt.Errorf("target_modules %.80q matches no layer of the backbone", pattern)
	}
	names := []string{g.path(0, TargetQuery), g.path(0, TargetValue)} // the library's default, in every layer
	for i, path := range names {
		names[i] = path[strings.LastIndex(path, ".")+1:]
	}
	if targets != nil {
		if err := json.Unmarshal(targets, &names); err != nil {
			return nil, fmt.Errorf("target_modules: must be a string or a list of strings")
		}
		if len(names) > maxEntries {
			return nil, fmt.Errorf("target_modules has %d entries: at most %d", len(names), maxEntries)
		}
	}
	only, err := layerIndices(layers, layerNames, g)
	if err != nil {
		return nil, err
	}
	matches := func(name string, layer int, t Target) bool {
		path := g.path(layer, t)
		if name == path || name == prefix+path {
			return true
		}
		return strings.HasSuffix("."+path, "."+name) && (only == nil || slices.Contains(only, layer))
	}
	for _, name := range names {
		found := false
		for i := range g.Layers {
			found = found || slices.ContainsFunc(Targets, func(t Target) bool { return matches(name, i, t) })
		}
		if !found {
			return nil, fmt.Errorf("target_modules: %.80q is none of the modules that a plan can change", name)
		}
	}
	return func(layer int, t Target) bool {
		return slices.ContainsFunc(names, func(name string) bool { return matches(name, layer, t) })
	}, nil
}

// checkLayersPattern refuses a layers_pattern, a text or a list of them, that names no layers of the backbone.
func checkLayersPattern(names json.RawMessage) error {
	var patterns []string
	if names != nil && json.Unmarshal(names, &patterns) != nil {
		patterns = []string{""}
		if err := json.Unmarshal(names, &patterns[0]); err != nil {
			return errors.New("layers_pattern: must be a text or a list of texts")
		}
	}
	for _, pattern := range patterns {
		if pattern != "" && pattern != "layer" {
			return fmt.Errorf(`layers_pattern is %.40q: the backbone's layers are called "layer"`, pattern)
		}
	}
	return nil
}

// layerIndices reads layers_to_transform, an integer or a list; nil means every layer.
func layerIndices(layers, names json.RawMessage, g Geometry) ([]int, error) {
	if err := checkLayersPattern(names); err != nil {
		return nil, err
	}
	var only []int
	if layers != nil && json.Unmarshal(layers, &only) != nil {
		var one int
		if err := json.Unmarshal(layers, &one); err != nil {
			return nil, errors.New("layers_to_transform: must be an integer or a list of integers")
		}
		only = []int{one}
	}
	if len(only) > maxEntries {
		return nil, fmt.Errorf("layers_to_transform has %d entries: at most %d", len(only), maxEntries)
	}
	for _, layer := range only {
		if layer < 0 || layer >= g.Layers {
			return nil, fmt.Errorf("layers_to_transform: the backbone has no layer %d", layer)
		}
	}
	if len(only) == 0 {
		return nil, nil
	}
	return only, nil
}

// compilePatterns returns a look-up by the path of a module: the value of the pattern that matches, else
// the default. The library takes the first of several matches; here they must agree.
func compilePatterns[V comparable](key string, patterns map[string]V) (func(path string, otherwise V) (V, error),
	error) {
	if len(patterns) > maxEntries {
		return nil, fmt.Errorf("%s has %d entries: at most %d", key, len(patterns), maxEntries)
	}
	expressions, total := map[string]*regexp.Regexp{}, 0
	names := slices.Sorted(maps.Keys(patterns))
	for _, pattern := range names {
		expression, steps, err := compile(`^(?:.*\.)?(?:` + pattern + `)$`)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		if total += steps; total > maxProgram {
			return nil, fmt.Errorf("%s: its regular expressions repeat too much", key)
		}
		expressions[pattern] = expression
	}
	return func(path string, otherwise V) (V, error) {
		value, by := otherwise, ""
		for _, name := range names {
			if !expressions[name].MatchString(path) {
				continue
			}
			if by != "" && patterns[name] != value {
				return value, fmt.Errorf("%s: both %.80q and %.80q match %s", key, by, name, path)
			}
			value, by = patterns[name], name
		}
		return value, nil
	}, nil
}

// compile takes the regular expressions that Go and Python have in common. steps is the length of the
// program, which matching takes time for.
func compile(expression string) (compiled *regexp.Regexp, steps int, err error) {
	if len(expression) > maxPattern {
		return nil, 0, fmt.Errorf("a regular expression has %d bytes: at most %d", len(expression), maxPattern)
	}
	parsed, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil, 0, fmt.Errorf("regular expression: %w: write it without lookarounds and backreferences", err)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, 0, fmt.Errorf("regular expression: %w", err)
	}
	compiled, err = regexp.Compile(expression)
	return compiled, len(program.Inst), err
}

// importAdapters reads a configuration of adapters into p.
func (s settings) importAdapters(p *Plan, g Geometry) error {
	var architecture string
	if err := s.take("architecture", &architecture); err != nil {
		return err
	}
	if architecture != "union" {
		return s.importModule(architecture, p, g)
	}
	var configs []settings
	if err := s.take("configs", &configs); err != nil {
		return err
	}
	if len(configs) == 0 {
		return errors.New("configs: the union is empty")
	}
	for n, config := range configs {
		var architecture string
		err := config.take("architecture", &architecture)
		if err == nil {
			err = config.importModule(architecture, p, g)
		}
		if err != nil {
			return fmt.Errorf("config %d of the union: %w", n+1, err)
		}
	}
	return s.rest()
}

// importModule reads the configuration of one method.
func (s settings) importModule(architecture string, p *Plan, g Geometry) error {
	var leaveOut []int
	if err := s.take("leave_out", &leaveOut); err != nil {
		return err
	}
	if len(leaveOut) > maxEntries {
		return fmt.Errorf("leave_out has %d entries: at most %d", len(leaveOut), maxEntries)
	}
	for _, layer := range leaveOut {
		if layer < 0 || layer >= g.Layers {
			return fmt.Errorf("leave_out: the backbone has no layer %d", layer)
		}
	}
	importer, known := importers(adaptersImporter.architectures)[architecture]
	if !known {
		return fmt.Errorf("architecture %.40q: must be a bottleneck adapter, a union or one of %s", architecture,
			strings.TrimPrefix(importable(adaptersImporter.architectures), ", "))
	}
	module, err := importer.importAdapters(s, g)
	if err != nil {
		return err
	}
	if importer.(Module).Method().Input() {
		m, err := module(0)
		if err == nil && len(leaveOut) > 0 {
			err = errors.New("leave_out: it is at the input, which is no layer")
		}
		if err == nil && p.Input.Module(m.Method()) != nil {
			err = errors.New("the input has two modules of the same kind")
		}
		p.Input = append(p.Input, m)
		return err
	}
	for i := range p.Layers {
		if slices.Contains(leaveOut, i) {
			continue
		}
		m, err := module(i)
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if p.Layers[i].Module(m.Method()) != nil {
			return fmt.Errorf("layer %d has two modules of the same kind", i)
		}
		p.Layers[i] = append(p.Layers[i], m)
	}
	return nil
}
