package search

import (
	"fmt"
	"strings"
)

// autoSampler picks the sampler that measures best for the stage of a study: gp, which finds the most, as long as
// its process can hold every trial and it proposes faster than a trial trains; else tpe, which takes milliseconds
// for thousands of trials. While a suggestion of gp takes as long as a training, tpe runs twice as many trials in
// the time, and mostly finds less with them (docs/explain/benchmarks.md).
type autoSampler struct{}

func (autoSampler) propose(v *view) (Suggestion, error) {
	n := len(v.finished)
	suggesting := gpSeconds(n, len(v.space.Dimensions()))
	chosen, reason := sampler(gpSampler{}), fmt.Sprintf("auto: gp after %d finished trials", n)
	switch {
	case n > gpTrials:
		chosen, reason = tpeSampler{}, fmt.Sprintf("auto: tpe after %d finished trials, more than gp holds", n)
	case v.trialSeconds > 0 && suggesting > v.trialSeconds:
		chosen, reason = tpeSampler{},
			fmt.Sprintf("auto: tpe, since a suggestion of gp after %d finished trials takes about %.2g s and a training %.2g "+
				"s", n, suggesting, v.trialSeconds)
	case v.trialSeconds > 0:
		reason += fmt.Sprintf(", a suggestion takes about %.2g s and a training %.2g s", suggesting, v.trialSeconds)
	}
	suggestion, err := chosen.propose(v)
	if more, ok := strings.CutPrefix(suggestion.Reason, reasonChosen); ok {
		suggestion.Reason = reason + more
	}
	return suggestion, err
}

// gpSeconds is what a suggestion of gp takes on two cores, roughly: 0.24 s for 100 trials in 48 dimensions, 0.95 s for
// 300, 0.07 s for 100 in 8.
func gpSeconds(trials, dimensions int) float64 { return 5e-5 * float64(trials*dimensions) }
