package peft

import "peftsearch/data/onnx"

func (a Serial) graph(l *layerGraph) {
	l.fed = append(l.fed, func(total, f, input onnx.Value, norm string) onnx.Value {
		return l.Add(total, l.bottleneck(a.Method(), "", a.Full(), l.norm(l.Add(f, input), norm),
			l.matrices(a.Method(), "")))
	})
}

func (a Parallel) graph(l *layerGraph) {
	l.fed = append(l.fed, func(total, _, input onnx.Value, _ string) onnx.Value {
		return l.Add(total, l.bottleneck(a.Method(), "", a.Full(), input, l.matrices(a.Method(), "")))
	})
}

func (a Houlsby) graph(l *layerGraph) {
	hook := func(prefix string) func(total, f, input onnx.Value, norm string) onnx.Value {
		return func(total, f, _ onnx.Value, _ string) onnx.Value {
			return l.Add(total, l.bottleneck(a.Method(), prefix, a.Full(), f, l.matrices(a.Method(), prefix)))
		}
	}
	l.attended, l.fed = append(l.attended, hook("attention.")), append(l.fed, hook("ffn."))
}
