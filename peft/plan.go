package peft

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"peftsearch/data/files"
)

// PlanVersion is the version of the JSON form of a plan.
const PlanVersion = 1

// Geometry is the shape of a backbone, as far as plans depend on it.
type Geometry struct {
	Architecture   string `json:"architecture"`    // model_type of the checkpoint, e.g. "bert"
	Layers         int    `json:"layers"`          // number of transformer blocks
	Hidden         int    `json:"hidden"`          // width of the residual stream
	FFN            int    `json:"ffn"`             // width of the feed-forward part
	Heads          int    `json:"heads"`           // attention heads; divides Hidden
	BackboneParams int64  `json:"backbone_params"` // all weights of the backbone, without any head
}

// SameShape reports whether every plan for one backbone is a plan for the other, of the same size.
func (g Geometry) SameShape(other Geometry) bool {
	return g.Layers == other.Layers && g.Hidden == other.Hidden && g.FFN == other.FFN && g.Heads == other.Heads
}

// Plan lists the modules of every layer. It is a value: methods never change it, and copies share
// nothing that is written to.
type Plan struct {
	Layers []Layer // exactly one entry per backbone layer
}

// Layer holds the modules of one layer; nil means absent.
type Layer struct {
	Serial   *Adapter `json:"serial,omitempty"`
	Parallel *Adapter `json:"parallel,omitempty"`
	Prefix   *Prefix  `json:"prefix,omitempty"`
	LoRA     *LoRA    `json:"lora,omitempty"`
}

// Empty reports whether the layer has no module.
func (l Layer) Empty() bool {
	return l.Serial == nil && l.Parallel == nil && l.Prefix == nil && l.LoRA == nil
}

// Empty reports whether no layer has a module, so that only the head is trained.
func (p Plan) Empty() bool { return p.LowestLayer() == len(p.Layers) }

// LowestLayer is the index of the lowest layer with a module, or len(p.Layers) if there is none.
// Everything below it computes the same hidden states as the bare backbone.
func (p Plan) LowestLayer() int {
	for i, layer := range p.Layers {
		if !layer.Empty() {
			return i
		}
	}
	return len(p.Layers)
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
	for i, layer := range p.Layers {
		for _, err := range []error{
			layer.Serial.validate("serial"), layer.Parallel.validate("parallel"),
			layer.Prefix.validate(), layer.LoRA.validate(g),
		} {
			if err != nil {
				errs = append(errs, fmt.Errorf("layer %d: %w", i, err))
			}
		}
	}
	return errors.Join(errs...)
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

type planJSON struct {
	Version int     `json:"version"`
	Layers  []Layer `json:"layers"`
}

// MarshalJSON writes the canonical form: keys in a fixed order, LoRA targets sorted.
func (p Plan) MarshalJSON() ([]byte, error) {
	layers := make([]Layer, len(p.Layers))
	for i, layer := range p.Layers {
		if layer.LoRA != nil {
			canonical := layer.LoRA.canonical()
			layer.LoRA = &canonical
		}
		layers[i] = layer
	}
	return json.Marshal(planJSON{Version: PlanVersion, Layers: layers})
}

// UnmarshalJSON reads a plan; unknown keys, another version and missing layers are errors.
func (p *Plan) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var raw planJSON
	if err := decoder.Decode(&raw); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if raw.Version != PlanVersion {
		return fmt.Errorf("plan: version %d, this program reads version %d", raw.Version, PlanVersion)
	}
	if raw.Layers == nil {
		return errors.New(`plan: "layers" is missing`)
	}
	p.Layers = raw.Layers
	return nil
}

// ReadPlan reads a file with one plan in JSON, and nothing else.
func ReadPlan(path string) (Plan, error) {
	var p Plan
	err := files.ReadJSON(path, files.Document, &p)
	return p, err
}

// String describes the plan in a line: each module with its size and the layers that share it, as in
// "serial 24 L0-5 · lora r8 L0,2". A plan without modules is "head only".
func (p Plan) String() string {
	var order []string
	where := map[string][]int{}
	add := func(label string, layer int) {
		if where[label] == nil {
			order = append(order, label)
		}
		where[label] = append(where[label], layer)
	}
	for _, name := range Methods {
		for i, layer := range p.Layers {
			switch {
			case name == MethodSerial && layer.Serial != nil:
				add(fmt.Sprintf("serial %d", layer.Serial.Width), i)
			case name == MethodParallel && layer.Parallel != nil:
				add(fmt.Sprintf("parallel %d", layer.Parallel.Width), i)
			case name == MethodPrefix && layer.Prefix != nil:
				add(fmt.Sprintf("prefix %d", layer.Prefix.Length), i)
			case name == MethodLoRA && layer.LoRA != nil:
				add(fmt.Sprintf("lora r%d", layer.LoRA.Rank), i)
			}
		}
	}
	if len(order) == 0 {
		return "head only"
	}
	parts := make([]string, len(order))
	for i, label := range order {
		parts[i] = label + " L" + ranges(where[label])
	}
	return strings.Join(parts, " · ")
}

// ranges writes ascending integers briefly: 0,1,2,5 is "0-2,5".
func ranges(values []int) string {
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
