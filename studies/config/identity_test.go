package config

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/peft"
	"peftsearch/space"
)

var everyKey = strings.Replace(minimal, "{path: m}", "{path: m, head: dense}", 1) + `  metric: mcc
space:
  preset: groups
  groups: 2
  serial: [0, 8, 16]
  parallel: []
  lora: {ranks: [0, 4], scale: 2, targets: [query, ffn_in]}
  learning_rate: [1e-4, 0.001]
  schedule: [cosine, linear]
  max_params: 100000
training: {learning_rate: 2e-3, warmup_ratio: 0.060, max_grad_norm: 1e9, dropout: -0.0}
budget: {trials: 7, epochs: 0.5, train_rows: 1000, rungs: [0.1, 1], patience: 2, train: {epochs: 5}}
search: {seed: 18446744073709551615, sampler: gp}
evaluator: {command: [python3, "./a worker.py"], workers: 2, precision: float32}
`

var miniLM = peft.Geometry{Architecture: "bert", Layers: 6, Hidden: 384, FFN: 1536, Heads: 12,
	BackboneParams: 22_565_376}

// resolvedIdentity is the identity of a study file on a model of MiniLM's shape.
func resolvedIdentity(t *testing.T, c *Config) Values {
	t.Helper()
	s, err := space.New(c.Space, c.TrialTraining(), miniLM)
	if err != nil {
		t.Fatal(err)
	}
	return c.Identity(s.Config())
}

// testdata/identity-2.json is what a program of the first version with keys has stored: a later one must
// find that the same files are the same studies. It is not to be written again; a key that is added gets
// the tag was if its default is not what studies had before.
func TestStoredIdentitiesStayTheSame(t *testing.T) {
	var stored map[string]Values
	content, err := os.ReadFile("testdata/identity-2.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &stored); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"minimal": minimal, "every key": everyKey} {
		file := parse(t, text)
		file.Continue(stored[name])
		now := resolvedIdentity(t, file)
		if changes := Changes(stored[name], now); changes != nil {
			encoded, _ := json.MarshalIndent(now, "", "  ")
			t.Errorf("%s: %+v\nnow %s", name, changes, encoded)
		}
	}
	walk(reflect.ValueOf(Config{}), "", identityYes, func(k key, value reflect.Value) {
		if _, old := stored["minimal"][k.path]; k.identity == identityYes && !old && k.was == k.standard {
			if !parseDefault(k.standard, reflect.New(k.fieldType).Elem()) {
				t.Errorf("%s is a new key with a default in words: give it the tag was, the value that studies had before", k.path)
			}
		}
	})
}

// However a value is spelled, and whatever else stands in the file, it is the same study.
func TestSpellingIsNoChange(t *testing.T) {
	want := resolvedIdentity(t, parse(t, everyKey))
	for _, change := range [][2]string{
		{"0.001", "1e-3"}, {"2e-3", "2.0e-3"}, {"0.060", "0.06"}, {"-0.0", "0"}, {"1e9", "1000000000"},
		{"[query, ffn_in]", "[\"query\", 'ffn_in']"}, {"trials: 7", "trials: 9"}, {"train: {epochs: 5}", "max_failures: 0.5"},
		{"workers: 2", "workers: auto, threads: 3, device: cpu, cache_memory: 9"}, {"precision: float32", "precision: auto"},
		{"sampler: gp", "sampler: tpe, pruner: front, initial: 9"}, {"study: s", "study: t"},
		{"path: m", "path: elsewhere/m"}, {"train: t.tsv", "train: elsewhere/t.tsv"},
		{"columns: {text: a", "dev_share: 0.2\n  columns: {text: c"},
	} {
		if !strings.Contains(everyKey, change[0]) {
			t.Fatalf("no %q", change[0])
		}
		now := resolvedIdentity(t, parse(t, strings.Replace(everyKey, change[0], change[1], 1)))
		if changes := Changes(want, now); changes != nil {
			t.Errorf("%q: %+v", change[1], changes)
		}
	}
}

func TestChangesNameTheKeys(t *testing.T) {
	old := resolvedIdentity(t, parse(t, minimal))
	old["training.learning_rate"] = "0.001" // a study is calibrated before its first trial
	for line, want := range map[string]Change{
		"space: {lora: {ranks: [0, 1, 2, 4, 8]}}":    {"space.lora.ranks", "[0, 1, 2, 4, 8, 16, 32]", "[0, 1, 2, 4, 8]"},
		"space: {max_params: 10000}":                 {"space.max_params", "0", "10000"},
		"space: {learning_rate: [0.001]}":            {"space.learning_rate", "[]", "[0.001]"},
		"training: {dropout: 0.1}":                   {"training.dropout", "0", "0.1"},
		"budget: {rungs: [1]}":                       {"budget.rungs", "[0.25, 0.5, 0.75, 1]", "[1]"},
		"search: {seed: 1}":                          {"search.seed", "0", "1"},
		"evaluator: {analytic: true}":                {"evaluator.analytic", "false", "true"},
		"evaluator: {command: [python3, a b, \"\"]}": {"evaluator.command", "[]", `["python3", "a b", ""]`},
		"model: {path: m, head: dense}":              {"model.head", "linear", "dense"},
	} {
		now := resolvedIdentity(t, parse(t, with(line)))
		if diff := cmp.Diff([]Change{want}, Changes(old, now)); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
	if got := Changes(Values{"training.quantum": "1"}, Values{}); len(got) != 1 || got[0].New != "" {
		t.Errorf("a key of a newer program: %+v", got)
	}
	if got := Changes(Values{"budget.trials": "1", "study": "s"}, Values{}); got != nil {
		t.Errorf("keys that nothing depends on any more: %+v", got)
	}
}

// Sources explain why contents differ.
func TestSources(t *testing.T) {
	old, now := parse(t, minimal).Sources(), parse(t, strings.Replace(minimal, "t.tsv", "u.tsv\n  dev_share: 0.2",
		1)).Sources()
	want := []Change{{"task.dev_share", "0.1", "0.2"}, {"task.train", "t.tsv", "u.tsv"}}
	if diff := cmp.Diff(want, Changes(old, now)); diff != "" {
		t.Error(diff)
	}
}

// extend makes the type of a later version's study file: with one more field in a section.
func extend(t reflect.Type, prefix, section string, field reflect.StructField) reflect.Type {
	var fields []reflect.StructField
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name == "" {
			continue
		}
		if isSection(f.Type) {
			f.Type = extend(f.Type, prefix+name+".", section, field)
		}
		fields = append(fields, f)
	}
	if prefix == section {
		fields = slices.Insert(fields, len(fields)/2, field) // the order means nothing
	}
	return reflect.StructOf(fields)
}

// sections lists the sections of a study file whose keys scores depend on, as prefixes of keys.
func sections(t reflect.Type, prefix string) []string {
	out := []string{prefix}
	for _, k := range keys(t, prefix) {
		if isSection(k.fieldType) && k.identity == "" {
			out = append(out, sections(k.fieldType, k.path+".")...)
		}
	}
	return out
}

// A later version with a new key, in whichever section, continues the studies of this one, unless their
// files ask for something else than studies had before.
func TestNewKeysKeepOldStudies(t *testing.T) {
	samples := map[reflect.Type][3]string{
		reflect.TypeFor[string]():    {"plain", "fancy", "odd"},
		reflect.TypeFor[int]():       {"3", "4", "-5"},
		reflect.TypeFor[int64]():     {"0", "1", "9007199254740993"},
		reflect.TypeFor[uint64]():    {"0", "18446744073709551615", "7"},
		reflect.TypeFor[float64]():   {"0.1", "1e-300", "2.5"},
		reflect.TypeFor[bool]():      {"true", "false", "false"},
		reflect.TypeFor[[]string]():  {"[]", "[a, b]", "[c]"},
		reflect.TypeFor[[]float64](): {"[0.5, 1]", "[1]", "[]"},
		reflect.TypeFor[[]int]():     {"[0, 1]", "[1]", "[0]"},
	}
	types := slices.SortedFunc(func(yield func(reflect.Type) bool) {
		for k := range samples {
			if !yield(k) {
				return
			}
		}
	}, func(a, b reflect.Type) int { return strings.Compare(a.String(), b.String()) })
	where := sections(reflect.TypeFor[Config](), "")
	if len(where) < 7 {
		t.Fatalf("only the sections %q", where)
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(types).Draw(t, "type")
		section := rapid.SampledFrom(where).Draw(t, "section")
		standard, other, was := samples[kind][0], samples[kind][1], samples[kind][2]
		tags := fmt.Sprintf(`yaml:"added" default:"%s"`, standard)
		changed := rapid.Bool().Draw(t, "the default is not what was before")
		if changed {
			tags += fmt.Sprintf(` was:"%s"`, was)
		}
		later := extend(reflect.TypeFor[Config](), "", section,
			reflect.StructField{Name: "Added", Type: kind, Tag: reflect.StructTag(tags)})
		identity := func(file reflect.Type, text string, started Values) Values {
			into := reflect.New(file)
			d, errs := decodeDocument("study.yaml", []byte(text), into.Interface())
			if errs != nil {
				t.Fatal(errs)
			}
			if started != nil {
				continueWith(into.Elem(), d, started)
			}
			return values(into.Elem(), identityYes)
		}
		old := identity(reflect.TypeFor[Config](), everyKey, nil)
		// set adds the key to its section, which stands in one line or in several.
		set := func(value string) string {
			if section == "" {
				return everyKey + "added: " + value + "\n"
			}
			parts := strings.Split(strings.TrimSuffix(section, "."), ".")
			name := parts[len(parts)-1] + ":"
			if strings.Contains(everyKey, name+" {") {
				return strings.Replace(everyKey, name+" {", name+" {added: "+value+", ", 1)
			}
			return strings.Replace(everyKey, "\n"+name+"\n", "\n"+name+"\n  added: "+value+"\n", 1)
		}
		path := section + "added"
		check := func(what string, now Values, want bool) {
			t.Helper()
			got := changes(old, now, later)
			if want != (len(got) == 1 && got[0].Key == path) || !want && got != nil {
				t.Fatalf("%s: %+v", what, got)
			}
		}
		check("without the key", identity(later, everyKey, old), false)
		check("with the value of before", identity(later, set(map[bool]string{true: was, false: standard}[changed]), old),
			false)
		check("with another value", identity(later, set(other), old), !changed || other != was)
		check("a new study's default", identity(later, everyKey, nil), changed && standard != was)
	})
}
