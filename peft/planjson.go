package peft

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"peftsearch/data/files"
	"peftsearch/data/quote"
)

// PlanVersion is the newest version of the JSON form of a plan. Version 1 has the methods serial, parallel, prefix and
// LoRA, in layers. A plan is written in the oldest version that can express it, so that its key stays what it was.
const PlanVersion = 2

type planJSON struct {
	Version int     `json:"version"`
	Input   Layer   `json:"input,omitempty"`
	Layers  []Layer `json:"layers"`
}

// version is the oldest version that can express the plan.
func (p Plan) version() int {
	version := 1
	for _, at := range p.places() {
		for _, module := range at.Layer {
			version = max(version, module.version())
		}
	}
	return version
}

// MarshalJSON writes the canonical form: keys in a fixed order, modules in theirs.
func (p Plan) MarshalJSON() ([]byte, error) {
	layers := p.Layers
	if layers == nil {
		layers = []Layer{}
	}
	return json.Marshal(planJSON{Version: p.version(), Input: p.Input, Layers: layers})
}

// UnmarshalJSON reads a plan; unknown keys, another version and missing layers are errors.
func (p *Plan) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var raw planJSON
	if err := decoder.Decode(&raw); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if raw.Version < 1 || raw.Version > PlanVersion {
		return fmt.Errorf("plan: version %d, this program reads versions 1 to %d", raw.Version, PlanVersion)
	}
	if raw.Layers == nil {
		return errors.New(`plan: "layers" is missing`)
	}
	read := Plan{Input: raw.Input, Layers: raw.Layers}
	if needs := read.version(); needs > raw.Version {
		return fmt.Errorf(`plan: version %d does not have all of its modules: write "version": %d`, raw.Version, needs)
	}
	*p = read
	return nil
}

// MarshalJSON writes an object of modules by their methods.
func (l Layer) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, module := range l.sorted() {
		if i > 0 {
			b.WriteByte(',')
		}
		value, err := json.Marshal(module)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%q:%s", module.Method(), value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads an object of modules; null is none.
func (l *Layer) UnmarshalJSON(data []byte) error {
	var raw map[Method]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	*l = nil
	for _, m := range slices.Sorted(maps.Keys(raw)) {
		row, ok := m.row()
		if !ok {
			return fmt.Errorf("there is no method %s: the methods are %s", quote.Text(string(m)), methodNames())
		}
		if string(raw[m]) == "null" {
			continue
		}
		module, err := row.decode(raw[m])
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		*l = append(*l, module)
	}
	*l = l.sorted()
	return nil
}

func methodNames() string {
	names := make([]string, len(Methods))
	for i, m := range Methods {
		names[i] = string(m)
	}
	return strings.Join(names, ", ")
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
	var parts []string
	for _, module := range p.Input.sorted() {
		parts = append(parts, module.String())
	}
	for _, m := range Methods {
		var order []string
		where := map[string][]int{}
		for i, layer := range p.Layers {
			module := layer.Module(m)
			if module == nil {
				continue
			}
			label := module.String()
			if where[label] == nil {
				order = append(order, label)
			}
			where[label] = append(where[label], i)
		}
		for _, label := range order {
			parts = append(parts, label+" L"+LayerRanges(where[label]))
		}
	}
	if len(parts) == 0 {
		return "head only"
	}
	return strings.Join(parts, " · ")
}
