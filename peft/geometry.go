package peft

import (
	"errors"
	"fmt"
	"strconv"

	"peftsearch/data/checkpoint"
)

// Bounds of backbones and plans, far above what is trained, so that every count fits into an int64.
const (
	MaxLayers  = 4096    // of a backbone
	MaxSize    = 1 << 20 // of a width of the backbone, an adapter's width and a prefix's length
	maxWeights = 1 << 60 // of a backbone
)

// Validate reports every way in which the geometry cannot be that of a backbone.
func (g Geometry) Validate() error {
	var errs []error
	check := func(name string, value, least, most int64) {
		if value < least || value > most {
			errs = append(errs, fmt.Errorf("the backbone's %s %d: must be between %d and %d", name, value, least, most))
		}
	}
	check("layers", int64(g.Layers), 1, MaxLayers)
	check("hidden width", int64(g.Hidden), 1, MaxSize)
	check("feed-forward width", int64(g.FFN), 1, MaxSize)
	check("parameters", g.BackboneParams, 0, maxWeights)
	check("decoder's layers", int64(g.DecoderLayers), 0, int64(max(0, g.Layers-1)))
	check("width of attention", int64(g.Attention), 0, MaxSize)
	return errors.Join(errs...)
}

// Differences names what another backbone has otherwise, as "layers: 12 → 6".
func (g Geometry) Differences(other Geometry) (out []string) {
	for _, d := range []struct {
		name     string
		one, two any
	}{
		{"architecture", strconv.Quote(g.Architecture), strconv.Quote(other.Architecture)},
		{"layers", g.Layers, other.Layers},
		{"layers of the decoder", g.DecoderLayers, other.DecoderLayers},
		{"hidden width", g.Hidden, other.Hidden},
		{"feed-forward width", g.FFN, other.FFN},
		{"attention heads", g.Heads, other.Heads},
		{"width of attention", g.AttentionWidth(), other.AttentionWidth()},
		{"gates of the feed-forward part", g.Gated, other.Gated},
		{"parameters of the backbone", g.BackboneParams, other.BackboneParams},
	} {
		if d.one != d.two {
			out = append(out, fmt.Sprintf("%s: %v → %v", d.name, d.one, d.two))
		}
	}
	return out
}

// Stack is the encoder or the decoder of a backbone.
type Stack struct {
	Name   string // encoder or decoder
	First  int    // index of its lowest layer among all
	Layers int
	Causal bool // tokens see only those before them
	Cross  bool // its layers also attend to the encoder's output
}

// Stacks lists the backbone's stacks from the input up.
func (g Geometry) Stacks() []Stack {
	if g.Architecture == checkpoint.GPT2 {
		return []Stack{{Name: "decoder", Layers: g.Layers, Causal: true}}
	}
	encoder := Stack{Name: "encoder", Layers: g.Layers - g.DecoderLayers}
	if g.DecoderLayers == 0 {
		return []Stack{encoder}
	}
	return []Stack{encoder, {Name: "decoder", First: encoder.Layers, Layers: g.DecoderLayers, Causal: true, Cross: true}}
}

// AttentionWidth is the width of queries, keys and values of all heads together.
func (g Geometry) AttentionWidth() int {
	if g.Attention == 0 {
		return g.Hidden
	}
	return g.Attention
}

// causal reports whether the backbone is a decoder alone.
func (g Geometry) causal() bool { return g.Stacks()[0].Causal }

// encoder reports whether the backbone is an encoder alone.
func (g Geometry) encoder() bool { return len(g.Stacks()) == 1 && !g.causal() }

// Stack is the one that a layer belongs to.
func (g Geometry) Stack(layer int) Stack {
	stacks := g.Stacks()
	for _, s := range stacks {
		if layer < s.First+s.Layers {
			return s
		}
	}
	return stacks[len(stacks)-1]
}

// GeometryOf is the geometry of a checkpoint. BackboneParams counts embeddings and encoder, without
// the pooler and any head.
func GeometryOf(c *checkpoint.Checkpoint) Geometry {
	g := Geometry{Architecture: c.Config.ModelType, Layers: c.Config.Layers, Hidden: c.Config.Hidden,
		FFN: c.Config.FFN, Heads: c.Config.Heads, BackboneParams: c.BackboneParams(),
		DecoderLayers: c.Config.DecoderLayers, Gated: c.Config.Gated}
	if width := c.Config.AttentionWidth(); width != g.Hidden {
		g.Attention = width
	}
	return g
}
