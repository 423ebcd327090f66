package model

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"peftsearch/data/checkpoint"
	"peftsearch/data/tokenizer"
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

// Backbone is a pretrained model with frozen weights. It and everything made from it belong to the
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
	config := checkpoint.Config
	bind, ok := families[config.ModelType]
	if !ok {
		return nil, fmt.Errorf("%s: model_type %q is none of %v", checkpoint.Dir, config.ModelType,
			slices.Sorted(maps.Keys(families)))
	}
	if config.Causal && device != torch.CPU {
		return nil, fmt.Errorf("%s: %s, which has a decoder, is computed on the CPU alone, not on %s: set device to cpu",
			checkpoint.Dir, config.ModelType, settings.Device)
	}
	scope := torch.NewScope(device)
	torch.Configure(settings.Threads)
	tensors := map[string]*torch.Tensor{}
	names := checkpoint.Backbone()
	if config.Untied && checkpoint.Has(wordsOut) {
		names = append(names, wordsOut)
	}
	for _, name := range names {
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
	return &Backbone{
		checkpoint: checkpoint,
		geometry:   peft.GeometryOf(checkpoint),
		scope:      scope,
		network: network{
			tensors: tensors,
			config:  config,
			stacks:  peft.GeometryOf(checkpoint).Stacks(),
			dtype:   dtype,
			family:  bind(config, func(name string) *torch.Tensor { return tensors[name] }),
			modules: make([]modules, config.Layers),
		},
	}, nil
}

// Geometry is the shape of the backbone.
func (b *Backbone) Geometry() peft.Geometry { return b.geometry }

// Precision is float32 or bfloat16: what the setting auto became.
func (b *Backbone) Precision() string { return b.network.dtype.String() }

// DType is the element type of hidden states.
func (b *Backbone) DType() torch.DType { return b.network.dtype }

// MaxLength is the longest row in tokens.
func (b *Backbone) MaxLength() int { return b.network.config.MaxLength() }

// BatchTokens is how many tokens the batches that are computed at the same time without gradients should have.
func (b *Backbone) BatchTokens() int { return b.scope.Device().BatchTokens() }

// Scope makes an arena for one batch.
func (b *Backbone) Scope() *torch.Scope { return torch.NewScope(b.scope.Device()) }

// ForwardVersion is raised with every change of what hidden states are computed to, rounding included: it is
// part of the key of those that are kept.
const ForwardVersion = 3

// Frontier is a point of a pass: the hidden states before a step, of the tokens that are still computed
// there. A layer is one or more steps, as its family says; step 0 is the first after the embeddings.
type Frontier struct {
	Step int
	Rows Rows
}

// Hidden is the bare backbone's hidden states at a frontier, without gradients: [tokens, D], or those of
// the frontier's rows alone. Given as Batch.Hidden they replace all that lies below.
func (b *Backbone) Hidden(s *torch.Scope, batch Batch, at Frontier) *torch.Tensor {
	family := b.network.family
	if at.Step < 0 || at.Step > family.steps() || batch.Hidden != nil {
		s.Fail(fmt.Errorf("model: hidden states before step %d of %d from token ids: no such step, or no ids",
			at.Step, family.steps()))
		return nil
	}
	var hidden *torch.Tensor
	torch.NoGrad(func() {
		p, x := b.network.start(s, batch, 0, at.Rows, nil)
		hidden = p.run(x, 0, at.Step)
		if at.Rows == All && p.fill > 0 {
			hidden = s.Narrow(hidden, 0, 0, p.tokens)
		}
	})
	return hidden
}

// Close frees the weights.
func (b *Backbone) Close() { b.scope.Free() }

// Batch is n rows of tokens, one after another without padding.
type Batch struct {
	IDs     []int32 // token ids [tokens]
	TypeIDs []int32 // token types [tokens]; nil for all 0
	Lengths []int   // tokens of each row [n]
	// Marked is the tokens that a head reads, of each row at least one, by ascending index; nil unless it reads
	// Marked.
	Marked [][]int
	// Sequences is how many of the rows each example of a multiple choice has [examples]; nil for one each.
	Sequences []int
	// Spans are ranges of the tokens of each row, all of them marked: a mention and its candidates; nil unless the
	// head reads them.
	Spans [][]tokenizer.Range
	// Hidden, if not nil, replaces what comes before it: hidden states as Backbone.Hidden gives them at the
	// model's Frontier, or at its BareFrontier with so many bare layers as Bare says, of a pass that has as many.
	Hidden *torch.Tensor
	Bare   int
	// Next are the tokens to be written after the marked ones of each row; nil unless they are to be scored.
	Next   [][]int32
	growth *growth // of a generation
}

// validate refuses what libtorch would read out of bounds.
func (b Batch) validate(c checkpoint.Config, rows Rows) error {
	if len(b.Lengths) == 0 {
		return errors.New("model: a batch without rows")
	}
	tokens := 0
	for i, length := range b.Lengths {
		past := 0
		if b.growth != nil && b.growth.cache.lengths != nil {
			past = b.growth.cache.lengths[b.growth.parents[i]]
		}
		if length < 1 || past+length > c.MaxLength() {
			return fmt.Errorf("model: a row of %d tokens: at least 1, at most %d", past+length, c.MaxLength())
		}
		tokens += length
	}
	sequences := 0
	for _, n := range b.Sequences {
		sequences += n
		if n < 1 || sequences > len(b.Lengths) {
			return fmt.Errorf("model: examples of %v rows for %d rows", b.Sequences, len(b.Lengths))
		}
	}
	if b.Sequences != nil && sequences != len(b.Lengths) || b.Spans != nil && len(b.Spans) != len(b.Lengths) {
		return fmt.Errorf("model: examples of %d rows, and spans of %d, for %d rows", sequences, len(b.Spans), len(b.Lengths))
	}
	if rows == Marked {
		if err := b.validateMarked(); err != nil {
			return err
		}
	}
	if b.Hidden != nil && b.IDs == nil {
		return nil
	}
	if len(b.IDs) != tokens || b.TypeIDs != nil && len(b.TypeIDs) != tokens {
		return fmt.Errorf("model: batch with %d ids and %d types for %d tokens", len(b.IDs), len(b.TypeIDs), tokens)
	}
	outside := func(limit int) func(int32) bool {
		return func(id int32) bool { return id < 0 || int(id) >= limit }
	}
	if i := slices.IndexFunc(b.IDs, outside(c.Vocab)); i >= 0 {
		return fmt.Errorf("model: token id %d: the vocabulary has %d; the tokenizer is not this checkpoint's",
			b.IDs[i], c.Vocab)
	}
	if i := slices.IndexFunc(b.TypeIDs, outside(c.Types)); i >= 0 && c.Types > 0 { // without a table nothing reads them
		return fmt.Errorf("model: token type %d: the checkpoint has %d", b.TypeIDs[i], c.Types)
	}
	return nil
}

func (b Batch) validateMarked() error {
	if len(b.Marked) != len(b.Lengths) {
		return fmt.Errorf("model: marked tokens of %d rows for %d rows", len(b.Marked), len(b.Lengths))
	}
	for i, marked := range b.Marked {
		if len(marked) == 0 || !slices.IsSorted(marked) || marked[0] < 0 || marked[len(marked)-1] >= b.Lengths[i] {
			return fmt.Errorf("model: marked tokens %v of a row of %d", marked, b.Lengths[i])
		}
	}
	return nil
}
