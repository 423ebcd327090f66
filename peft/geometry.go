package peft

import "peftsearch/data/checkpoint"

// GeometryOf is the geometry of a checkpoint. BackboneParams counts embeddings and encoder, without
// the pooler and any head.
func GeometryOf(c *checkpoint.Checkpoint) Geometry {
	return Geometry{Architecture: c.Config.ModelType, Layers: c.Config.Layers, Hidden: c.Config.Hidden,
		FFN: c.Config.FFN, Heads: c.Config.Heads, BackboneParams: c.BackboneParams()}
}
