package peft

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// peftTypes: DoRA is a LORA with use_dora.
func (LoRA) peftTypes() []string { return []string{"LORA"} }

func (LoRA) importPEFT(s settings, p *Plan, g Geometry) error {
	rank, alpha, bias, rankStabilised, isDoRA := 8, 8.0, "none", false, false
	ranks, alphas := map[string]int{}, map[string]float64{}
	var targets, layers, layerNames json.RawMessage
	if err := s.takeAll(map[string]any{"r": &rank, "lora_alpha": &alpha, "bias": &bias, "use_rslora": &rankStabilised,
		"use_dora":     &isDoRA,
		"rank_pattern": &ranks, "alpha_pattern": &alphas, "target_modules": &targets, "layers_to_transform": &layers,
		"layers_pattern": &layerNames}); err != nil {
		return err
	}
	if bias != "none" {
		return fmt.Errorf("bias is %.40q: a plan trains no biases of the backbone", bias)
	}
	if err := s.rest(append(peftRecords, "init_lora_weights", "lora_dropout", "megatron_core", "qalora_group_size",
		"eva_config", "corda_config", "lora_ga_config")...); err != nil {
		return err
	}
	selected, err := selectModules(targets, layers, layerNames, g)
	if err != nil {
		return err
	}
	rankOf, err := compilePatterns("rank_pattern", ranks)
	if err != nil {
		return err
	}
	alphaOf, err := compilePatterns("alpha_pattern", alphas)
	if err != nil {
		return err
	}
	for i := range p.Layers {
		for _, target := range Targets {
			if !selected(i, target) {
				continue
			}
			path := families[g.Architecture].backbone + "." + g.path(i, target)
			r, err := rankOf(path, rank)
			if err != nil {
				return err
			}
			a, err := alphaOf(path, alpha)
			if err != nil {
				return err
			}
			if rankStabilised { // the scale is alpha/√rank
				a *= math.Sqrt(float64(r))
			}
			lora, ok := Find[LoRA](p.Layers[i])
			if !ok {
				lora = LoRA{Rank: r, Alpha: a}
			}
			if lora.Rank != r || lora.Alpha != a {
				return fmt.Errorf("layer %d has LoRA of rank %d, alpha %g and of rank %d, alpha %g: a plan has one rank and "+
					"alpha in a layer",
					i, lora.Rank, lora.Alpha, r, a)
			}
			lora.Targets = append(lora.Targets, target)
			p.Layers[i] = p.Layers[i].With(lora)
		}
		if lora, ok := Find[LoRA](p.Layers[i]); ok && isDoRA {
			p.Layers[i] = Layer{DoRA{Rank: lora.Rank, Alpha: lora.Alpha, Targets: lora.Targets}}
		}
	}
	return nil
}

func (LoRA) architectures() []string { return []string{"lora"} }

func (LoRA) importAdapters(s settings, _ Geometry) (func(int) (Module, error), error) {
	rank, alpha, mode, matrices := 8, 8.0, "add", []string{"q", "v"}
	attention, in, out, gate := true, false, false, false
	if err := s.takeAll(map[string]any{"r": &rank, "alpha": &alpha, "composition_mode": &mode, "attn_matrices": &matrices,
		"selfattn_lora": &attention, "intermediate_lora": &in, "output_lora": &out, "use_gating": &gate}); err != nil {
		return nil, err
	}
	if mode != "add" {
		return nil, fmt.Errorf("composition_mode %.40q: a plan's LoRA adds to the weights", mode)
	}
	if err := s.rest("dropout", "dtype", "init_weights", "init_weights_seed"); err != nil {
		return nil, err
	}
	var targets []Target
	if attention {
		for _, target := range []Target{TargetQuery, TargetKey, TargetValue} {
			if slices.Contains(matrices, string(target)[:1]) {
				targets = append(targets, target)
			}
		}
		for _, m := range matrices {
			if !slices.Contains([]string{"q", "k", "v"}, m) {
				return nil, fmt.Errorf("attn_matrices: %.40q is none of q, k, v", m)
			}
		}
	}
	if in {
		targets = append(targets, TargetFFNIn)
	}
	if out {
		targets = append(targets, TargetFFNOut)
	}
	return func(int) (Module, error) {
		return LoRA{Rank: rank, Alpha: alpha, Targets: slices.Clone(targets), Gate: gate}, nil
	}, nil
}
