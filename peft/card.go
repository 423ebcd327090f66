package peft

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"peftsearch/data"
	"peftsearch/data/hub"
)

// Card is what a model card says that no file of the training holds.
type Card struct {
	Name     string // of the model; "" is the plan in words
	Base     string // the pretrained model's name on the Hub; "" where it is not known
	License  string // by the Hub's name for it; "" for none
	Language string // code of ISO 639; "" where it is not known
}

// Validate reports what the Hub would not take.
func (c Card) Validate() error {
	if c.Base != "" {
		if _, ok := hub.Parse(c.Base); !ok {
			return fmt.Errorf("base model %.100q: must be its name on the Hub, such as owner/name", c.Base)
		}
	}
	for _, text := range []string{c.Name, c.License, c.Language} {
		if len(text) > 200 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
			return fmt.Errorf("%.40q…: must be one line of at most 200 bytes", text)
		}
	}
	return nil
}

// frontMatter is the head of a README.md that the Hub reads.
type frontMatter struct {
	Base     string       `yaml:"base_model,omitempty"`
	Relation string       `yaml:"base_model_relation,omitempty"`
	Library  string       `yaml:"library_name,omitempty"`
	Pipeline string       `yaml:"pipeline_tag,omitempty"`
	Language string       `yaml:"language,omitempty"`
	License  string       `yaml:"license,omitempty"`
	Tags     []string     `yaml:"tags"`
	Index    []modelIndex `yaml:"model-index,omitempty"`
}

type modelIndex struct {
	Name    string        `yaml:"name"`
	Results []modelResult `yaml:"results"`
}

type modelResult struct {
	Task struct {
		Type string `yaml:"type"`
	} `yaml:"task"`
	Dataset struct {
		Name  string `yaml:"name"`
		Type  string `yaml:"type"`
		Split string `yaml:"split"`
	} `yaml:"dataset"`
	Metrics []modelMetric `yaml:"metrics"`
}

type modelMetric struct {
	Type  string  `yaml:"type"`
	Value float64 `yaml:"value"`
	Name  string  `yaml:"name"`
}

// library is what the Hub calls the library that reads a format, and relation how its base model is used.
var library = map[Format]struct{ name, relation string }{
	FormatPlan:         {"", ""},
	FormatAdapters:     {"adapters", "adapter"},
	FormatPEFT:         {"peft", "adapter"},
	FormatMerged:       {"transformers", "finetune"},
	FormatTransformers: {"transformers", "finetune"},
	FormatONNX:         {"onnx", "finetune"},
}

// pipelines are the Hub's names of tasks.
var pipelines = map[data.Kind]string{data.KindClassification: "text-classification",
	data.KindRegression: "text-classification", data.KindMultilabel: "text-classification",
	data.KindTokenClassification: "token-classification", data.KindMultipleChoice: "multiple-choice",
	data.KindText: "text-generation"}

// hubName is the pretrained model's name on the Hub, "" where it is not known.
func (t Trained) hubName() string {
	if t.Info.Base != "" {
		return t.Info.Base
	}
	if name := hub.NameOf(t.Info.Model); name != t.Info.Model {
		return name
	}
	return ""
}

// readme is the README.md of the export: the model's card.
func (e *export) readme(format Format, t Trained, card Card, lost []string) (string, error) {
	var b strings.Builder
	name := cmp.Or(card.Name, t.title())
	head, err := yaml.Marshal(t.frontMatter(format, card, name))
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&b, "---\n%s---\n\n# %s\n\n", head, name)
	fmt.Fprintf(&b, "`%s` with the modules %s and a %s head (%s, %d layers, %d wide), exported by peftsearch as `%s`.\n",
		t.modelName(), t.Plan, t.Info.Head, t.Info.Geometry.Architecture, t.Info.Geometry.Layers, t.Info.Geometry.Hidden,
		format)
	if format != FormatPlan {
		count := t.Plan.Params(t.Info.Geometry)
		fmt.Fprintf(&b, "The modules have %d parameters, %.2f %% of the backbone's.\n", count.Total(),
			count.Percent(t.Info.Geometry))
	}
	if t.configOnly() && format != FormatPlan {
		b.WriteString("This is the configuration without trained weights.\n")
	}
	if len(t.Info.Labels) > 0 {
		fmt.Fprintf(&b, "The classes, by output: %s.\n", strings.Join(t.Info.Labels, ", "))
	}
	fmt.Fprintf(&b, "\n## Load\n\n%s", e.loading)
	if library[format].relation == "adapter" && t.hubName() == "" {
		fmt.Fprintf(&b, "\n`%s` stands for the pretrained model: its directory, or its name on the Hub.\n", t.modelName())
	}
	for _, note := range e.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	if code := t.trainOn(format); code != "" {
		fmt.Fprintf(&b, "\n## Train on\n\n%s", code)
	}
	b.WriteString(t.scores())
	b.WriteString(t.provenance(format))
	if len(lost) > 0 {
		b.WriteString("\n## Lost\n\nThis format cannot express the following. It is left out, so the outputs differ from " +
			"those of the plan.\n\n")
		if !t.configOnly() {
			b.WriteString("**What is left was trained together with what is lost, and is worse without it: train it again " +
				"before it is used.**\n\n")
		}
		for _, l := range lost {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	return b.String(), nil
}

func (t Trained) frontMatter(format Format, card Card, name string) frontMatter {
	f := frontMatter{Base: t.hubName(), Library: library[format].name, Pipeline: pipelines[t.Info.Task.Kind],
		Language: card.Language, License: card.License, Tags: []string{"peftsearch", "parameter-efficient-fine-tuning"}}
	if f.Base != "" {
		f.Relation = library[format].relation
	}
	for _, m := range Methods {
		if t.Plan.any(m) != nil {
			f.Tags = append(f.Tags, string(m))
		}
	}
	if format == FormatTransformers {
		f.Tags = append(f.Tags, "custom_code")
	}
	for _, s := range t.splits() {
		result := modelResult{}
		result.Task.Type = cmp.Or(f.Pipeline, string(t.Info.Task.Kind))
		result.Dataset.Name, result.Dataset.Type, result.Dataset.Split = t.dataName(), "custom", s.name
		for _, metric := range slices.Sorted(maps.Keys(s.scores)) {
			result.Metrics = append(result.Metrics, modelMetric{Type: metric, Value: math.Round(1e4*s.scores[metric]) / 1e4,
				Name: s.name + " " + metric})
		}
		if len(f.Index) == 0 {
			f.Index = []modelIndex{{Name: name}}
		}
		f.Index[0].Results = append(f.Index[0].Results, result)
	}
	return f
}

// dataName is the study that the data was for.
func (t Trained) dataName() string {
	if t.Info.Origin != nil && t.Info.Origin.Study != "" {
		return t.Info.Origin.Study
	}
	return "unnamed data"
}

type splitScores struct {
	name   string
	scores map[string]float64
}

// splits are those that have scores.
func (t Trained) splits() (list []splitScores) {
	for _, s := range []splitScores{{"dev", t.Metrics.Dev}, {"test", t.Metrics.Test}} {
		if len(s.scores) > 0 {
			list = append(list, s)
		}
	}
	return list
}

// scores is a table of the scores.
func (t Trained) scores() string {
	splits := t.splits()
	if len(splits) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## Scores\n\n| metric |")
	for _, s := range splits {
		fmt.Fprintf(&b, " %s |", s.name)
	}
	b.WriteString("\n|---" + strings.Repeat("|---", len(splits)) + "|\n")
	for _, metric := range slices.Sorted(maps.Keys(splits[0].scores)) {
		fmt.Fprintf(&b, "| %s |", metric)
		for _, s := range splits {
			cell := "–"
			if score, ok := s.scores[metric]; ok {
				cell = fmt.Sprintf("%.4f", score)
			}
			if interval, ok := t.Metrics.Intervals[s.name]; ok && metric == string(t.Info.Task.Metric) {
				cell += fmt.Sprintf(" (%.4f to %.4f)", interval[0], interval[1])
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	if len(t.Metrics.Intervals) > 0 {
		b.WriteString("\nIn brackets 95 % intervals of what other rows would have given, from draws with replacement. " +
			"The dev " +
			"split chose the plan and the step, so that its scores flatter.\n")
	}
	return b.String()
}

// provenance says how the model was found and trained.
func (t Trained) provenance(format Format) string {
	if format == FormatPlan || t.configOnly() {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n## How it was found\n\n")
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "- %s: "+format+"\n", append([]any{name}, args...)...)
	}
	line("plan", "%s (`%s`)", t.Plan, planFile)
	if o := t.Info.Origin; o != nil {
		if o.Study != "" && o.Trial != nil {
			line("study", "%s, trial %d", o.Study, *o.Trial)
		} else if o.Study != "" {
			line("study", "%s, with a plan that was given", o.Study)
		}
		line("program", "peftsearch %s", o.Program)
	}
	line("seed", "%d", t.Info.Seed)
	if settings := compact(t.Info.Training); settings != "" {
		line("training", "`%s`", settings)
	}
	if budget := compact(t.Info.Budget); budget != "" {
		line("budget", "`%s`", budget)
	}
	line("precision", "%s", cmp.Or(t.Info.Precision, "unknown"))
	line("pretrained model", "SHA-256 `%s`", t.Info.ModelFingerprint)
	if t.Info.DataFingerprint != "" {
		line("data", "SHA-256 `%s`", t.Info.DataFingerprint)
	}
	if t.Info.Task.MaxLength > 0 {
		line("longest input", "%d tokens; longer ones were cut", t.Info.Task.MaxLength)
	}
	return b.String()
}

// compact is a document in one line, "" for an empty one.
func compact(document json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, document) != nil || b.String() == "{}" {
		return ""
	}
	return b.String()
}
