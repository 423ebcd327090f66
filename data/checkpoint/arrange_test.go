package checkpoint

import (
	"maps"
	"reflect"
	"testing"
)

// What is taken out of a file's tensors comes back into them.
func TestInFileUndoesTheArrangement(t *testing.T) {
	const d, f = 4, 6
	attention := make([]float32, d*3*d) // [in, 3·out]
	for i := range attention {
		attention[i] = float32(i)
	}
	bias, ffn := attention[:3*d], attention[:d*f]
	file := map[string]Tensor{"h.1.attn.c_attn.weight": NewTensor(attention, d, 3*d),
		"h.1.attn.c_attn.bias": NewTensor(bias, 3*d), "h.1.mlp.c_fc.weight": NewTensor(ffn, d, f),
		"ln_f.bias": NewTensor(bias, 3*d)}
	canonical := map[string]Tensor{}
	for _, name := range []string{"attention.self.query.weight", "attention.self.key.weight",
		"attention.self.value.weight", "attention.self.query.bias", "attention.self.key.bias", "attention.self.value.bias",
		"intermediate.dense.weight"} {
		name = "decoder.layer.1." + name
		canonical[name] = gpt2Arrangement(name).take(file[NameInFile(GPT2, name)])
	}
	canonical["decoder.LayerNorm.bias"] = file["ln_f.bias"]

	key := canonical["decoder.layer.1.attention.self.key.weight"]
	if got := key.Float32()[1]; got != 16 { // in 1, out 0 of the second part
		t.Errorf("the second input of the first key has weight %g, want 16", got)
	}
	if got := canonical["decoder.layer.1.attention.self.value.bias"].Float32(); !reflect.DeepEqual(got, bias[2*d:]) {
		t.Errorf("the values' bias is %v", got)
	}
	if got := canonical["decoder.layer.1.intermediate.dense.weight"].Shape; !reflect.DeepEqual(got, []int{f, d}) {
		t.Errorf("the feed-forward matrix has shape %v", got)
	}
	equal := func(a, b Tensor) bool { return reflect.DeepEqual(a, b) }
	if got := InFile(GPT2, canonical); !maps.EqualFunc(got, file, equal) {
		t.Errorf("got %v, want %v", got, file)
	}
}
