package model

import "peftsearch/evaluator/torch"

// cache is what a generation keeps of the tokens that its rows have read: their keys and values, flat. A pass with a
// cache reads new tokens behind them, and leaves it with those of both. Prefixes are not in it: they stand in front of
// every row in every pass.
type cache struct {
	scope        *torch.Scope    // that owns keys and values
	lengths      []int           // keys of each row; nil before the first pass
	keys, values []*torch.Tensor // of each layer [keys of all rows, D]
}

// growth is how a pass adds its tokens to a cache: all layers do it alike.
type growth struct {
	cache   *cache
	next    *cache        // what it becomes
	parents []int         // of each row, the row of the cache that it continues
	order   *torch.Tensor // indices of each row's keys among the cache's and then the pass's
	starts  []int64       // where each row's keys begin, and the last one's end
}

// grow prepares the cache of a pass for its tokens.
func (p *pass) grow() {
	g := p.growth
	if g == nil || p.Err() != nil {
		return
	}
	begins, total := make([]int, len(g.cache.lengths)), 0 // of the cache's rows
	for i, length := range g.cache.lengths {
		begins[i], total = total, total+length
	}
	var order []int64
	g.starts = []int64{0}
	at := total // of the pass's tokens
	for i, length := range p.batch.Lengths {
		past := 0
		if total > 0 {
			past = g.cache.lengths[g.parents[i]]
			for j := range past {
				order = append(order, int64(begins[g.parents[i]]+j))
			}
		}
		for range length {
			order, at = append(order, int64(at)), at+1
		}
		g.next.lengths = append(g.next.lengths, past+length)
		g.starts = append(g.starts, int64(len(order)))
	}
	g.order = torch.From(p.Scope, order, len(order))
	g.next.keys, g.next.values = make([]*torch.Tensor, len(p.net.modules)), make([]*torch.Tensor, len(p.net.modules))
}

// known is how many keys a row of the pass has before its tokens.
func (p *pass) known(row int) int {
	if p.growth == nil || p.growth.cache.lengths == nil {
		return 0
	}
	return p.growth.cache.lengths[p.growth.parents[row]]
}

// position is that of the first of a row's tokens. A prompt that stands behind the positions' embeddings has none.
func (p *pass) position(row int) int {
	at := p.known(row)
	if prompt := p.net.prompt; prompt != nil && prompt.Normed && at > 0 {
		at -= prompt.Length
	}
	return at
}

// cached is what a layer's attention reads where there is a cache.
func (p *pass) cached(layer int, keys, values *torch.Tensor) memory {
	g := p.growth
	join := func(past []*torch.Tensor, now *torch.Tensor) *torch.Tensor {
		if g.cache.lengths != nil {
			now = p.Cat(0, past[layer], now)
		}
		return p.Select(now, g.order)
	}
	keys, values = join(g.cache.keys, keys), join(g.cache.values, values)
	g.next.keys[layer], g.next.values[layer] = g.next.scope.Detach(keys), g.next.scope.Detach(values)
	if err := g.next.scope.Err(); err != nil {
		p.Fail(err)
	}
	return memory{keys: keys, values: values, prefix: p.prefixes[layer], starts: g.starts, scale: p.scale()}
}
