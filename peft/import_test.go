package peft_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"peftsearch/data"
	"peftsearch/peft"
)

// TestExportsAreImported draws plans and compares them with what comes back.
func TestExportsAreImported(t *testing.T) {
	place := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		format := rapid.SampledFrom([]peft.Format{peft.FormatAdapters, peft.FormatPEFT}).Draw(t, "format")
		source := peft.Trained{Plan: drawPlan(t, base), Info: peft.Info{Geometry: base, Head: "linear",
			Task: data.Task{Kind: data.KindClassification}}}
		// What one directory of the format holds: a LoRA in some layer for peft; for adapters one length, one
		// LoRA and one bottleneck in a layer.
		var prefix, lora peft.Module
		for i := range source.Plan.Layers {
			layer := &source.Plan.Layers[i]
			if format == peft.FormatPEFT {
				own, ok := peft.Find[peft.LoRA](*layer)
				if *layer = nil; ok {
					*layer = peft.Layer{own}
				}
				continue
			}
			if layer.Module(peft.MethodSerial) != nil {
				*layer = layer.Without(peft.MethodParallel)
			}
			if own, ok := peft.Find[peft.Prefix](*layer); ok {
				if prefix == nil {
					prefix = own
				}
				*layer = layer.With(prefix)
			}
			if own, ok := peft.Find[peft.LoRA](*layer); ok {
				own.Targets = slices.DeleteFunc(own.Targets, func(t peft.Target) bool { return t == peft.TargetAttentionOutput })
				if lora == nil && len(own.Targets) > 0 {
					lora = own
				}
				if *layer = layer.Without(peft.MethodLoRA); lora != nil {
					*layer = append(*layer, lora)
				}
			}
		}
		if source.Plan.Empty() {
			t.Skip("no module")
		}
		dir := filepath.Join(place, "export")
		defer os.RemoveAll(dir)
		if lost, err := peft.Export(format, source, dir, peft.Options{}); err != nil || len(lost) > 0 {
			t.Fatalf("lost %v, error %v", lost, err)
		}
		got, err := peft.Import(dir, base)
		if err != nil {
			t.Fatal(err)
		}
		if got.Key() != source.Plan.Key() {
			t.Fatalf("%s came back as %s", source.Plan, got)
		}
	})
}

// importText imports a configuration for the small geometry of two layers of width 8.
func importText(t *testing.T, text string) (peft.Plan, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "adapter_config.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return peft.Import(file, small)
}

const adapter = `"mh_adapter": false, "output_adapter": true, "non_linearity": "relu", "original_ln_before": true, "reduction_factor": 2`

// compacter is what adapters writes of a CompacterConfig beside where its adapters are.
const compacter = `"output_adapter": true, "reduction_factor": 2, "non_linearity": "gelu", "original_ln_after": true,
	"init_weights": "bert", "is_parallel": false, "scaling": 1.0, "use_gating": false, "residual_before_ln": true,
	"phm_layer": true, "phm_dim": 4, "factorized_phm_W": true, "shared_W_phm": false, "shared_phm_rule": true,
	"factorized_phm_rule": false, "phm_c_init": "normal", "phm_init_range": 0.0001, "learn_phm": true,
	"hypercomplex_nonlinearity": "glorot-uniform", "phm_rank": 1, "phm_bias": true, "stochastic_depth": 0.0`

func TestImport(t *testing.T) {
	lora := func(rank int, alpha float64, targets ...peft.Target) peft.Layer {
		return peft.Layer{peft.LoRA{Rank: rank, Alpha: alpha, Targets: targets}}
	}
	qv := lora(4, 8, peft.TargetQuery, peft.TargetValue)
	for name, test := range map[string]struct {
		text string
		want []peft.Layer
	}{
		"peft, names": {`{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], "lora_dropout": 0.1,
			"bias": "none", "megatron_core": "megatron.core", "init_lora_weights": true, "modules_to_save": ["classifier"]}`, []peft.Layer{qv, qv}},
		"peft, default targets": {`{"peft_type": "LORA", "r": 4, "target_modules": null}`, []peft.Layer{qv, qv}},
		"peft, one layer": {`{"peft_type": "LORA", "r": 4, "target_modules": ["query", "value"], "layers_to_transform": 1, "layers_pattern": "layer"}`,
			[]peft.Layer{{}, qv}},
		"peft, indented": {`{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "layers_to_transform": [1], "layers_pattern": [
    "layer"
  ]}`, []peft.Layer{{}, qv}},
		"peft, list of layers": {`{"peft_type": "LORA", "r": 4, "target_modules": ["query", "value"], "layers_to_transform": [0]}`, []peft.Layer{qv, {}}},
		"peft, expression":     {`{"peft_type": "LORA", "r": 4, "target_modules": ".*\\.1\\.attention\\.self\\.(query|value)"}`, []peft.Layer{{}, qv}},
		"peft, every linear layer": {`{"peft_type": "LORA", "r": 2, "target_modules": "all-linear"}`,
			[]peft.Layer{lora(2, 8, peft.Targets...), lora(2, 8, peft.Targets...)}},
		"peft, an ambiguous name": {`{"peft_type": "LORA", "r": 2, "target_modules": ["output.dense"], "layers_to_transform": [1]}`,
			[]peft.Layer{{}, lora(2, 8, peft.TargetAttentionOutput, peft.TargetFFNOut)}},
		"peft, patterns": {`{"peft_type": "LORA", "r": 4, "target_modules": ["query", "value"], "rank_pattern": {"layer.1.attention.self.(query|value)": 2},
			"alpha_pattern": {"bert.encoder.layer.1.*": 3.5}}`, []peft.Layer{qv, lora(2, 3.5, peft.TargetQuery, peft.TargetValue)}},
		"peft, rank-stabilised": {`{"peft_type": "LORA", "r": 4, "lora_alpha": 4, "use_rslora": true}`, []peft.Layer{qv, qv}},
		"peft, prefix": {`{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5, "token_dim": 8, "num_layers": 2, "encoder_hidden_size": 8}`,
			[]peft.Layer{{peft.Prefix{Length: 5}}, {peft.Prefix{Length: 5}}}},
		"adapters, a bare configuration": {`{"architecture": "lora", "r": 4, "alpha": 8, "attn_matrices": ["v", "q"]}`,
			[]peft.Layer{qv, qv}},
		"adapters, widths by layer": {`{"version": "adapters.1.2.0", "config": {"mh_adapter": false, "output_adapter": true, "non_linearity": "relu",
			"original_ln_before": true, "reduction_factor": {"1": 8, "default": 3.9}, "phm_dim": 4, "leave_out": []}}`,
			[]peft.Layer{{peft.Serial{Width: 2}}, {peft.Serial{Width: 1}}}},
		"adapters, compacter": {`{"config": {"mh_adapter": true, ` + compacter + `}}`,
			[]peft.Layer{{peft.Compacter{Bottleneck: peft.Bottleneck{Width: 4}}},
				{peft.Compacter{Bottleneck: peft.Bottleneck{Width: 4}}}}},
		"adapters, compacter++": {`{"config": {"mh_adapter": false, "original_ln_before": true, "leave_out": [0], ` +
			compacter + `}}`,
			[]peft.Layer{{}, {peft.Compacter{Bottleneck: peft.Bottleneck{Width: 4}, FFNOnly: true}}}},
		"peft, dora": {`{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true, "target_modules": ["query"]}`,
			[]peft.Layer{{peft.DoRA{Rank: 4, Alpha: 8, Targets: []peft.Target{peft.TargetQuery}}},
				{peft.DoRA{Rank: 4, Alpha: 8, Targets: []peft.Target{peft.TargetQuery}}}}},
		"peft, ia3": {`{"peft_type": "IA3", "target_modules": ["key", "intermediate.dense"], "feedforward_modules": []}`,
			[]peft.Layer{{peft.IA3{Targets: []peft.Target{peft.TargetKey, peft.TargetFFNIn}}},
				{peft.IA3{Targets: []peft.Target{peft.TargetKey, peft.TargetFFNIn}}}}},
		"adapters, houlsby": {`{"config": {"mh_adapter": true, "output_adapter": true, "non_linearity": "swish", "original_ln_before": false, "reduction_factor": 2}}`,
			[]peft.Layer{{peft.Houlsby{Width: 4, NonLinearity: peft.Swish, Scale: 1}},
				{peft.Houlsby{Width: 4, NonLinearity: peft.Swish, Scale: 1}}}},
		"adapters, gates": {`{"config": {"is_parallel": true, "use_gating": true, "scaling": "learned", "leave_out": [1], ` + adapter + `}}`,
			[]peft.Layer{{peft.Parallel{Width: 4, LearnedScale: true, Gate: true}}, {}}},
		"adapters, mix and match": {`{"config": {"architecture": "union", "configs": [
			{"architecture": "prefix_tuning", "bottleneck_size": 512, "dropout": 0.1, "leave_out": [1]},
			{"mh_adapter": false, "output_adapter": true, "is_parallel": true, "non_linearity": "relu", "scaling": 4.0, "reduction_factor": 2}]}}`,
			[]peft.Layer{{peft.Parallel{Width: 4}, peft.Prefix{Length: 30}}, {peft.Parallel{Width: 4}}}},
	} {
		got, err := importText(t, test.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := diffLayers(t, test.want, got.Layers); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// diffLayers compares layers in their canonical forms.
func diffLayers(t *testing.T, want, got []peft.Layer) string {
	t.Helper()
	text := func(layers []peft.Layer) string {
		out, err := json.MarshalIndent(peft.Plan{Layers: layers}, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	return cmp.Diff(text(want), text(got))
}

func TestWhatAPlanCannotExpressIsNotImported(t *testing.T) {
	for name, test := range map[string]struct{ text, words string }{
		"no JSON":                 {`weights`, "invalid character"},
		"a list":                  {`[]`, "cannot unmarshal array"},
		"another file":            {`{"hidden_size": 8}`, "peft_type"},
		"another method":          {`{"peft_type": "LOHA"}`, `"LOHA"`},
		"a wrong type":            {`{"peft_type": "LORA", "r": "four"}`, "r: json"},
		"rank 0":                  {`{"peft_type": "LORA", "r": 0}`, "lora rank 0"},
		"a huge rank":             {`{"peft_type": "LORA", "r": 9}`, "full rank"},
		"LoRA-GA":                 {`{"peft_type": "LORA", "use_qalora": true}`, "use_qalora"},
		"biases":                  {`{"peft_type": "LORA", "bias": "all"}`, "bias"},
		"a saved encoder":         {`{"peft_type": "LORA", "modules_to_save": ["classifier", "encoder"]}`, "encoder"},
		"unknown modules":         {`{"peft_type": "LORA", "target_modules": ["q_proj"]}`, "q_proj"},
		"targets of a wrong kind": {`{"peft_type": "LORA", "target_modules": 7}`, "target_modules"},
		"no such module":          {`{"peft_type": "LORA", "target_modules": ".*q_proj"}`, "matches no layer"},
		"a lookahead":             {`{"peft_type": "LORA", "target_modules": "(?!x)y"}`, "lookarounds"},
		"a broken pattern":        {`{"peft_type": "LORA", "rank_pattern": {"(": 4}}`, "rank_pattern"},
		"patterns that differ":    {`{"peft_type": "LORA", "rank_pattern": {"query": 4, ".*query": 2}}`, "both"},
		"two ranks in a layer":    {`{"peft_type": "LORA", "rank_pattern": {"query": 4}}`, "one rank and alpha in a layer"},
		"a layer too many":        {`{"peft_type": "LORA", "layers_to_transform": [2]}`, "no layer 2"},
		"layers of another name": {`{"peft_type": "LORA", "layers_to_transform": [1], "layers_pattern": "h"}`,
			"layers_pattern"},
		"another width":        {`{"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 5, "token_dim": 768}`, "width 768"},
		"no tokens":            {`{"peft_type": "PREFIX_TUNING"}`, "num_virtual_tokens 0"},
		"another architecture": {`{"config": {"architecture": "reft"}}`, "reft"},
		"compacter of rank 2": {`{"config": {"mh_adapter": true, ` +
			strings.Replace(compacter, `rank": 1`, `rank": 2`, 1) + `}}`, "phm_rank 1"},
		"compacter, a rule each": {`{"config": {"mh_adapter": true, ` + strings.Replace(compacter, `shared_phm_rule": true`,
			`shared_phm_rule": false`, 1) + `}}`, "shared"},
		"compacter, parallel": {`{"config": {"mh_adapter": false, ` + strings.Replace(compacter, `parallel": false`,
			`parallel": true`, 1) + `}}`, "phm_layer"},
		"an adapter in attention": {`{"config": {` + strings.Replace(adapter, "false", "true", 1) + `}}`, "mh_adapter"},
		"another activation":      {`{"config": {` + strings.Replace(adapter, "relu", "mish", 1) + `}}`, "mish"},
		"another norm": {`{"config": {` + strings.Replace(adapter, `before": true`, `before": false`, 1) + `}}`,
			"original_ln_before"},
		"another scale": {`{"config": {"scaling": "channel", ` + adapter + `}}`, "channel"},
		"shared gates":  {`{"config": {"shared_gating": true, ` + adapter + `}}`, "shared_gating"},
		"a hostile factor": {`{"config": {` + strings.Replace(adapter, `factor": 2`, `factor": 1e-300`, 1) + `}}`,
			"1e-300"},
		"a negative factor": {`{"config": {` + strings.Replace(adapter, `factor": 2`, `factor": -2`, 1) + `}}`,
			"above 0"},
		"width 0": {`{"config": {` + strings.Replace(adapter, `factor": 2`, `factor": 9`, 1) + `}}`,
			"width 0"},
		"a factor too few": {`{"config": {` + strings.Replace(adapter, `factor": 2`, `factor": {"0": 2}`, 1) + `}}`,
			"layer 1"},
		"two in a layer": {`{"config": {"architecture": "union", "configs": [{` + adapter + `}, {` + adapter +
			`}]}}`, "two modules"},
		"an empty union": {`{"config": {"architecture": "union", "configs": []}}`, "empty"},
		"a nested union": {`{"config": {"architecture": "union", "configs": [{"architecture": "union"}]}}`,
			`"union"`},
		"a scaled LoRA": {`{"config": {"architecture": "lora", "composition_mode": "scale"}}`, "scale"},
		"an old LoRA": {`{"version": "adapters.1.0.1", "config": {"architecture": "lora", "r": 4, "alpha": 8}}`,
			"adapters.1.0.1"},
		"a matrix too many": {`{"config": {"architecture": "lora", "r": 4, "attn_matrices": ["q", "o"]}}`, `"o"`},
		"layers left out":   {`{"config": {"architecture": "lora", "r": 4, "leave_out": [7]}}`, "no layer 7"},
		"layers as text":    {`{"config": {"architecture": "lora", "r": 4, "leave_out": ["1"]}}`, "leave_out"},
		"many patterns": {`{"peft_type": "LORA", "rank_pattern": {` + many(`"a%d": 2`, 1001) + `}}`,
			"rank_pattern has 1001 entries"},
		"slow patterns": {`{"peft_type": "LORA", "rank_pattern": {` + many(`"((.{0,20}){0,20}){0,2}%d": 2`, 900) +
			`}}`, "repeat too much"},
		"a long pattern": {`{"peft_type": "LORA", "target_modules": "` + strings.Repeat("x", 5000) + `"}`,
			"has 5006 bytes"},
		"many targets": {`{"peft_type": "LORA", "target_modules": [` + many(`"query%d"`, 1001) + `]}`,
			"target_modules has 1001 entries"},
		"many layers": {`{"peft_type": "LORA", "layers_to_transform": [` + many(`%d`, 1001) + `]}`,
			"layers_to_transform has 1001 entries"},
		"many left out": {`{"config": {"architecture": "lora", "leave_out": [` + many(`%d`, 1001) + `]}}`,
			"leave_out has 1001 entries"},
		"a long name":       {`{"peft_type": "` + strings.Repeat("x", 1<<19) + `"}`, "peft_type"},
		"many unknown keys": {`{"peft_type": "LORA", ` + many(`"key%d": 1`, 10000) + `}`, "bytes)"},
		"a huge file":       {`{"peft_type": "LORA"` + strings.Repeat(" ", 1<<20) + `}`, "more than"},
	} {
		_, err := importText(t, test.text)
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
		bounded(t, err)
	}
	if _, err := peft.Import(filepath.Join(t.TempDir(), "absent"), small); err == nil {
		t.Error("an absent directory was imported")
	}
	setup := filepath.Join(t.TempDir(), "setup")
	if _, err := peft.Export(peft.FormatAdapters, configOnly(peft.Layer{peft.Serial{Width: 2}, peft.Parallel{Width: 2}}),
		setup, peft.Options{}); err != nil {
		t.Fatal(err)
	}
	if p, err := peft.Import(setup, small); err != nil || p.String() != "serial 2 L0 · parallel 2 L0" {
		t.Errorf("a setup that this program wrote is %s: %v", p, err)
	}
	if err := os.Remove(filepath.Join(setup, "plan.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := peft.Import(setup, small); err == nil || !strings.Contains(err.Error(), "setup of several adapters") {
		t.Errorf("a setup: the error is %v", err)
	}
	for words, text := range map[string]string{
		"width 48": `{"hidden_size": 48, "model_type": "bert", "config": {` + adapter + `}}`,
		`"gpt2"`:   `{"hidden_size": 8, "model_type": "gpt2", "config": {` + adapter + `}}`,
	} {
		if _, err := importText(t, text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("an adapter for another backbone: %v", err)
		}
	}
	if _, err := peft.Import(t.TempDir(), small); err == nil || !strings.Contains(err.Error(), "adapter_config.json") {
		t.Errorf("an empty directory: the error is %v", err)
	}
}

// many repeats a format for the numbers from 0, with commas between them.
func many(format string, n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(parts, ",")
}

// FuzzImport checks that whatever is imported is a valid plan.
func FuzzImport(f *testing.F) {
	f.Add(`{"peft_type": "LORA", "r": 4, "rank_pattern": {"layer.1.*": 2}}`)
	f.Add(`{"config": {"architecture": "union", "configs": [{"architecture": "lora"}, {"architecture": "prefix_tuning"}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := importText(t, text)
		bounded(t, err)
		if err == nil && p.Validate(small) != nil {
			t.Errorf("%s became %s", text, p)
		}
	})
}
