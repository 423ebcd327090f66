package checkpoint

// arrangement is how files hold a tensor: as one of several parts that stand side by side along the outputs, and with
// matrices turned, [in, out].
type arrangement struct {
	turned      bool
	part, parts int
}

// take is the tensor [out, in] or [out] of what a file has, which it shares memory with only if nothing is changed. A
// tensor of another form than the arrangement's stays as it is, for its shape to be reported.
func (a arrangement) take(t Tensor) Tensor {
	if !a.turned && a.parts == 1 {
		return t
	}
	rows, out := 1, 0 // of the file's tensor
	switch len(t.Shape) {
	case 1:
		out = t.Shape[0]
	case 2:
		rows, out = t.Shape[0], t.Shape[1]
	}
	if out == 0 || out%a.parts != 0 {
		return t
	}
	size, width := int(dtypeSizes[t.DType]), out/a.parts
	taken := Tensor{DType: t.DType, Shape: []int{width}, Data: make([]byte, 0, rows*width*size)}
	if len(t.Shape) == 2 {
		taken.Shape = []int{width, rows}
	}
	for column := a.part * width; column < (a.part+1)*width; column++ {
		for row := range rows {
			taken.Data = append(taken.Data, t.Data[(row*out+column)*size:][:size]...)
		}
	}
	return taken
}

// InFile gives float32 tensors of a backbone, by their canonical names, the names and forms that transformers' bare
// model has in its files. Parts of one tensor must all be there.
func InFile(modelType string, tensors map[string]Tensor) map[string]Tensor {
	arrange, out := modelTypes[modelType].arrange, map[string]Tensor{}
	for name, t := range tensors {
		file := NameInFile(modelType, name)
		if arrange == nil {
			out[file] = t
			continue
		}
		a := arrange(name)
		if !a.turned && a.parts == 1 {
			out[file] = t
			continue
		}
		width, rows := t.Shape[0], 1
		shape := []int{a.parts * width}
		if len(t.Shape) == 2 {
			rows = t.Shape[1]
			shape = []int{rows, a.parts * width}
		}
		whole, ok := out[file]
		if !ok {
			whole = NewTensor(make([]float32, rows*a.parts*width), shape...)
			out[file] = whole
		}
		size := int(dtypeSizes[t.DType])
		for column := range width {
			for row := range rows {
				copy(whole.Data[(row*a.parts*width+a.part*width+column)*size:][:size], t.Data[(column*rows+row)*size:])
			}
		}
	}
	return out
}
