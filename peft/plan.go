package peft

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Geometry is the shape of a backbone, as far as plans depend on it.
type Geometry struct {
	Architecture   string `json:"architecture"`    // model_type of the checkpoint, e.g. "bert"
	Layers         int    `json:"layers"`          // number of transformer blocks
	Hidden         int    `json:"hidden"`          // width of the residual stream
	FFN            int    `json:"ffn"`             // width of the feed-forward part
	Heads          int    `json:"heads"`           // attention heads
	BackboneParams int64  `json:"backbone_params"` // all weights of the backbone, without any head

	// Of those with an encoder and a decoder.
	DecoderLayers int  `json:"decoder_layers,omitempty"` // how many of the layers are the decoder's
	Attention     int  `json:"attention,omitempty"`      // width of queries, keys and values; 0 for Hidden
	Gated         bool `json:"gated,omitempty"`          // the feed-forward part has gates
}

// SameShape reports whether every plan for one backbone is a plan for the other, of the same size.
func (g Geometry) SameShape(other Geometry) bool {
	return g.Layers == other.Layers && g.Hidden == other.Hidden && g.FFN == other.FFN && g.Heads == other.Heads &&
		g.DecoderLayers == other.DecoderLayers && g.AttentionWidth() == other.AttentionWidth()
}

// Plan lists the modules of a backbone, by the place where they are. It is a value: methods never change it, and copies
// share nothing that is written to.
type Plan struct {
	Input  Layer   // modules at the input
	Layers []Layer // exactly one entry per layer of the backbone, an encoder's before a decoder's
}

// Layer holds the modules of one place, at most one of each method, in any order.
type Layer []Module

// Module is the layer's module of a method, nil if it has none.
func (l Layer) Module(m Method) Module {
	for _, module := range l {
		if module.Method() == m {
			return module
		}
	}
	return nil
}

// Find is the layer's module of one type; ok is false if it has none.
func Find[M Module](l Layer) (module M, ok bool) {
	for _, m := range l {
		if module, ok := m.(M); ok {
			return module, true
		}
	}
	return module, false
}

// With is the layer with a module in place of its own of that method.
func (l Layer) With(module Module) Layer { return append(l.Without(module.Method()), module) }

// Without is the layer without its module of a method.
func (l Layer) Without(m Method) Layer {
	var rest Layer
	for _, module := range l {
		if module.Method() != m {
			rest = append(rest, module)
		}
	}
	return rest
}

// Part is the first part that the layer's modules change; ok is false for a layer without modules.
func (l Layer) Part() (part Part, ok bool) {
	for i, module := range l {
		if p := module.Part(); i == 0 || p < part {
			part = p
		}
	}
	return part, len(l) > 0
}

// sorted has the modules in the table's order, in canonical form.
func (l Layer) sorted() Layer {
	var out Layer
	for _, m := range Methods {
		if module := l.Module(m); module != nil {
			out = append(out, module.canonical())
		}
	}
	return out
}

// Empty reports whether there is no module, so that only the head is trained.
func (p Plan) Empty() bool { return len(p.Input) == 0 && p.LowestLayer() == len(p.Layers) }

// LowestLayer is the index of the lowest layer with a module, or len(p.Layers) if there is none.
// Everything below it computes the same hidden states as the bare backbone, unless the input has modules.
func (p Plan) LowestLayer() int {
	for i, layer := range p.Layers {
		if len(layer) > 0 {
			return i
		}
	}
	return len(p.Layers)
}

// any is one of the plan's modules of a method, nil if there is none.
func (p Plan) any(m Method) Module {
	for _, at := range p.places() {
		if module := at.Module(m); module != nil {
			return module
		}
	}
	return nil
}

// place is a set of modules and where they are.
type place struct {
	name  string // begins the names of its tensors, as in "layers.3."
	title string // for messages
	input bool
	layer int
	Layer
}

// places are the input and the layers.
func (p Plan) places() []place {
	list := []place{{name: "input.", title: "input", input: true, Layer: p.Input}}
	for i, layer := range p.Layers {
		list = append(list, place{name: fmt.Sprintf("layers.%d.", i), title: fmt.Sprintf("layer %d", i), layer: i,
			Layer: layer})
	}
	return list
}

// Without is the plan with the lowest so many layers bare.
func (p Plan) Without(lowest int) Plan {
	return Plan{Input: p.Input, Layers: append(make([]Layer, lowest), p.Layers[lowest:]...)}
}

// Validate reports every way in which the plan does not fit the backbone. What it accepts can be counted, stored and
// trained without any number overflowing.
func (p Plan) Validate(g Geometry) error {
	if err := g.Validate(); err != nil {
		return err
	}
	if len(p.Layers) != g.Layers {
		return fmt.Errorf("the plan has %d layers, the backbone %d", len(p.Layers), g.Layers)
	}
	var errs []error
	for _, at := range p.places() {
		for _, err := range at.validate(g) {
			errs = append(errs, fmt.Errorf("%s: %w", at.title, err))
		}
	}
	return errors.Join(errs...)
}

func (at place) validate(g Geometry) (errs []error) {
	stack := g.Stack(at.layer)
	for i, module := range at.Layer {
		m := module.Method()
		switch {
		case slices.ContainsFunc(at.Layer[:i], func(other Module) bool { return other.Method() == m }):
			errs = append(errs, fmt.Errorf("%s stands twice", m))
		case m.Input() != at.input && at.input:
			errs = append(errs, fmt.Errorf("%s belongs into layers", m))
		case m.Input() != at.input:
			errs = append(errs, fmt.Errorf("%s belongs to the input", m))
		default:
			if err := module.validate(g, stack); err != nil {
				errs = append(errs, err)
			}
			errs = append(errs, at.overlaps(module, at.Layer[:i])...)
		}
	}
	return errs
}

// replaces is a module that makes another matrix of each target: a matrix has one such module.
type replaces interface{ Replaced() []Target }

func (at place) overlaps(module Module, others Layer) (errs []error) {
	mine, ok := module.(replaces)
	for _, other := range others {
		theirs, both := other.(replaces)
		if !ok || !both {
			continue
		}
		for _, target := range mine.Replaced() {
			if slices.Contains(theirs.Replaced(), target) {
				errs = append(errs, fmt.Errorf("%s has %s and %s: leave one of them out there", target, other.Method(),
					module.Method()))
			}
		}
	}
	return errs
}

// Key identifies what the plan computes: two plans have the same key exactly if they have the same
// modules. It is the first 128 bits of a SHA-256, in hexadecimal.
func (p Plan) Key() string {
	canonical, err := json.Marshal(p)
	if err != nil {
		panic(err) // a plan holds only integers, finite floats and strings
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:16])
}

// LayerRanges writes ascending integers briefly: 0,1,2,5 is "0-2,5".
func LayerRanges(values []int) string {
	var parts []string
	for i := 0; i < len(values); {
		j := i
		for j+1 < len(values) && values[j+1] == values[j]+1 {
			j++
		}
		part := strconv.Itoa(values[i])
		if j > i {
			part += "-" + strconv.Itoa(values[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}
