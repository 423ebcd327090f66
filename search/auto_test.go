package search

import (
	"strings"
	"testing"
)

func TestAutoWeighsASuggestionAgainstATraining(t *testing.T) {
	for _, c := range []struct {
		trials  int
		seconds float64
		sampler string
		reason  string
	}{
		{30, 0, "gp", "auto: gp after 30 finished trials"},
		{30, 60, "gp", "auto: gp after 30 finished trials, a suggestion takes about 0.015 s and a training 60 s"},
		{30, 0.001, "tpe", "auto: tpe, since a suggestion of gp after 30 finished trials takes about 0.015 s and a " +
			"training 0.001 s"},
		{gpTrials + 1, 60, "tpe", "auto: tpe after 301 finished trials, more than gp holds"},
	} {
		v := mixedView(t, c.trials)
		v.trialSeconds = c.seconds
		suggestion, err := autoSampler{}.propose(v)
		if err != nil {
			t.Fatal(err)
		}
		if suggestion.Sampler != c.sampler || !strings.HasPrefix(suggestion.Reason, c.reason) {
			t.Errorf("%d trials, %g s: %s, %q; want %s, %q", c.trials, c.seconds, suggestion.Sampler, suggestion.Reason,
				c.sampler, c.reason)
		}
	}
}
