package metric

import (
	"maps"
	"slices"
	"strings"
)

// mode is how BIO tags are read that do not follow the rules.
type mode bool

const (
	lenient mode = false // an I- after O or after another type begins an entity
	strict  mode = true  // it belongs to none
)

// entity is what tags mark: words start to end, end excluded, of one type.
type entity struct {
	kind       string
	start, end int
}

// entitiesOf reads the tags of a sentence.
func entitiesOf(tags []string, m mode) []entity {
	var found []entity
	open := false // the last of found goes on
	for i, tag := range tags {
		prefix, kind, _ := strings.Cut(tag, "-")
		switch goesOn := open && found[len(found)-1].kind == kind; {
		case prefix == "I" && goesOn:
			found[len(found)-1].end = i + 1
		case prefix == "B" || prefix == "I" && m == lenient:
			found, open = append(found, entity{kind, i, i + 1}), true
		default:
			open = false
		}
	}
	return found
}

// types are those of the tags, sorted.
func types(tags []string) []string {
	kinds := map[string]bool{}
	for _, tag := range tags {
		if _, kind, ok := strings.Cut(tag, "-"); ok {
			kinds[kind] = true
		}
	}
	return slices.Sorted(maps.Keys(kinds))
}

// entities counts the entities of each type, by its place among the types.
func (a Answers) entities(m mode) tally {
	place := map[string]float64{}
	for i, kind := range types(a.Labels) {
		place[kind] = float64(i)
	}
	t := tally{}
	name := func(indices []float64) []string {
		tags := make([]string, len(indices))
		for i, index := range indices {
			tags[i] = a.Labels[int(index)]
		}
		return tags
	}
	for i := range a.Actual {
		predicted, actual := entitiesOf(name(a.Predicted[i]), m), entitiesOf(name(a.Actual[i]), m)
		for _, e := range predicted {
			t.add(place[e.kind], count{predicted: 1})
		}
		for _, e := range actual {
			c := count{actual: 1}
			if slices.Contains(predicted, e) {
				c.hit = 1
			}
			t.add(place[e.kind], c)
		}
	}
	return t
}

// EntityF1ByType is EntityF1 of each type for itself, named as entity_f1_PER.
func EntityF1ByType(a Answers) map[string]float64 {
	scores := map[string]float64{}
	t := a.entities(lenient)
	for i, kind := range types(a.Labels) {
		scores[string(EntityF1)+"_"+kind] = t[float64(i)].f1()
	}
	return scores
}
