package peft

import "peftsearch/data"

// GeometryOf reads the geometry of a checkpoint. BackboneParams counts the embeddings and the encoder;
// a pooler and pretraining heads, which not every checkpoint has, are left out.
func GeometryOf(c *data.Checkpoint) Geometry {
	return Geometry{
		Architecture: c.Config.ModelType, Layers: c.Config.Layers, Hidden: c.Config.Hidden,
		FFN: c.Config.FFN, Heads: c.Config.Heads, BackboneParams: c.BackboneParams(),
	}
}
