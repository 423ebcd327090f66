package peft_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/data/tokenizer"
	"peftsearch/peft"
)

// goldenExport is a plan with what a library has for it; scripts/golden/exports.py writes them.
type goldenExport struct {
	Name      string         `json:"name"`
	Type      string         `json:"architecture"`
	Format    peft.Format    `json:"format"`
	Plan      peft.Plan      `json:"plan"`
	Head      string         `json:"head"`
	Labels    []string       `json:"labels"`
	Documents map[string]any `json:"documents"`
}

// kindOf is the kind of task that has such labels.
func kindOf(labels []string) data.Kind {
	if labels == nil {
		return data.KindRegression
	}
	return data.KindClassification
}

func TestExportsEqualWhatTheLibrariesWrite(t *testing.T) {
	content, err := os.ReadFile("testdata/exports/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenExport
	if err := json.Unmarshal(content, &cases); err != nil {
		t.Fatal(err)
	}
	for _, golden := range cases {
		t.Run(golden.Name, func(t *testing.T) {
			geometry := small
			geometry.Architecture = golden.Type
			source := peft.Trained{Plan: golden.Plan, Modules: map[string]checkpoint.Tensor{},
				Head: map[string]checkpoint.Tensor{}, Info: peft.Info{
					Version: peft.TrainedVersion, Model: "models/small", Base: "models/small", Geometry: geometry,
					Head: golden.Head, Labels: golden.Labels,
					Task: data.Task{Kind: kindOf(golden.Labels)}}}
			want := map[string]checkpoint.Tensor{}
			tensors, _, err := checkpoint.ReadSafetensors("testdata/exports/"+golden.Name+".safetensors", nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, tensor := range tensors {
				if theirs, ok := strings.CutPrefix(name, "theirs."); ok {
					want[theirs] = tensor
				} else if ours := strings.TrimPrefix(name, "ours."); strings.HasPrefix(ours, "head.") {
					source.Head[ours] = tensor
				} else {
					source.Modules[ours] = tensor
				}
			}
			if prefix, ok := peft.Find[peft.Prefix](golden.Plan.Layers[0]); ok && golden.Format == peft.FormatPEFT {
				source.Info.Model, source.Info.ModelFingerprint, source.Info.Geometry = smallModel(t)
				want["base_model.bert.embeddings.position_embeddings.weight"] = movedPositions(prefix.Length)
				config := golden.Documents["adapter_config.json"].(map[string]any)
				config["modules_to_save"] = append(config["modules_to_save"].([]any), "position_embeddings")
			}
			dir := filepath.Join(t.TempDir(), "export")
			if lost, err := peft.Export(golden.Format, source, dir, peft.Options{}); err != nil || len(lost) > 0 {
				t.Fatalf("lost %v, error %v", lost, err)
			}
			compareTensors(t, want, exportedTensors(t, dir))
			for name, document := range golden.Documents {
				got := readDocument(t, filepath.Join(dir, name))
				switch inner := got.(map[string]any); {
				case name == "adapter_setup.json":
					got = inner["adapter_setup"]
				case golden.Format == peft.FormatAdapters:
					got = inner["config"]
				}
				subset(t, name, got, document)
			}
		})
	}
}

const positions = 16 // of smallModel, whose row n of them is n everywhere

// movedPositions is the table of positions with every row so many rows later.
func movedPositions(by int) checkpoint.Tensor {
	values := make([]float32, positions*small.Hidden)
	for i := range values {
		values[i] = float32((i/small.Hidden + positions - by) % positions)
	}
	return checkpoint.NewTensor(values, positions, small.Hidden)
}

// smallModel writes a model of the small geometry, but for the number of its parameters.
func smallModel(t *testing.T) (dir, fingerprint string, g peft.Geometry) {
	t.Helper()
	dir = t.TempDir()
	config := fmt.Sprintf(`{"model_type": "bert", "vocab_size": 9, "hidden_size": %d, "num_hidden_layers": %d,
		"num_attention_heads": %d, "intermediate_size": %d, "max_position_embeddings": %d, "type_vocab_size": 2,
		"pad_token_id": 0, "hidden_act": "gelu", "layer_norm_eps": 1e-12}`, small.Hidden, small.Layers, small.Heads,
		small.FFN, positions)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	tensors := map[string]checkpoint.Tensor{}
	add := func(name string, shape ...int) {
		tensors[name] = checkpoint.NewTensor(make([]float32, checkpoint.Tensor{Shape: shape}.Elements()), shape...)
	}
	norm := func(name string) { add(name+".weight", small.Hidden); add(name+".bias", small.Hidden) }
	add("embeddings.word_embeddings.weight", 9, small.Hidden)
	add("embeddings.token_type_embeddings.weight", 2, small.Hidden)
	norm("embeddings.LayerNorm")
	tensors["embeddings.position_embeddings.weight"] = movedPositions(0)
	for i := range small.Layers {
		for _, target := range peft.Targets {
			in, out := small.TargetShape(target)
			add(small.CheckpointName(i, target)+".weight", out, in)
			add(small.CheckpointName(i, target)+".bias", out)
		}
		norm(fmt.Sprintf("encoder.layer.%d.attention.output.LayerNorm", i))
		norm(fmt.Sprintf("encoder.layer.%d.output.LayerNorm", i))
	}
	if err := checkpoint.WriteSafetensors(filepath.Join(dir, "model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if fingerprint, err = c.Fingerprint(); err != nil {
		t.Fatal(err)
	}
	return dir, fingerprint, peft.GeometryOf(c)
}

// exportedTensors joins the tensors of an export and checks that each lies in its adapter's directory.
func exportedTensors(t *testing.T, dir string) map[string]checkpoint.Tensor {
	t.Helper()
	all := map[string]checkpoint.Tensor{}
	for name := range list(t, dir) {
		if !strings.HasSuffix(name, ".safetensors") {
			continue
		}
		tensors, metadata, err := checkpoint.ReadSafetensors(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if metadata["format"] != "pt" {
			t.Errorf("%s: metadata %v", name, metadata)
		}
		for key, tensor := range tensors {
			if adapter := filepath.Dir(name); adapter != "." && !strings.Contains(key, "."+adapter+".") {
				t.Errorf("%s lies in %s", key, name)
			}
			all[key] = tensor
		}
	}
	return all
}

// compareTensors compares values; the zeros of a fusion may have another element type.
func compareTensors(t *testing.T, want, got map[string]checkpoint.Tensor) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Fatalf("names (-want +got)\n%s", diff)
	}
	for name, tensor := range want {
		if diff := cmp.Diff(tensor.Shape, got[name].Shape); diff != "" {
			t.Errorf("%s: shape %s", name, diff)
		} else if diff := cmp.Diff(tensor.Float32(), got[name].Float32()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// subset checks that what is written is what the library has; defaults may be left out, and the name
// of an initialisation plays no role.
func subset(t *testing.T, where string, got, want any) {
	t.Helper()
	switch got := got.(type) {
	case map[string]any:
		want, ok := want.(map[string]any)
		if !ok {
			t.Errorf("%s: have %v, the library %v", where, got, want)
			return
		}
		for key, value := range got {
			subset(t, where+": "+key, value, want[key])
		}
	case []any:
		want, ok := want.([]any)
		if !ok || len(want) != len(got) {
			t.Errorf("%s: have %v, the library %v", where, got, want)
			return
		}
		if strings.HasSuffix(where, ": target_modules") || strings.HasSuffix(where, ": modules_to_save") { // sets
			less := func(a, b any) int { return strings.Compare(a.(string), b.(string)) }
			slices.SortFunc(got, less)
			slices.SortFunc(want, less)
		}
		for i := range got {
			subset(t, where, got[i], want[i])
		}
	default:
		if !cmp.Equal(got, want) {
			t.Errorf("%s: have %v, the library %v", where, got, want)
		}
	}
}

func readDocument(t *testing.T, path string) any {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return value
}

// list is the set of files under a directory.
func list(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			name, _ := filepath.Rel(dir, path)
			files[filepath.ToSlash(name)] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestScalingsAreWrittenAsFloats(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "export")
	if _, err := peft.Export(peft.FormatAdapters, configOnly(peft.Layer{peft.Parallel{Width: 2}}), dir,
		peft.Options{}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "adapter_config.json"))
	if err != nil || !strings.Contains(string(content), `"scaling": 4.0,`) {
		t.Errorf("%v\n%s", err, content)
	}
}

// TestWidths checks that int(D // factor), which is what adapters makes of a reduction factor, is the width.
func TestWidths(t *testing.T) {
	for _, hidden := range []int{128, 384, 768, 1024} {
		g := peft.Geometry{Architecture: "bert", Layers: hidden, Hidden: hidden, FFN: 4 * hidden, Heads: 2}
		source := peft.Trained{Plan: peft.Plan{Layers: make([]peft.Layer, hidden)},
			Info: peft.Info{Geometry: g, Head: "linear", Task: data.Task{Kind: data.KindClassification}}}
		for i := range source.Plan.Layers {
			source.Plan.Layers[i] = peft.Layer{peft.Serial{Width: i + 1}}
		}
		dir := filepath.Join(t.TempDir(), "export")
		if _, err := peft.Export(peft.FormatAdapters, source, dir, peft.Options{}); err != nil {
			t.Fatal(err)
		}
		config := readDocument(t, filepath.Join(dir, "adapter_config.json")).(map[string]any)["config"].(map[string]any)
		factors := config["reduction_factor"].(map[string]any)
		for layer, factor := range factors {
			var i int
			if err := json.Unmarshal([]byte(layer), &i); err != nil {
				t.Fatal(err)
			}
			if width := int(math.Floor(float64(hidden) / factor.(float64))); width != i+1 {
				t.Errorf("hidden %d: width %d instead of %d", hidden, width, i+1)
			}
		}
		if len(factors) != hidden {
			t.Errorf("%d factors for %d layers", len(factors), hidden)
		}
	}
}

// configOnly is a source without tensors for the small geometry; missing layers have no modules.
func configOnly(layers ...peft.Layer) peft.Trained {
	return peft.Trained{Plan: peft.Plan{Layers: append(layers, make([]peft.Layer, small.Layers-len(layers))...)},
		Info: peft.Info{Model: "models/small", Geometry: small, Head: "linear", Labels: []string{"no", "yes"},
			Task: data.Task{Kind: data.KindClassification}}}
}

func TestWhatAFormatCannotExpressIsRefusedOrListed(t *testing.T) {
	lora := peft.LoRA{Rank: 2, Alpha: 4, Targets: []peft.Target{peft.TargetQuery, peft.TargetAttentionOutput}}
	for name, test := range map[string]struct {
		format peft.Format
		layers []peft.Layer
		lost   []string
	}{
		"attention output in adapters": {peft.FormatAdapters, []peft.Layer{{lora}, {lora}},
			[]string{"lora r2 on attention_output (layers 0-1)"}},
		"a gated prefix in adapters": {peft.FormatAdapters, []peft.Layer{{peft.Serial{Width: 3},
			peft.Prefix{Length: 2, Gate: true}}},
			[]string{"prefix 2 gated (layers 0)"}},
		"adapters in peft": {peft.FormatPEFT, []peft.Layer{{lora, peft.Serial{Width: 3}}, {peft.Parallel{Width: 4}}},
			[]string{"serial 3 (layers 0)", "parallel 4 (layers 1)"}},
		"prefix beside lora in peft": {peft.FormatPEFT, []peft.Layer{{lora, peft.Prefix{Length: 1}},
			{peft.Prefix{Length: 1}}},
			[]string{"prefix 1 (layers 0-1)"}},
	} {
		dir := filepath.Join(t.TempDir(), "export")
		lost, err := peft.Export(test.format, configOnly(test.layers...), dir, peft.Options{})
		if err == nil || !strings.Contains(err.Error(), test.lost[0]) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if diff := cmp.Diff(test.lost, lost); diff != "" {
			t.Errorf("%s: lost (-want +got)\n%s", name, diff)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: refused, but something was written", name)
		}
		if lost, err = peft.Export(test.format, configOnly(test.layers...), dir, peft.Options{Lossy: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lost {
			if !strings.Contains(string(readme), "- "+l+"\n") {
				t.Errorf("%s: README.md does not list %q", name, l)
			}
		}
	}
}

func TestImpossibleExports(t *testing.T) {
	occupied := t.TempDir()
	if err := os.WriteFile(filepath.Join(occupied, "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	full := trainedPlan()
	full.Backbone = map[string]checkpoint.Tensor{"x": checkpoint.NewTensor(make([]float32, 1000), 1000)}
	short := trainedPlan()
	short.Backbone = map[string]checkpoint.Tensor{"x": checkpoint.NewTensor(make([]float32, 999), 999)}
	broken := trainedPlan()
	delete(broken.Modules, "layers.1.prefix.keys")
	other := configOnly()
	other.Info.Geometry.Architecture = "bart"
	flat := peft.Trained{Info: peft.Info{Geometry: peft.Geometry{Architecture: "bert"}, Head: "linear",
		Task: data.Task{Kind: data.KindClassification}}}
	uneven := []peft.Layer{{peft.Prefix{Length: 2}}}
	for name, test := range map[string]struct {
		format peft.Format
		source peft.Trained
		dir    string
		words  string
	}{
		"unknown format":     {"tflite", configOnly(), "", `"tflite"`},
		"occupied directory": {peft.FormatPlan, configOnly(), occupied, "not empty"},
		"a file":             {peft.FormatPlan, configOnly(), filepath.Join(occupied, "notes.txt"), "not a directory"},
		"nothing for peft":   {peft.FormatPEFT, configOnly(uneven...), "", "a prefix of one length"},
		"nothing to merge":   {peft.FormatMerged, configOnly(), "", "train the plan first"},
		"trained backbone":   {peft.FormatAdapters, full, "", "merged"},
		"missing backbone": {peft.FormatMerged, short, "",
			"the backbone's tensors have 999 values, the model's have 1000"},
		"missing tensor":       {peft.FormatAdapters, broken, "", "layers.1.prefix.keys is missing"},
		"unknown architecture": {peft.FormatAdapters, other, "", `"bart"`},
		"no layers":            {peft.FormatPEFT, flat, "", "0 layers"},
		"no model":             {peft.FormatMerged, trainedPlan(), "", "models/small"},
	} {
		dir := test.dir
		if dir == "" {
			dir = filepath.Join(t.TempDir(), "export")
		}
		if _, err := peft.Export(test.format, test.source, dir, peft.Options{Lossy: true}); err == nil ||
			!strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
		if _, err := os.Stat(dir); err == nil && test.dir == "" {
			t.Errorf("%s: something was written", name)
		}
	}
	if left := list(t, filepath.Dir(occupied)); len(left) != 1 {
		t.Errorf("files are left: %v", left)
	}
}

func TestPlansAreExportedWhole(t *testing.T) {
	dir := t.TempDir() // empty directories are taken
	source := trainedPlan()
	if _, err := peft.Export(peft.FormatPlan, source, dir, peft.Options{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]bool{"plan.json": true, "README.md": true}, list(t, dir)); diff != "" {
		t.Error(diff)
	}
	plan, err := peft.ReadPlan(filepath.Join(dir, "plan.json"))
	if err != nil || plan.Key() != source.Plan.Key() {
		t.Errorf("%v: %v", err, plan)
	}
}

// TestModulesThatDifferAreAdaptersOfTheirOwn keeps what the text of a module leaves out, such as LoRA's alpha.
func TestModulesThatDifferAreAdaptersOfTheirOwn(t *testing.T) {
	query := []peft.Target{peft.TargetQuery}
	for name, layers := range map[string][]peft.Layer{
		"alpha": {{peft.LoRA{Rank: 2, Alpha: 2, Targets: query}}, {peft.LoRA{Rank: 2, Alpha: 4, Targets: query}}},
		"targets": {{peft.LoRA{Rank: 2, Alpha: 2, Targets: query}},
			{peft.LoRA{Rank: 2, Alpha: 2, Targets: []peft.Target{peft.TargetValue}}}},
		"scale": {{peft.Serial{Width: 3, Scale: 1}}, {peft.Serial{Width: 3, Scale: 2}}},
	} {
		dir := filepath.Join(t.TempDir(), "export")
		if _, err := peft.Export(peft.FormatAdapters, configOnly(layers...), dir, peft.Options{}); err != nil {
			t.Fatal(err)
		}
		adapters := 0
		for file := range list(t, dir) {
			if filepath.Base(file) == "adapter_config.json" {
				adapters++
			}
		}
		if adapters != 2 {
			t.Errorf("layers that differ in %s became %d adapters", name, adapters)
		}
	}
}

// TestMerged folds LoRA by hand into two elements of the two-layer BERT's weights.
func TestMerged(t *testing.T) {
	model := filepath.Join("..", "models", "bert-tiny")
	if _, err := os.Stat(model); err != nil {
		t.Skipf("%s is absent: make models/bert-tiny fetches it", model)
	}
	before, err := checkpoint.Open(model)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	fingerprint, err := before.Fingerprint()
	if err != nil {
		t.Fatal(err)
	}
	g := peft.GeometryOf(before)
	source := peft.Trained{
		Plan: peft.Plan{Layers: []peft.Layer{{}, {peft.LoRA{Rank: 2, Alpha: 6, Targets: []peft.Target{peft.TargetFFNIn}}}}},
		Info: peft.Info{Version: peft.TrainedVersion, Model: model, ModelFingerprint: fingerprint, Geometry: g,
			Head:   "linear",
			Labels: []string{"no", "yes", "maybe"}, Task: data.Task{Kind: data.KindClassification}},
	}
	tensors := func(shapes map[string][]int) map[string]checkpoint.Tensor {
		filled := map[string]checkpoint.Tensor{}
		for name, shape := range shapes {
			values := make([]float32, checkpoint.Tensor{Shape: shape}.Elements())
			for i := range values {
				values[i] = float32(i%7) - 3
			}
			filled[name] = checkpoint.NewTensor(values, shape...)
		}
		return filled
	}
	source.Modules, source.Head = tensors(source.Plan.TensorShapes(g)), tensors(source.Info.HeadShapes())
	dir := filepath.Join(t.TempDir(), "merged")
	if lost, err := peft.Export(peft.FormatMerged, source, dir, peft.Options{}); err != nil || lost != nil {
		t.Fatal(lost, err)
	}
	after, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	a, b := source.Modules["layers.1.lora.ffn_in.a"].Float32(), source.Modules["layers.1.lora.ffn_in.b"].Float32()
	for _, name := range before.Backbone() {
		x, _ := before.Tensor(name)
		y, err := after.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		old, merged := x.Float32(), y.Float32()
		if name != "encoder.layer.1.intermediate.dense.weight" {
			if !slices.Equal(old, merged) {
				t.Errorf("%s has changed", name)
			}
			continue
		}
		for _, at := range [][2]int{{0, 0}, {300, 77}} { // row, column of [512, 128]
			row, column := at[0], at[1]
			want := old[row*128+column] + 3*(b[row*2]*a[column]+b[row*2+1]*a[128+column])
			if got := merged[row*128+column]; math.Abs(float64(got-want)) > 1e-5 {
				t.Errorf("element %v is %g, by hand %g", at, got, want)
			}
		}
	}
	weight, err := after.Tensor("classifier.weight")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := weight.Float32()[5], 128*source.Head["head.weight"].Float32()[5]; got != want {
		t.Errorf("classifier %g, want %g", got, want)
	}
	config := readDocument(t, filepath.Join(dir, "config.json")).(map[string]any)
	if diff := cmp.Diff(map[string]any{"0": "no", "1": "yes", "2": "maybe"}, config["id2label"]); diff != "" {
		t.Error(diff)
	}
	if _, err := tokenizer.Load(dir); err != nil {
		t.Error(err)
	}
	backbone := map[string][]int{}
	for _, name := range before.Backbone() {
		tensor, _ := before.Tensor(name)
		backbone[name] = tensor.Shape
	}
	full := peft.Trained{Plan: peft.Plan{Layers: make([]peft.Layer, 2)}, Info: source.Info, Head: source.Head,
		Backbone: tensors(backbone)}
	if _, err := peft.Export(peft.FormatMerged, full, filepath.Join(t.TempDir(), "merged"), peft.Options{}); err != nil {
		t.Fatal(err)
	}
	const bias = "encoder.layer.0.attention.self.query.bias"
	full.Backbone["other.bias"] = full.Backbone[bias]
	delete(full.Backbone, bias)
	if _, err := peft.Export(peft.FormatMerged, full, filepath.Join(t.TempDir(), "merged"), peft.Options{}); err == nil ||
		!strings.Contains(err.Error(), bias+" is missing") {
		t.Errorf("another backbone tensor: the error is %v", err)
	}
	source.Info.Geometry.Heads = 1
	_, err = peft.Export(peft.FormatMerged, source, filepath.Join(t.TempDir(), "merged"), peft.Options{})
	if err == nil || !strings.Contains(err.Error(), "Heads:1") {
		t.Errorf("another geometry: the error is %v", err)
	}
	source.Info.ModelFingerprint = "another"
	_, err = peft.Export(peft.FormatMerged, source, filepath.Join(t.TempDir(), "merged"), peft.Options{})
	if err == nil || !strings.Contains(err.Error(), "fingerprint") {
		t.Errorf("another model: the error is %v", err)
	}
}

// In a layer with another bottleneck the library looks for a fusion's adapters, and fails.
func TestAFusionHasNoOtherBottlenecks(t *testing.T) {
	c := openModel(t, "bert-tiny")
	source := trainedFor(t, c, nil)
	source.Plan.Layers = []peft.Layer{{peft.Serial{Width: 2}, peft.Parallel{Width: 2}}, {peft.Houlsby{Width: 2}}}
	source.Modules = fill(source.Plan.TensorShapes(source.Info.Geometry))
	_, err := peft.Export(peft.FormatAdapters, source, filepath.Join(t.TempDir(), "export"), peft.Options{})
	if err == nil || !strings.Contains(err.Error(), "fusion") {
		t.Errorf("%v", err)
	}
}
