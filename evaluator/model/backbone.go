package model

import (
	"fmt"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// Precisions of frozen weights and activations.
const (
	PrecisionAuto     = "auto" // bfloat16 where the device is faster with it
	PrecisionFloat32  = "float32"
	PrecisionBFloat16 = "bfloat16"
)

// Backbone is a pretrained encoder with frozen weights. It and everything made from it belong to the
// goroutine that loaded it, but for what computes with a scope of the caller's and changes no weights:
// that may run on several goroutines at once.
type Backbone struct {
	checkpoint *checkpoint.Checkpoint
	geometry   peft.Geometry
	scope      *torch.Scope
	network    network
}

// Load reads a checkpoint's weights to a device. The checkpoint must stay open while the backbone is in
// use: a model that trains the backbone starts from it.
func Load(checkpoint *checkpoint.Checkpoint, settings evaluator.Settings) (*Backbone, error) {
	device, err := torch.ParseDevice(settings.Device)
	if err != nil {
		return nil, err
	}
	if settings.Threads < 1 {
		return nil, fmt.Errorf("threads %d: at least 1", settings.Threads)
	}
	dtype := torch.Float32
	switch settings.Precision {
	case PrecisionFloat32:
	case PrecisionBFloat16:
		dtype = torch.BFloat16
	case PrecisionAuto:
		if device.FastBFloat16() {
			dtype = torch.BFloat16
		}
	default:
		return nil, fmt.Errorf("precision %q: must be auto, float32 or bfloat16", settings.Precision)
	}
	scope := torch.NewScope(device)
	torch.Configure(settings.Threads)
	tensors := map[string]*torch.Tensor{}
	for _, name := range checkpoint.Backbone() {
		t, err := checkpoint.Tensor(name)
		if err != nil {
			scope.Free()
			return nil, err
		}
		staging := torch.NewScope(device)
		tensors[name] = scope.Clone(staging.To(torch.From(staging, t.Float32(), t.Shape...), dtype))
		scope.Fail(staging.Err())
		staging.Free()
	}
	if err := scope.Err(); err != nil {
		scope.Free()
		return nil, fmt.Errorf("loading %s: %w", checkpoint.Dir, err)
	}
	config := checkpoint.Config
	return &Backbone{
		checkpoint: checkpoint,
		geometry:   peft.GeometryOf(checkpoint),
		scope:      scope,
		network: network{
			config:  config,
			dtype:   dtype,
			weights: bind(config, func(name string) *torch.Tensor { return tensors[name] }),
			modules: make([]modules, config.Layers),
		},
	}, nil
}

// Geometry is the shape of the backbone.
func (b *Backbone) Geometry() peft.Geometry { return b.geometry }

// Precision is float32 or bfloat16: what the setting auto became.
func (b *Backbone) Precision() string { return b.network.dtype.String() }

// MaxLength is the longest row in tokens.
func (b *Backbone) MaxLength() int { return b.network.config.MaxLength() }

// Scope makes an arena for one batch.
func (b *Backbone) Scope() *torch.Scope { return torch.NewScope(b.scope.Device()) }

// Hidden is the bare backbone's hidden states before block layer, without gradients: [n·len, D]. After
// the last block, at layer = Geometry().Layers, it is those of the first tokens: [n, D]. Given as
// Batch.Hidden they replace all that lies below.
func (b *Backbone) Hidden(s *torch.Scope, batch Batch, layer int) *torch.Tensor {
	if layer < 0 || layer > b.geometry.Layers || batch.Hidden != nil {
		s.Fail(fmt.Errorf("model: hidden states before block %d of %d from token ids: no such block, or no ids", layer, b.geometry.Layers))
		return nil
	}
	var hidden *torch.Tensor
	torch.NoGrad(func() {
		p, x := b.network.start(s, batch, 0, nil)
		hidden = p.blocks(x, 0, layer)
	})
	return hidden
}

// Close frees the weights.
func (b *Backbone) Close() { b.scope.Free() }

// Batch is n rows of tokens, padded at their ends to one length.
type Batch struct {
	IDs     []int32 // token ids [n·Len], row by row
	TypeIDs []int32 // token types [n·Len]; nil for all 0
	Lengths []int   // tokens of each row without padding [n], 1 to Len
	Len     int
	// Hidden, if not nil, replaces IDs and TypeIDs: hidden states as Backbone.Hidden gives them at the
	// model's Boundary.
	Hidden *torch.Tensor
}

// validate refuses what libtorch would read out of bounds.
func (b Batch) validate(c checkpoint.Config) error {
	if len(b.Lengths) == 0 || b.Len < 1 || b.Len > c.MaxLength() {
		return fmt.Errorf("model: batch of %d rows of length %d: at least one row of 1 to %d tokens", len(b.Lengths), b.Len, c.MaxLength())
	}
	if low, high := slices.Min(b.Lengths), slices.Max(b.Lengths); low < 1 || high > b.Len {
		return fmt.Errorf("model: batch of length %d with rows of %d to %d tokens", b.Len, low, high)
	}
	if b.Hidden != nil {
		return nil
	}
	size := len(b.Lengths) * b.Len
	if len(b.IDs) != size || b.TypeIDs != nil && len(b.TypeIDs) != size {
		return fmt.Errorf("model: batch with %d ids and %d types for %d tokens", len(b.IDs), len(b.TypeIDs), size)
	}
	outside := func(limit int) func(int32) bool {
		return func(id int32) bool { return id < 0 || int(id) >= limit }
	}
	if i := slices.IndexFunc(b.IDs, outside(c.Vocab)); i >= 0 {
		return fmt.Errorf("model: token id %d: the vocabulary has %d; the tokenizer is not this checkpoint's", b.IDs[i], c.Vocab)
	}
	if i := slices.IndexFunc(b.TypeIDs, outside(c.Types)); i >= 0 {
		return fmt.Errorf("model: token type %d: the checkpoint has %d", b.TypeIDs[i], c.Types)
	}
	return nil
}
