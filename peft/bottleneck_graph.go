package peft

import "peftsearch/data/onnx"

func (a Serial) graph(l *layerGraph) {
	l.fed = append(l.fed, func(total, f, input onnx.Value, norm func(onnx.Value) onnx.Value) onnx.Value {
		return l.Add(total, l.bottleneck(a.Method(), "", a.Full(), norm(l.Add(f, input)),
			l.matrices(a.Method(), "")))
	})
}

func (a Parallel) graph(l *layerGraph) {
	l.fed = append(l.fed, func(total, _, input onnx.Value, _ func(onnx.Value) onnx.Value) onnx.Value {
		return l.Add(total, l.bottleneck(a.Method(), "", a.Full(), input, l.matrices(a.Method(), "")))
	})
}

func (a Houlsby) graph(l *layerGraph) {
	hook := func(prefix string) sumHook {
		return func(total, f, _ onnx.Value, _ func(onnx.Value) onnx.Value) onnx.Value {
			return l.Add(total, l.bottleneck(a.Method(), prefix, a.Full(), f, l.matrices(a.Method(), prefix)))
		}
	}
	l.attended, l.fed = append(l.attended, hook("attention.")), append(l.fed, hook("ffn."))
}
