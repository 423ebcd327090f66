package peft

import (
	"errors"
	"fmt"

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
	return errors.Join(errs...)
}

// GeometryOf is the geometry of a checkpoint. BackboneParams counts embeddings and encoder, without
// the pooler and any head.
func GeometryOf(c *checkpoint.Checkpoint) Geometry {
	return Geometry{Architecture: c.Config.ModelType, Layers: c.Config.Layers, Hidden: c.Config.Hidden,
		FFN: c.Config.FFN, Heads: c.Config.Heads, BackboneParams: c.BackboneParams()}
}
