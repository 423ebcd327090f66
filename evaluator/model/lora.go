package model

import "peftsearch/peft"

// lowRank is the update (alpha/rank)·B·A of one matrix, which torch.Project adds.
type lowRank struct {
	a, b   *parameter // [r, in], [out, r]
	factor float64
}

// declareLoRA initialises A with kaiming_uniform(a=√5) and B with 0, as PEFT and adapters do, so that a
// fresh LoRA changes nothing.
func declareLoRA(ps *parameters, name string, l peft.LoRA, g peft.Geometry) map[peft.Target]*lowRank {
	updates := map[peft.Target]*lowRank{}
	for _, target := range l.Targets {
		in, out := g.TargetShape(target)
		updates[target] = &lowRank{
			a:      ps.declare(name+"."+string(target)+".a", uniformFanIn, decay, l.Rank, in),
			b:      ps.declare(name+"."+string(target)+".b", zeros, decay, out, l.Rank),
			factor: l.Alpha / float64(l.Rank),
		}
	}
	return updates
}
