package peft

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"peftsearch/data/checkpoint"
)

// The export for AdapterHub's adapters. A plan becomes one adapter where one can hold it: an adapter has at
// most one prefix length, one LoRA rank, alpha and set of targets, and one bottleneck in a layer.
// Otherwise it becomes a setup directory: a stack with the k-th prefix length and the k-th LoRA in
// adapter task-k, which leaves out all other layers.
//
// A serial and a parallel adapter in one layer need a fusion (AdapterFusion, Pfeiffer et al. 2021) of
// both whose queries are zero: then each attention weight is 1/2, which doubled scalings undo. The serial
// one comes last, because the residual is that of the last child, and the parallel one in a stack of its
// own, because that gives it its own input.

const (
	adaptersVersion = "adapters.1.3.0"
)

// AdapterName is that of adapters in exports which are given none.
const AdapterName = "task"

// The names of an export's adapters: of the adapter and the head, and of the two of a fusion.
func (t Trained) adapterName() string   { return cmp.Or(t.Name, AdapterName) }
func (t Trained) fusedParallel() string { return t.adapterName() + "-pa" }
func (t Trained) fusedSerial() string   { return t.adapterName() + "-sa" }
func (t Trained) fusionName() string    { return t.fusedParallel() + "," + t.fusedSerial() }

// pythonFloat is written with a fraction: adapters takes 4.0 for a scaling, but not 4.
type pythonFloat float64

// MarshalJSON writes at least one decimal.
func (f pythonFloat) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(f), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return []byte(text), nil
}

// bottleneckConfig is a BnConfig. It has no "architecture": the library takes any value for another class.
type bottleneckConfig struct {
	MHAdapter        bool               `json:"mh_adapter"`
	OutputAdapter    bool               `json:"output_adapter"`
	IsParallel       bool               `json:"is_parallel"`
	NonLinearity     string             `json:"non_linearity"`
	OriginalLNBefore bool               `json:"original_ln_before"`
	Scaling          any                `json:"scaling"` // a pythonFloat or "learned"
	InitWeights      string             `json:"init_weights"`
	UseGating        bool               `json:"use_gating,omitempty"`
	PHMLayer         bool               `json:"phm_layer,omitempty"` // its matrices are Compacter's
	PHMDim           int                `json:"phm_dim,omitempty"`
	ReductionFactor  map[string]float64 `json:"reduction_factor"` // by layer
	LeaveOut         []int              `json:"leave_out"`
}

type prefixConfig struct {
	Architecture string `json:"architecture"` // "prefix_tuning"
	Flat         bool   `json:"flat"`
	PrefixLength int    `json:"prefix_length"`
	UseGating    bool   `json:"use_gating,omitempty"`
	CrossPrefix  *bool  `json:"cross_prefix,omitempty"` // of an encoder-decoder
	LeaveOut     []int  `json:"leave_out"`
}

type loraConfig struct {
	Architecture     string   `json:"architecture"` // "lora"
	R                int      `json:"r"`
	Alpha            float64  `json:"alpha"`
	SelfattnLoRA     bool     `json:"selfattn_lora"`
	AttnMatrices     []string `json:"attn_matrices"`
	IntermediateLoRA bool     `json:"intermediate_lora"`
	OutputLoRA       bool     `json:"output_lora"`
	UseGating        bool     `json:"use_gating,omitempty"`
	LeaveOut         []int    `json:"leave_out"`
}

type unionConfig struct {
	Architecture string `json:"architecture"` // "union"
	Configs      []any  `json:"configs"`
}

// adapterFile is adapter_config.json, head_config.json or adapter_fusion_config.json.
type adapterFile struct {
	Name       string `json:"name"`
	Version    string `json:"version"`
	ModelType  string `json:"model_type"`
	ModelName  string `json:"model_name"`
	ModelClass string `json:"model_class"`
	HiddenSize int    `json:"hidden_size"`
	Config     any    `json:"config"`
}

func (t Trained) adapterFile(name string, config any) adapterFile {
	return adapterFile{name, adaptersVersion, t.Info.Geometry.Architecture, t.modelName(), t.adapterClass(),
		t.Info.Geometry.Hidden, config}
}

type headConfig struct {
	HeadType           headType       `json:"head_type"`
	NumLabels          int            `json:"num_labels,omitempty"`
	NumChoices         int            `json:"num_choices,omitempty"`
	Layers             int            `json:"layers"`
	ActivationFunction *string        `json:"activation_function"`
	UsePooler          *bool          `json:"use_pooler,omitempty"`
	Label2ID           map[string]int `json:"label2id"`
}

// fusionConfig has all keys of an AdapterFusionConfig: the library has no defaults for them.
type fusionConfig struct {
	Key                bool `json:"key"`
	Query              bool `json:"query"`
	Value              bool `json:"value"`
	QueryBeforeLN      bool `json:"query_before_ln"`
	Regularization     bool `json:"regularization"`
	ResidualBefore     bool `json:"residual_before"`
	Temperature        bool `json:"temperature"`
	ValueBeforeSoftmax bool `json:"value_before_softmax"`
	ValueInitialized   bool `json:"value_initialized"`
	DropoutProb        any  `json:"dropout_prob"`
}

// composition is a composition block: "Stack" and "Fuse" have blocks as children, "single" has a name.
type composition struct {
	Type     string `json:"type"`
	Children []any  `json:"children"`
}

func single(name string) composition { return composition{"single", []any{name}} }

type setupFile struct {
	AdapterSetup composition `json:"adapter_setup"`
	HeadSetup    string      `json:"head_setup"`
	Version      string      `json:"version"`
}

// adaptersModule is a module of a method that adapters has.
type adaptersModule interface {
	Module
	// adaptersPart is what the library can hold of it, nil for nothing, and in words what it cannot, "" for nothing.
	adaptersPart() (kept Module, lost string)
	// adaptersKind is equal for those modules of the method that one adapter can hold in different layers.
	adaptersKind() string
	// adaptersConfig is the configuration of the plan's modules of the method, all of this kind.
	adaptersConfig(g Geometry, p Plan) any
	// adaptersTensors adds the tensors of the same modules, for an adapter of a name.
	adaptersTensors(t Trained, name string, p Plan, into map[string]checkpoint.Tensor)
}

func adaptersPart(p Plan, g Geometry) (kept Plan, lost []string) {
	return split(p, func(m Module, layer int) (Module, string) {
		if _, ok := m.(Prefix); ok && !adaptersHoldsPrefix(p, g, layer) {
			return nil, m.String()
		}
		// The library has no prompts for decoders.
		if module, ok := m.(adaptersModule); ok && !(m.Method().Input() && g.causal()) {
			return module.adaptersPart()
		}
		return nil, m.String()
	})
}

func exportAdapters(t Trained, _ Options) (*export, error) {
	if t.Backbone != nil {
		return nil, errors.New("the backbone was trained too, and an adapter does not hold it: export as merged")
	}
	a := &adaptersExport{Trained: t, export: &export{documents: map[string]any{},
		tensors: map[string]map[string]checkpoint.Tensor{}}}
	fused := needsFusion(t.Plan)
	if err := conflict(t.Plan, fused); err != nil {
		return nil, err
	}
	parts := a.parts(fused)
	if (len(parts) > 1 || fused) && a.sharesAttention() {
		return nil, fmt.Errorf("the format needs several adapters for the plan, and adapters 1.3.0 cannot stack them where "+
			"%s has LoRA on query, key or value", t.family().name)
	}
	switch {
	case len(parts) == 0 && !fused && a.head().writes:
		return nil, errors.New("nothing is trained: the pretrained model is what there is")
	case len(parts) == 0 && !fused:
		a.addHead("")
	case len(parts) == 1 && !fused:
		a.addAdapter("", a.adapterName(), parts[0])
		a.addHead("")
	default:
		a.addSetup(parts, fused)
	}
	a.loading = a.snippet(len(parts), fused)
	for _, m := range Methods {
		of := slices.DeleteFunc(slices.Clone(parts), func(p Plan) bool { return p.any(m) == nil })
		if m.Shared() != nil && len(of) > 1 {
			a.notes = append(a.notes, fmt.Sprintf("Each of the adapters has a copy of what all layers share in %s: training "+
				"the adapters on would move them apart.", m))
		}
	}
	if len(t.Plan.Gates(t.Info.Geometry)) > 0 {
		a.notes = append(a.notes, "The library's gates average over padding too: without padding, as for rows of one "+
			"length, outputs are those that the plan was trained with.")
	}
	return a.export, nil
}

// sharesAttention reports whether LoRA changes query, key or value where they are one matrix.
func (t Trained) sharesAttention() bool {
	return slices.ContainsFunc(t.Plan.Layers, func(l Layer) bool {
		lora, _ := Find[LoRA](l)
		return slices.ContainsFunc(lora.Targets, func(target Target) bool { return len(t.shared(target)) > 1 })
	})
}

type adaptersExport struct {
	Trained
	*export
}

// parts splits the plan into plans that one adapter each can hold; a fusion's bottlenecks are in none.
func (a *adaptersExport) parts(fused bool) []Plan {
	var parts []Plan
	part := func(k int) *Plan {
		for len(parts) <= k {
			parts = append(parts, Plan{Layers: make([]Layer, len(a.Plan.Layers))})
		}
		return &parts[k]
	}
	if len(a.Plan.Input) > 0 { // of a stack, the library reads the first adapter's
		part(0).Input = a.Plan.Input
	}
	for _, m := range Methods {
		var kinds []string
		for i, layer := range a.Plan.Layers {
			module, ok := layer.Module(m).(adaptersModule)
			if !ok || fused && isFused(m) {
				continue
			}
			k := slices.Index(kinds, module.adaptersKind())
			if k < 0 {
				k, kinds = len(kinds), append(kinds, module.adaptersKind())
			}
			to := part(k)
			to.Layers[i] = to.Layers[i].With(module)
		}
	}
	return parts
}

// needsFusion reports whether a layer has two bottlenecks, of which an adapter holds one.
func needsFusion(p Plan) bool {
	return slices.ContainsFunc(p.Layers, func(l Layer) bool {
		return l.Module(MethodSerial) != nil && l.Module(MethodParallel) != nil
	})
}

// isFused reports whether a fusion has the method's modules.
func isFused(m Method) bool { return m == MethodSerial || m == MethodParallel }

// addAdapter adds the directory of one adapter.
func (a *adaptersExport) addAdapter(dir, name string, p Plan) {
	var configs []any
	for _, m := range Methods {
		if module, ok := p.any(m).(adaptersModule); ok {
			configs = append(configs, module.adaptersConfig(a.Info.Geometry, p))
		}
	}
	var config any = unionConfig{"union", configs}
	if len(configs) == 1 {
		config = configs[0]
	}
	a.documents[path.Join(dir, "adapter_config.json")] = a.adapterFile(name, config)
	if a.configOnly() {
		return
	}
	tensors := map[string]checkpoint.Tensor{}
	for _, m := range Methods {
		if module, ok := p.any(m).(adaptersModule); ok {
			module.adaptersTensors(a.Trained, name, p, tensors)
		}
	}
	a.tensors[path.Join(dir, "adapter.safetensors")] = tensors
}

// leaveOut lists the layers without a module of a method.
func leaveOut(p Plan, m Method) []int {
	layers := []int{}
	for i, layer := range p.Layers {
		if layer.Module(m) == nil {
			layers = append(layers, i)
		}
	}
	return layers
}

// addSetup adds a setup directory.
func (a *adaptersExport) addSetup(parts []Plan, fused bool) {
	stack := composition{Type: "Stack"}
	for k, part := range parts {
		name := fmt.Sprintf("%s-%d", a.adapterName(), k+1)
		a.addAdapter(name, name, part)
		stack.Children = append(stack.Children, single(name))
	}
	if fused {
		a.addFusion()
		stack.Children = append(stack.Children, composition{"Fuse", []any{
			composition{"Stack", []any{single(a.fusedParallel())}}, single(a.fusedSerial())}})
	}
	a.documents["adapter_setup.json"] = setupFile{stack, a.adapterName(), adaptersVersion}
	a.addHead(a.adapterName())
}

// standIns lists the fused adapters that exist only because the library wants both of a fusion in a
// layer that has either: zeros of width 1, which contribute nothing.
func (a *adaptersExport) standIns() (list []standIn) {
	for i, layer := range a.Plan.Layers {
		switch serial, parallel := layer.Module(MethodSerial), layer.Module(MethodParallel); {
		case serial != nil && parallel == nil:
			list = append(list, standIn{a.fusedParallel(), i})
		case serial == nil && parallel != nil:
			list = append(list, standIn{a.fusedSerial(), i})
		}
	}
	return list
}

// standIn is an adapter of width 1 of the kind that the plan has.
func (a *adaptersExport) standIn(m Method) Module {
	if m == MethodSerial {
		module := a.Plan.any(m).(Serial)
		module.Width = 1
		return module
	}
	module := a.Plan.any(m).(Parallel)
	module.Width = 1
	return module
}

// conflict says why one setup cannot hold the plan's bottlenecks.
func conflict(p Plan, fused bool) error {
	for i, layer := range p.Layers {
		var others []string // than those of a fusion
		count := 0
		for _, module := range layer.sorted() {
			if _, ok := module.(bottleneck); ok {
				if count++; !isFused(module.Method()) {
					others = append(others, string(module.Method()))
				}
			}
		}
		if len(others) > 0 && count > 1 {
			return fmt.Errorf("layer %d has a %s adapter beside another one, and the format holds one in a layer", i,
				others[0])
		}
		if len(others) > 0 && fused {
			return fmt.Errorf("layer %d has a %s adapter in a plan with a serial and a parallel one in another layer, and "+
				"the library finds no adapters of their fusion there", i, others[0])
		}
	}
	if !fused {
		return nil
	}
	for _, m := range []Method{MethodSerial, MethodParallel} {
		var first bottleneck
		for _, layer := range p.Layers {
			module, ok := layer.Module(m).(bottleneck)
			if !ok {
				continue
			}
			if first == nil {
				first = module
			}
			if full := module.Full(); full.LearnedScale || full.Gate ||
				module.(adaptersModule).adaptersKind() != first.(adaptersModule).adaptersKind() {
				return fmt.Errorf("in a plan with both in one layer, the format holds %s adapters of one kind, without gates "+
					"and learned scales", m)
			}
		}
	}
	return nil
}

type standIn struct {
	adapter string
	layer   int
}

func (a *adaptersExport) addFusion() {
	// Both of the fusion's adapters, in each layer that has either.
	both := Plan{Layers: make([]Layer, len(a.Plan.Layers))}
	for i, layer := range a.Plan.Layers {
		for _, module := range layer {
			if isFused(module.Method()) {
				both.Layers[i] = append(both.Layers[i], module)
			}
		}
	}
	for _, s := range a.standIns() {
		if s.adapter == a.fusedSerial() {
			both.Layers[s.layer] = both.Layers[s.layer].With(a.standIn(MethodSerial))
		} else {
			both.Layers[s.layer] = both.Layers[s.layer].With(a.standIn(MethodParallel))
		}
	}
	fused := []struct {
		name string
		bottleneck
	}{{a.fusedParallel(), both.any(MethodParallel).(bottleneck)}, {a.fusedSerial(), both.any(MethodSerial).(bottleneck)}}
	for _, f := range fused {
		a.documents[path.Join(f.name, "adapter_config.json")] = a.adapterFile(f.name,
			bottleneckConfigOf(a.Info.Geometry, both, f.bottleneck, 2))
	}
	a.documents[path.Join(a.fusionName(), "adapter_fusion_config.json")] = a.adapterFile(a.fusionName(),
		fusionConfig{Query: true, ValueBeforeSoftmax: true})
	if a.configOnly() {
		return
	}
	with := a.Trained
	with.Modules = maps.Clone(a.Modules)
	for _, s := range a.standIns() {
		m := MethodParallel
		if s.adapter == a.fusedSerial() {
			m = MethodSerial
		}
		for _, tensor := range both.Layers[s.layer].Module(m).Tensors(a.Info.Geometry) {
			with.Modules[fmt.Sprintf("layers.%d.%s.%s", s.layer, m, tensor.Name)] = zeroTensor(checkpoint.Float32,
				tensor.Shape...)
		}
	}
	for _, f := range fused {
		tensors := map[string]checkpoint.Tensor{}
		addBottlenecks(with, f.name, both, f.bottleneck, bottleneckNames, tensors)
		a.tensors[path.Join(f.name, "adapter.safetensors")] = tensors
	}
	fusion, d := map[string]checkpoint.Tensor{}, a.Info.Geometry.Hidden
	for i, layer := range both.Layers {
		if len(layer) == 0 {
			continue
		}
		query := a.outputPath(i) + ".adapter_fusion_layer." + a.fusionName() + ".query"
		// Half precision keeps the zeros small.
		fusion[query+".weight"], fusion[query+".bias"] = zeroTensor(checkpoint.Float16, d, d),
			zeroTensor(checkpoint.Float16, d)
	}
	a.tensors[path.Join(a.fusionName(), "model_adapter_fusion.safetensors")] = fusion
}

func zeroTensor(dtype checkpoint.DType, shape ...int) checkpoint.Tensor {
	t := checkpoint.Tensor{DType: dtype, Shape: shape}
	size := 4
	if dtype == checkpoint.Float16 {
		size = 2
	}
	t.Data = make([]byte, size*t.Elements())
	return t
}

// adapterClass is the class that an adapter is loaded into: where texts are written, transformers' own.
func (t Trained) adapterClass() string {
	if t.head().writes {
		return t.family().class(t.head())
	}
	return t.family().adapterModel
}

// addHead adds the head, which reads the first token's hidden state and not the library's pooler.
func (a *adaptersExport) addHead(dir string) {
	if a.head().writes { // the pretrained model has it
		return
	}
	pooler := false
	c := headConfig{HeadType: a.head().adapters, NumLabels: a.Info.Outputs(), Layers: 1, UsePooler: &pooler}
	_, c.Label2ID = a.Info.labelMaps()
	switch c.HeadType {
	case headTagging:
		c.UsePooler = nil
	case headChoice:
		c.NumLabels, c.NumChoices, c.Label2ID = 0, max(2, len(a.Info.Labels)), nil
		a.notes = append(a.notes,
			fmt.Sprintf("The library wants the same number of choices in every row: num_choices in head_config.json, %d.",
				c.NumChoices))
	}
	names := map[string]string{"head": "1"}
	if a.Info.Head == headDense {
		tanh := "tanh"
		c.Layers, c.ActivationFunction = 2, &tanh
		names = map[string]string{"head.dense": "1", "head": "4"}
	}
	a.documents[path.Join(dir, "head_config.json")] = a.adapterFile(a.adapterName(), c)
	if a.configOnly() {
		return
	}
	tensors := map[string]checkpoint.Tensor{}
	for ours, theirs := range names {
		for _, kind := range []string{"weight", "bias"} {
			tensors["heads."+a.adapterName()+"."+theirs+"."+kind] = a.Head[ours+"."+kind]
		}
	}
	a.tensors[path.Join(dir, "model_head.safetensors")] = tensors
}

// add is the call that adds such a head.
func (h headType) add(name string) string {
	method := map[headType]string{headClassification: "add_classification_head(%q, **head)",
		headMultilabel: "add_classification_head(%q, multilabel=True, **head)", headTagging: "add_tagging_head(%q, **head)",
		headChoice: "add_multiple_choice_head(%q, **head)"}[h]
	return fmt.Sprintf(method, name)
}

// snippet loads the export in Python.
func (a *adaptersExport) snippet(parts int, fused bool) string {
	model := pythonString(a.modelName())
	if a.configOnly() {
		return a.trainingSnippet(parts, fused)
	}
	imports := []string{"from adapters import AutoAdapterModel", "from transformers import AutoTokenizer"}
	if a.head().writes {
		imports = []string{"import adapters", "from transformers import AutoModelForCausalLM, AutoTokenizer"}
	}
	lines := append(imports, "",
		`directory = "."  # this directory`,
		a.tokenizerFrom(model),
		a.opening(model))
	switch {
	case parts == 0 && !fused:
		lines = append(lines, "model.load_head(directory, use_safetensors=True)", `model.active_head = "`+a.adapterName()+`"`)
	case parts == 1 && !fused:
		lines = append(lines, "model.load_adapter(directory, use_safetensors=True, set_active=True)")
	default:
		lines = append(lines, "model.load_adapter_setup(directory, use_safetensors=True, set_active=True)")
		if fused {
			a.notes = append(a.notes,
				"Layers with a serial and a parallel adapter use a fusion whose queries are zero, so that both "+
					"attention weights are 1/2 and the scalings of 2 and 8 act as 1 and 4. Keep its weights frozen.")
		}
	}
	if problem := a.head().problem; problem != "" { // the library leaves it to be guessed by pipelines
		lines = append(lines, fmt.Sprintf("model.config.problem_type = %q", problem))
	}
	return python(append(append(lines, "model.eval()"), a.example()...)...)
}

// opening loads the backbone. With torch's fused attention, which is the default, the library's DistilBERT adds 1 to
// the scores of prefixes.
func (a *adaptersExport) opening(model string) string {
	more := ""
	if a.family().eagerPrefix && slices.ContainsFunc(a.Plan.Layers,
		func(l Layer) bool { return l.Module(MethodPrefix) != nil }) {
		more = `, attn_implementation="eager"`
	}
	if a.head().writes {
		return "model = AutoModelForCausalLM.from_pretrained(" + model + more + ")\nadapters.init(model)"
	}
	if len(a.Info.Geometry.Stacks()) > 1 { // it fails on a language model with a head of its own
		more += fmt.Sprintf(`, architectures=["%sModel"]`, a.family().classes)
	}
	return "model = AutoAdapterModel.from_pretrained(" + model + more + ")"
}

// trainingSnippet builds the adapters from their configurations and prepares them for training.
func (a *adaptersExport) trainingSnippet(parts int, fused bool) string {
	model := pythonString(a.modelName())
	lines := []string{"import json", "import os", ""}
	head := []string{
		`head = json.load(open(os.path.join(directory, "head_config.json")))["config"]`,
		`del head["head_type"], head["label2id"]`,
		"model." + a.head().adapters.add(a.adapterName()),
	}
	open := []string{"from adapters import AdapterConfig, AutoAdapterModel", "", `directory = "."  # this directory`,
		a.opening(model)}
	if a.head().writes {
		head = nil
		open[0] = "import adapters\nfrom adapters import AdapterConfig\nfrom transformers import AutoModelForCausalLM"
	}
	switch {
	case parts == 0 && !fused:
		return python(append(append(append(lines, open...), head...), "model.base_model.requires_grad_(False)")...)
	case parts == 1 && !fused:
		return python(append(append(append(lines, open...),
			`model.add_adapter("`+a.adapterName()+`", config=AdapterConfig.load(`+
				`os.path.join(directory, "adapter_config.json")))`),
			append(head, `model.train_adapter("`+a.adapterName()+`")`)...)...)
	}
	if head != nil {
		head[0] = strings.Replace(head[0], "directory,", `directory, "`+a.adapterName()+`",`, 1)
	}
	lines = append(lines, "from adapters.composition import AdapterCompositionBlock, Fuse, Stack")
	lines = append(append(lines, open...),
		`setup = json.load(open(os.path.join(directory, "adapter_setup.json")))["adapter_setup"]`,
		"setup = AdapterCompositionBlock.from_dict(setup)",
		"for name in sorted(setup.flatten()):",
		`    model.add_adapter(name, config=AdapterConfig.load(os.path.join(directory, name, "adapter_config.json")))`)
	if fused {
		lines = append(lines,
			`fusion = json.load(open(os.path.join(directory, "`+a.fusionName()+`", "adapter_fusion_config.json")))["config"]`,
			`model.add_adapter_fusion(Fuse("`+a.fusedParallel()+`", "`+a.fusedSerial()+`"), fusion)`)
	}
	lines = append(append(lines, head...), "model.train_adapter(Stack(*sorted(setup.flatten())))",
		"model.set_active_adapters(setup)")
	if head != nil {
		lines = append(lines, `model.active_head = "`+a.adapterName()+`"`)
	}
	if fused {
		lines = append(append(lines, a.constants()...), "for p in constant:", "    p.requires_grad_(False).zero_()")
	}
	return python(lines...)
}

// constants lists what a fusion needs to stay zero.
func (a *adaptersExport) constants() []string {
	lines := []string{
		"# Zero and frozen: the fusion's queries, and the stand-ins where a layer has one adapter of the two.",
		`constant = [p for name, p in model.named_parameters() if "adapter_fusion_layer" in name]`}
	for _, s := range a.standIns() {
		lines = append(lines, fmt.Sprintf(`constant += model.get_adapter(%q)[%d]["output_adapter"].parameters()`,
			s.adapter, s.layer))
	}
	return lines
}
