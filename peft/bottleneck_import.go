package peft

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// architectures: a bottleneck says none.
func (Serial) architectures() []string { return []string{""} }

// importAdapters takes the configurations that compute what [Serial], [Parallel], [Houlsby] and [Compacter] say.
func (Serial) importAdapters(s settings, g Geometry) (func(int) (Module, error), error) {
	var attention, output, parallel, before, gate bool
	after, residual, activation := true, true, ""
	var factor, scaling json.RawMessage
	if err := s.takeAll(map[string]any{"mh_adapter": &attention, "output_adapter": &output, "is_parallel": &parallel,
		"original_ln_before": &before, "original_ln_after": &after, "residual_before_ln": &residual, "scaling": &scaling,
		"non_linearity": &activation, "reduction_factor": &factor, "use_gating": &gate}); err != nil {
		return nil, err
	}
	compact, err := importCompacter(s)
	if err != nil {
		return nil, err
	}
	common := Bottleneck{NonLinearity: NonLinearity(activation), Scale: 1, Gate: gate}
	if scaling != nil && string(scaling) != "null" {
		if string(scaling) == `"learned"` {
			common.Scale, common.LearnedScale = 0, true
		} else if err := json.Unmarshal(scaling, &common.Scale); err != nil {
			return nil, fmt.Errorf("scaling %.40s: must be a number or learned", scaling)
		}
	}
	switch {
	case !output:
		return nil, errors.New("output_adapter is false: a plan has adapters after the feed-forward part, or after both " +
			"parts")
	case activation == "":
		return nil, errors.New("non_linearity is missing")
	case attention && (parallel || before):
		return nil, errors.New("mh_adapter: a plan has serial adapters after both parts, without original_ln_before")
	case compact && parallel:
		return nil, errors.New("phm_layer: a plan's parallel adapters have whole matrices")
	case !after || !residual && !parallel || !parallel && !attention && !before:
		return nil, errors.New("original_ln_before, original_ln_after, residual_before_ln: a plan's adapters have all " +
			"three true")
	}
	if err := s.rest("adapter_residual_before_ln", "cross_adapter", "dropout", "factorized_phm_W",
		"hypercomplex_nonlinearity",
		"init_weights", "init_weights_seed", "inv_adapter_reduction_factor", "learn_phm", "phm_bias", "phm_c_init", "phm_dim",
		"phm_init_range", "phm_rank", "shared_phm_rule", "stochastic_depth"); err != nil {
		return nil, err
	}
	var factors map[string]float64
	if json.Unmarshal(factor, &factors) != nil {
		var one float64
		if err := json.Unmarshal(factor, &one); err != nil {
			return nil, errors.New("reduction_factor: must be a number or a number for each layer")
		}
		factors = map[string]float64{"default": one}
	}
	return func(layer int) (Module, error) {
		factor, ok := factors[strconv.Itoa(layer)]
		if !ok {
			if factor, ok = factors["default"]; !ok {
				return nil, errors.New("reduction_factor has neither this layer nor a default")
			}
		}
		if !(factor > 0) {
			return nil, fmt.Errorf("reduction_factor %g: must be above 0", factor)
		}
		width := floorDivide(float64(g.Hidden), factor)
		if width < 1 || width > maxImportedSize {
			return nil, fmt.Errorf("reduction_factor %g makes an adapter of width %g", factor, width)
		}
		own := common
		own.Width = int(width)
		switch {
		case compact:
			return Compacter{own, !attention}, nil
		case attention:
			return Houlsby(own), nil
		case parallel:
			return Parallel(own), nil
		}
		return Serial(own), nil
	}, nil
}

// floorDivide is Python's a // b for positive numbers, which is not always ⌊a/b⌋.
func floorDivide(a, b float64) float64 {
	quotient := (a - math.Mod(a, b)) / b
	return math.Round(quotient)
}
