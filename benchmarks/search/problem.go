package main

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"math/rand/v2"

	"peftsearch/evaluator"
	"peftsearch/peft"
	"peftsearch/search"
	"peftsearch/space"
)

// Instances and seeds below tuning are for reports; nothing may be tuned on them.
const tuning = 1000

// instances is how many functions of a synthetic family a report uses; seed s takes instance s mod instances.
const instances = 5

// problem is a space with a score for each of its points.
type problem struct {
	name      string
	instance  int
	space     *space.Space
	reference search.Reference
	score     func(space.Point) float64 // without noise
	noise     float64                   // standard deviation of an evaluation
	// curve draws a training's best scores up to its rungs; nil for a synthetic problem.
	curve func(space.Point, *rand.Rand) []search.Rung
}

// families makes the problem of an instance.
var families = map[string]func(instance int) (*problem, error){
	"layered":  newLayered,
	"autopeft": newAutoPEFT,
	"rugged":   newRugged,
}

// newProblem makes the problem on which the arms of a seed are compared.
func newProblem(name string, seed int) (*problem, error) {
	family, ok := families[name]
	if !ok {
		return newRecorded(name)
	}
	instance := seed % instances
	if seed >= tuning {
		instance += tuning
	}
	return family(instance)
}

// outcome is a point without noise.
func (p *problem) outcome(point space.Point) search.Outcome {
	return search.Outcome{Params: p.space.Params(point), Score: p.score(point)}
}

// cost is log params scaled to 0 for the smallest plan and 1 for the largest, as search.Hypervolume does.
func (p *problem) cost(point space.Point) float64 {
	params, least, most := float64(p.space.Params(point)), float64(p.reference.MinParams), float64(p.reference.MaxParams)
	return math.Log(max(params, least)/least) / math.Log(most/least)
}

// initial is the cost-stratified design that all arms of a seed may share.
func (e *episode) initial() ([]space.Point, error) {
	optimizer, err := search.NewOptimizer(e.space, search.Options{Seed: uint64(e.seed), Sampler: "random",
		Reference: e.reference})
	if err != nil {
		return nil, err
	}
	history, err := search.NewHistory(e.space, nil)
	if err != nil {
		return nil, err
	}
	var points []space.Point
	for number := range int64(sharedSize) {
		suggestion, err := optimizer.Ask(history, number)
		if err != nil {
			return nil, err
		}
		points = append(points, suggestion.Point)
		if err := history.Set(search.Observation{Number: number, Point: suggestion.Point}); err != nil {
			return nil, err
		}
	}
	return points, nil
}

// episode is one run of an arm on a problem.
type episode struct {
	*problem
	seed     int
	seen     map[string]bool
	outcomes []search.Outcome
	repeats  int // evaluations of points that had been evaluated
}

func newEpisode(name string, seed int) (*episode, error) {
	p, err := newProblem(name, seed)
	return &episode{problem: p, seed: seed, seen: map[string]bool{}}, err
}

// evaluate scores a point with noise that depends on the seed and the point alone.
func (e *episode) evaluate(point space.Point) (score float64) {
	key := e.space.Key(point)
	if e.seen[key] {
		e.repeats++
	}
	e.seen[key] = true
	o := e.outcome(point)
	e.outcomes = append(e.outcomes, o)
	return o.Score + e.noise*keyed(e.seed, key).NormFloat64()
}

// checkpoints are the numbers of evaluations that are reported.
var checkpoints = []int{25, 50, 100, 200}

// keyed makes the generator of a number and a text.
func keyed(number int, text string) *rand.Rand {
	hash := fnv.New128a()
	hash.Write(binary.LittleEndian.AppendUint64(nil, uint64(number)))
	hash.Write([]byte(text))
	sum := hash.Sum(nil)
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])))
}

// sizes are the sizes of the modules of each layer, 0 for none, in the order of peft.Standard.
func sizes(s *space.Space, point space.Point) [][4]float64 {
	candidate, err := s.Candidate(point)
	if err != nil {
		panic(err) // points come from the space
	}
	out := make([][4]float64, len(candidate.Plan.Layers))
	for i, layer := range candidate.Plan.Layers {
		for m, method := range peft.Standard {
			if module := layer.Module(method); module != nil {
				out[i][m] = float64(module.Size())
			}
		}
	}
	return out
}

func bertBase(layers int) peft.Geometry {
	return peft.Geometry{Architecture: "bert", Layers: layers, Hidden: 768, FFN: 3072, Heads: 12}
}

// newSynthetic makes the problem around a function of the points.
func newSynthetic(name string, instance int, config space.Config, layers int,
	score func(*space.Space) func(space.Point) float64) (*problem, error) {
	s, err := space.New(config, evaluator.Training{LearningRate: 1e-3}, bertBase(layers))
	if err != nil {
		return nil, err
	}
	least, most := s.ParamRange()
	return &problem{name: name, instance: instance, space: s, noise: 0.01, score: score(s),
		reference: search.Reference{Chance: 0.5, MinParams: least, MaxParams: most}}, nil
}

// newLayered is the surface on 12 layers with sizes of their own: 48 dimensions of 7 levels.
func newLayered(instance int) (*problem, error) {
	return newSynthetic("layered", instance, space.Config{}, 12, newSurface("layered", instance))
}

// newAutoPEFT is the surface on the space of Zhou et al. 2024: 3 sizes for all layers, 12 layer bits.
func newAutoPEFT(instance int) (*problem, error) {
	return newSynthetic("autopeft", instance, space.Config{Preset: space.PresetAutoPEFT}, 12,
		newSurface("autopeft", instance))
}

// newSurface behaves like fine-tuning. With x the size of a module and h the size of half its effect, the
// module gives s = x/(x+h). A layer gives g = 1 - Π(1 - e·s) over its modules, less where both adapters do
// the same; its effect G = Σ w·g over the layers, less where neighbours do the same. The score is
// 0.5 + 0.4·(1 - exp(-3G))/(1 - exp(-3)), and falls with the squared logarithm of the parameters beyond a
// bound (overfitting). Weights w, effects e, halves h, redundancies and bound are the instance's.
func newSurface(name string, instance int) func(*space.Space) func(space.Point) float64 {
	rng := keyed(instance, name)
	const layers = 12
	var weights [layers]float64
	var effects, halves [layers][4]float64
	var redundant [layers]float64
	total := 0.0
	for i := range layers {
		weights[i] = (0.5 + float64(i+1)/layers) * math.Exp(rng.NormFloat64())
		total += weights[i]
		redundant[i] = 0.6 * rng.Float64()
		for m, effect := range []float64{0.8, 0.8, 0.5, 0.7} {
			effects[i][m] = min(effect*math.Exp(0.5*rng.NormFloat64()), 0.98)
			halves[i][m] = []float64{12, 16, 4, 2}[m] * math.Exp2(rng.NormFloat64())
		}
	}
	neighbours := 0.3 * rng.Float64()
	bound := 3e5 * math.Pow(10, rng.Float64())
	return func(s *space.Space) func(space.Point) float64 {
		return func(point space.Point) float64 {
			effect, below := 0.0, 0.0
			for i, layer := range sizes(s, point) {
				rest := 1.0
				var s [4]float64
				for m, size := range layer {
					s[m] = effects[i][m] * size / (size + halves[i][m])
					rest *= 1 - s[m]
				}
				gain := max(1-rest-redundant[i]*s[0]*s[1], 0)
				effect += weights[i] / total * gain * (1 - neighbours*below)
				below = gain
			}
			over := max(math.Log(float64(s.Params(point))/bound), 0)
			return 0.5 + 0.4*(1-math.Exp(-3*effect))/(1-math.Exp(-3)) - 0.01*over*over
		}
	}
}

// newRugged is an NK landscape (Kauffman and Levin 1987) on 40 modules that are there or not: the score is
// the mean of one contribution for each module, which depends on the module and 3 others. The contributions
// are uniform on 0 to 1, so that nearly nothing is known about a point from its neighbours but what it shares.
func newRugged(instance int) (*problem, error) {
	const modules, others = 40, 3
	rng := keyed(instance, "rugged")
	var links [modules][others]int
	var contributions [modules][1 << (others + 1)]float64
	for i := range modules {
		for j, other := range rng.Perm(modules - 1)[:others] {
			links[i][j] = (i + 1 + other) % modules
		}
		for j := range contributions[i] {
			contributions[i][j] = rng.Float64()
		}
	}
	config := space.Config{Sizes: space.Sizes{"serial": []int{0, 24}, "parallel": []int{0, 48}, "prefix": []int{0, 10}},
		LoRA: space.LoRAConfig{Ranks: []int{0, 8}}}
	return newSynthetic("rugged", instance, config, modules/4, func(*space.Space) func(space.Point) float64 {
		return func(point space.Point) float64 {
			total := 0.0
			for i := range modules {
				index := point[i]
				for _, other := range links[i] {
					index = 2*index + point[other]
				}
				total += contributions[i][index]
			}
			return total / modules
		}
	})
}
