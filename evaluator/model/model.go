package model

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"peftsearch/data"
	"peftsearch/data/checkpoint"
	"peftsearch/evaluator"
	"peftsearch/evaluator/torch"
	"peftsearch/peft"
)

// Spec says what a model is.
type Spec struct {
	Plan     peft.Plan
	Task     data.Kind          // decides the head
	Head     evaluator.Head     // the form of its layer
	Outputs  int                // numbers for each of its decisions
	Training evaluator.Training // how it is trained; the schedule and the batches are the caller's
	Seed     uint64             // fixes the initialisation, the dropout and which layers are bare
	// PromptText is the tokens that a prompt begins as, for Training.Methods.Prompt.
	PromptText []int32
	// Shared are plans whose modules the model has beside those of Plan, of each as much as the largest needs, for Slice.
	Shared []peft.Plan
}

// Model is a backbone with a plan's modules and a head, and the optimiser that trains them.
type Model struct {
	spec       Spec
	backbone   *Backbone
	scope      *torch.Scope
	network    network
	head       head
	parameters parameters
	optimizer  *torch.AdamW
	factors    *torch.Tensor // of the learning rate, by element of the master; nil if all are 1
}

// New makes a model with freshly initialised modules and head. The error is a *evaluator.Failure if the
// plan does not fit the backbone.
func New(b *Backbone, spec Spec) (*Model, error) {
	if err := spec.Plan.Validate(b.geometry); err != nil {
		return nil, &evaluator.Failure{Kind: evaluator.FailureInvalidPlan, Message: err.Error()}
	}
	if err := b.geometry.Reads(spec.Task); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if spec.Outputs < 1 {
		return nil, fmt.Errorf("model: %d outputs: at least 1", spec.Outputs)
	}
	t := spec.Training
	if !(t.Dropout >= 0 && t.Dropout < 1) || t.PrefixMLP < 0 {
		return nil, fmt.Errorf("model: dropout %g and prefix_mlp %d: dropout is at least 0 and below 1, "+
			"prefix_mlp at least 0", t.Dropout, t.PrefixMLP)
	}
	m := &Model{spec: spec, backbone: b, network: b.network}
	if spec.Task.Writes() {
		if err := m.network.checkWriter(spec); err != nil {
			return nil, err
		}
	}
	if err := m.network.declare(&m.parameters, b, spec); err != nil {
		return nil, err
	}
	if err := m.declareShared(spec.Shared); err != nil {
		return nil, err
	}
	var err error
	if m.head, err = declareHead(&m.parameters, spec.Task, m.headForm(), b.geometry.Hidden, spec.Outputs); err != nil {
		return nil, err
	}
	if t.Pooler {
		if err := m.beginWithPooler(); err != nil {
			return nil, err
		}
	}
	if t.Backbone {
		if m.network.trained, err = declareBackbone(&m.parameters, b.checkpoint); err != nil {
			return nil, err
		}
	}
	m.scope = b.Scope()
	m.parameters.build(m.scope, b.network.dtype, spec.Seed)
	m.network.bind()
	var bare func(step int) int
	if m.MostBare() > 0 {
		bare = m.Bare
	}
	m.optimizer = torch.NewAdamW(m.scope, m.parameters.master, m.parameters.groups(bare), t.WeightDecay, t.MaxGradNorm)
	if factors := m.parameters.factors(t); factors != nil {
		m.factors = torch.From(m.scope, factors, len(factors))
	}
	if err := m.scope.Err(); err != nil {
		m.Close()
		return nil, fmt.Errorf("making the model of %v: %w", spec.Plan, err)
	}
	return m, nil
}

// headForm is the head that the Spec asks for. Full fine-tuning has its dropout where transformers' classes have it.
func (m *Model) headForm() headForm {
	form := headForm{Head: m.spec.Head}
	if m.spec.Training.Pooler {
		form.Head = evaluator.HeadDense
	}
	if m.spec.Training.Backbone {
		switch m.network.config.ModelType {
		case checkpoint.T5, checkpoint.MT5: // with a probability of its own there, which is 0
		default:
			form.dropDense, form.dropLast = !m.hasPooler(), m.network.config.ModelType != checkpoint.GPT2
		}
	}
	return form
}

// hasPooler reports whether the dense head's first layer is the backbone's pooler in transformers' class for the task,
// if that has one: BERT's classes, and those for multiple choice.
func (m *Model) hasPooler() bool {
	return m.network.config.ModelType == checkpoint.BERT || m.spec.Task == data.KindMultipleChoice
}

// beginWithPooler makes the first layer of the head begin as the checkpoint's pooler, if it is one and the checkpoint
// has it.
func (m *Model) beginWithPooler() error {
	if !m.hasPooler() {
		return nil
	}
	for _, p := range m.parameters.list {
		kind, ok := strings.CutPrefix(p.name, "head.dense.")
		name := "pooler.dense." + kind
		if !ok || !m.backbone.checkpoint.Has(name) {
			continue
		}
		t, err := m.backbone.checkpoint.Tensor(name)
		if err != nil {
			return err
		}
		if slices.Equal(t.Shape, p.shape) {
			p.init = given(t.Float32())
		}
	}
	return nil
}

// declareBackbone adds every weight of the backbone, by its name in the checkpoint.
func declareBackbone(ps *parameters, checkpoint *checkpoint.Checkpoint) (map[string]*parameter, error) {
	trained := map[string]*parameter{}
	for _, name := range checkpoint.Backbone() {
		t, err := checkpoint.Tensor(name)
		if err != nil {
			return nil, err
		}
		traits := decay
		if strings.Contains(name, "bias") || strings.Contains(name, "LayerNorm") { // as transformers' Trainer has it
			traits = 0
		}
		trained[name] = ps.declare("backbone."+name, given(t.Float32()), traits, t.Shape...)
	}
	return trained, nil
}

// Close frees the model's tensors; the backbone stays.
func (m *Model) Close() { m.scope.Free() }

// Scope makes an arena for one batch.
func (m *Model) Scope() *torch.Scope { return m.backbone.Scope() }

// Frontier is the point below which nothing is trained, so that the hidden states there are the same in
// every pass and may be given as Batch.Hidden. Its step is 0 if there is no such point above the input: in
// training with dropout in the backbone, and with a trained backbone or modules at the input.
func (m *Model) Frontier(training bool) Frontier { return m.frontier(training, 0) }

// BareFrontier is Frontier in training steps with the lowest so many layers bare.
func (m *Model) BareFrontier(bare int) Frontier { return m.frontier(true, bare) }

func (m *Model) frontier(training bool, bare int) Frontier {
	if t := m.spec.Training; t.Backbone || len(m.spec.Plan.Input) > 0 || training && t.Dropout > 0 {
		return Frontier{}
	}
	at := Frontier{Step: m.network.family.frontier(m.spec.Plan.Without(bare))}
	if at.Step > m.network.lastMixing() {
		at.Rows = m.rows()
	}
	return at
}

// rows is what the head reads. What it reads of a row's first token, which sees the whole row in an encoder, it reads
// of the last where tokens see only those before them.
func (m *Model) rows() Rows {
	if rows := m.head.rows(); rows != First || !m.network.config.Causal {
		return rows
	}
	return Last
}

// MostBare is the most layers that are left without their modules in training steps. One always has its own.
func (m *Model) MostBare() int {
	return min(m.spec.Training.Methods.AdapterDrop, len(m.spec.Plan.Layers)-1)
}

// Bare is how many of the lowest layers are left without their modules in a training step, from 0 on.
func (m *Model) Bare(step int) int {
	most := m.MostBare()
	if most == 0 {
		return 0
	}
	return rand.New(rand.NewPCG(m.spec.Seed, streamOf("adapter drop")+uint64(step))).IntN(most + 1)
}

// Pass says how outputs are computed.
type Pass struct {
	Bare int // of the lowest layers, which are left without their modules; less than all
	// Gates receives the values of every gate by its name, for each row; nil for nobody.
	Gates map[string][]float32
}

// Logits is the head's output [decisions, outputs] in float32, without dropout and without gradients. That of a text
// is, for each token of Batch.Next, its loss and 1 if it is the most probable one.
func (m *Model) Logits(s *torch.Scope, batch Batch) *torch.Tensor {
	return m.LogitsOf(s, batch, Pass{})
}

// LogitsOf is Logits of a pass.
func (m *Model) LogitsOf(s *torch.Scope, batch Batch, how Pass) *torch.Tensor {
	var logits *torch.Tensor
	torch.NoGrad(func() {
		p, x := m.forward(s, batch, m.frontier(false, batch.Bare), how, nil)
		if h, ok := m.head.(scorer); ok && s.Err() == nil {
			logits = h.scores(p, batch, x)
		} else if s.Err() == nil {
			logits = m.head.logits(p, batch, x)
		}
	})
	return logits
}

// Counts is how many numbers of Logits each example of the batch has.
func (m *Model) Counts(batch Batch) []int { return m.head.counts(batch) }

// Loss is the sum of the head's losses over the batch, given the targets of all examples one after another, and of
// how many terms it is the sum. Sums and their gradients may be added over the parts of a batch, and then divided by
// all terms. The step, from 0, selects the dropout masks and the layers that are bare.
func (m *Model) Loss(s *torch.Scope, batch Batch, targets []float64, step int) (sum *torch.Tensor, terms int) {
	return m.loss(s, batch, targets, Pass{Bare: m.Bare(step)}, newDropout(m.spec.Seed, step, m.spec.Training.Dropout))
}

func (m *Model) loss(s *torch.Scope, batch Batch, targets []float64, how Pass, dropout *dropout) (sum *torch.Tensor,
	terms int) {
	p, x := m.forward(s, batch, m.frontier(true, batch.Bare), how, dropout)
	if s.Err() != nil {
		return nil, 0
	}
	return m.head.loss(s, batch, m.head.logits(p, batch, x), targets)
}

// forward is the hidden states that the head reads, of the pass that computed them.
func (m *Model) forward(s *torch.Scope, batch Batch, frontier Frontier, how Pass, dropout *dropout) (*pass,
	*torch.Tensor) {
	net := m.network.without(how.Bare)
	from := 0
	if batch.Hidden != nil {
		if from = frontier.Step; from == 0 {
			s.Fail(fmt.Errorf("model: hidden states given to a model below which they change"))
			return nil, nil
		}
	}
	p, x := net.start(s, batch, from, m.rows(), dropout)
	p.gates = how.Gates
	x = p.run(x, from, net.family.steps())
	if m.rows() == All {
		x = p.ownTokens(x)
	} else if net.wide() {
		x = p.take(x, m.rows())
	}
	return p, x
}

// Gradient is the gradient of a loss with respect to everything that is trained, in the model's own
// order: [parameters] in float32. Losses and gradients of several batches may be computed at the same
// time, each with a scope of its own goroutine.
func (m *Model) Gradient(s *torch.Scope, loss *torch.Tensor) *torch.Tensor {
	if m.parameters.size == 0 { // nothing is trained, as without modules and with a head that has no parameters
		return s.Zeros(torch.Float32, 0)
	}
	grad := s.Grad
	if m.spec.Training.Methods.AdapterDrop > 0 || m.spec.Shared != nil {
		grad = s.GradWhereUsed
	}
	return m.parameters.gradient(grad, s, loss)
}

// NewGradient makes a gradient of zeros that lives as long as the model.
func (m *Model) NewGradient() *torch.Tensor { return m.scope.Zeros(torch.Float32, m.parameters.size) }

// Update makes one step of AdamW against a gradient, which it overwrites, at a learning rate, and returns
// the norm of the gradient before it was clipped. As in PyTorch, what is in layers that are bare in the step stays as
// it is, with its moments.
func (m *Model) Update(s *torch.Scope, gradient *torch.Tensor, rate float64) (norm float64) {
	if m.factors == nil {
		norm = m.optimizer.Step(s, gradient, rate)
		m.parameters.sync(s)
		return norm
	}
	// All that a step does to an element is in proportion to its rate, so the step of another rate is so many times it.
	master := m.parameters.master
	torch.NoGrad(func() {
		before := s.Clone(master)
		norm = m.optimizer.Step(s, gradient, rate)
		step := s.Add(master, s.Scale(before, -1))
		s.CopyTo(master, s.AddTo(before, s.Mul(step, m.factors)))
	})
	m.parameters.sync(s)
	return norm
}

// State is what training needs to go on where it was: a model of the same Spec with this state makes
// the same next steps.
type State struct {
	Parameters []float32 // as Snapshot gives them
	Optimizer  torch.AdamWState
}

// State copies the state of training.
func (m *Model) State() (State, error) {
	s := m.Scope()
	defer s.Free()
	state := State{Parameters: s.Float32s(m.parameters.master), Optimizer: m.optimizer.State(s)}
	return state, s.Err()
}

// SetState continues from a state.
func (m *Model) SetState(state State) error {
	if err := m.Restore(state.Parameters); err != nil {
		return err
	}
	s := m.Scope()
	defer s.Free()
	m.optimizer.SetState(s, state.Optimizer)
	return s.Err()
}

// Snapshot copies everything that is trained, in the model's own order.
func (m *Model) Snapshot() ([]float32, error) {
	s := m.Scope()
	defer s.Free()
	return s.Float32s(m.parameters.master), s.Err()
}

// Restore sets everything that is trained to a snapshot of a model of the same Spec.
func (m *Model) Restore(snapshot []float32) error {
	s := m.Scope()
	defer s.Free()
	m.parameters.set(s, snapshot)
	return s.Err()
}

// Size is the number of elements of everything that is trained.
func (m *Model) Size() int { return m.parameters.size }

// HeadParams counts the head's parameters.
func (m *Model) HeadParams() int64 {
	var count int64
	for _, p := range m.parameters.list {
		if strings.HasPrefix(p.name, "head.") {
			count += int64(p.size())
		}
	}
	return count
}

// Tensors copies everything that is trained, by name; the package documentation lists the names.
// Prefixes and prompts are as they are used, however they were trained.
func (m *Model) Tensors() (map[string]checkpoint.Tensor, error) {
	values, err := m.Snapshot()
	if err != nil {
		return nil, err
	}
	tensors := map[string]checkpoint.Tensor{}
	for _, p := range m.parameters.list {
		if p.traits&unstored == 0 {
			tensors[p.name] = checkpoint.NewTensor(values[p.offset:][:p.size()], p.shape...)
		}
	}
	if !m.encoded() {
		return tensors, nil
	}
	s := m.Scope()
	defer s.Free()
	torch.NoGrad(func() {
		if prompt := m.network.prompt; prompt != nil {
			tokens := prompt.values(s, torch.Float32)
			tensors[prompt.name] = checkpoint.NewTensor(s.Float32s(tokens), tokens.Shape()...)
		}
		for name, t := range m.network.prefixTensors(s) {
			tensors[name] = checkpoint.NewTensor(s.Float32s(t), t.Shape()...)
		}
	})
	return tensors, s.Err()
}

// encoded reports whether something is trained that makes what is stored.
func (m *Model) encoded() bool {
	return slices.ContainsFunc(m.parameters.list, func(p *parameter) bool { return p.traits&unstored != 0 })
}

// SetTensors sets everything that is trained from what Tensors gave. The model's prefixes must be flat.
func (m *Model) SetTensors(tensors map[string]checkpoint.Tensor) error {
	if m.encoded() {
		return fmt.Errorf("model: prefixes and prompts are stored as they are: make the model without an encoder of them")
	}
	values := make([]float32, m.parameters.size)
	known := map[string]bool{}
	for _, p := range m.parameters.list {
		t, ok := tensors[p.name]
		if !ok {
			return fmt.Errorf("model: tensor %q is missing", p.name)
		}
		if !slices.Equal(t.Shape, p.shape) {
			return fmt.Errorf("model: tensor %q has shape %v, the plan wants %v", p.name, t.Shape, p.shape)
		}
		copy(values[p.offset:], t.Float32())
		known[p.name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		if !known[name] {
			return fmt.Errorf("model: tensor %q belongs to no module of the plan", name)
		}
	}
	return m.Restore(values)
}
