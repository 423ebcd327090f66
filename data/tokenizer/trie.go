package tokenizer

import (
	"fmt"
	"slices"

	"peftsearch/data/quote"
)

// trie finds which strings of a set a text begins with.
type trie struct {
	nodes []trieNode
	first [256]int32 // child of the root by label, or 0
}

type trieNode struct {
	children int32 // index of the first; they lie side by side, in the order of their labels
	value    int32 // of the string that ends here, or -1
	count    uint16
	label    byte
}

// maxLength is more bytes than any token has. It bounds how often a search reads the same byte.
const maxLength = 1 << 10

// newTrie makes a trie of strings, which are not empty, with values of at least 0.
func newTrie(values map[string]int32) (*trie, error) {
	keys := make([]string, 0, len(values))
	for key := range values {
		if len(key) > maxLength {
			return nil, fmt.Errorf("token %s is longer than %d bytes", quote.Text(key), maxLength)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	t := &trie{nodes: make([]trieNode, 1, 2*len(keys)+1)}
	type open struct{ low, high, depth int } // the keys of a node and the length of what it stands for
	queue := []open{{0, len(keys), 0}}
	for n := 0; n < len(queue); n++ {
		o := queue[n]
		t.nodes[n].value = -1
		if o.low < o.high && len(keys[o.low]) == o.depth {
			t.nodes[n].value = values[keys[o.low]]
			o.low++
		}
		t.nodes[n].children = int32(len(t.nodes))
		for o.low < o.high {
			label, end := keys[o.low][o.depth], o.low+1
			for end < o.high && keys[end][o.depth] == label {
				end++
			}
			if n == 0 {
				t.first[label] = int32(len(t.nodes))
			}
			t.nodes[n].count++
			t.nodes = append(t.nodes, trieNode{label: label})
			queue = append(queue, open{o.low, end, o.depth + 1})
			o.low = end
		}
	}
	return t, nil
}

// prefixes calls yield for every string that text begins with, shortest first: its length and its value.
func (t *trie) prefixes(text string, yield func(length int, value int32)) {
	if text == "" {
		return
	}
	n := t.first[text[0]]
	for i := 1; n != 0; i++ {
		node := &t.nodes[n]
		if node.value >= 0 {
			yield(i, node.value)
		}
		if i == len(text) {
			return
		}
		n = t.child(node, text[i])
	}
}

// longest is the longest string that text begins with; its length is 0 if there is none.
func (t *trie) longest(text string) (length int, value int32) {
	t.prefixes(text, func(l int, v int32) { length, value = l, v })
	return length, value
}

// child is the index of a node's child, or 0.
func (t *trie) child(node *trieNode, label byte) int32 {
	children := t.nodes[node.children : node.children+int32(node.count)]
	low, high := 0, len(children)
	for low < high {
		if middle := (low + high) / 2; children[middle].label < label {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low < len(children) && children[low].label == label {
		return node.children + int32(low)
	}
	return 0
}
