// Package search proposes points of a search space and judges the outcomes: more score with fewer
// trainable parameters.
//
// [Optimizer.Ask] turns a [History] of trials into the next point. It keeps nothing between calls: a
// goptuna study of the history is made, asked through one of the samplers of this package, and
// dropped, so that a suggestion depends on (study seed, trial number, history) alone.
//
// A [Pruner] stops trials that can hardly enter the front, from the curves of those that ended: its [Outlook] is worked
// out from the history ahead, and judges the trials that reach a rung.
//
// [Front] and [Hypervolume] are exact for the two objectives: the score, maximised, and the number of
// trainable parameters, minimised and known before training.
package search
