package model

import "peftsearch/peft"

func init() { methods[peft.MethodIA3] = declareIA3 }

// declareIA3 initialises the vectors with 1, so that fresh ones change nothing.
func declareIA3(d *declaration, m peft.Module) error {
	for _, tensor := range m.Tensors(d.geometry) {
		set(&d.scales, peft.Target(tensor.Name), d.add(tensor.Name, constant(1), decay, tensor.Shape...))
	}
	return nil
}
