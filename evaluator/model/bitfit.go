package model

import "peftsearch/peft"

func init() { methods[peft.MethodBitFit] = declareBitFit }

// declareBitFit begins with the backbone's own values, in whose place the family is bound to the trained ones.
func declareBitFit(d *declaration, m peft.Module) error {
	module := m.(peft.BitFit)
	for _, tensor := range module.Tensors(d.geometry) {
		name := module.CheckpointName(d.geometry, d.layer, tensor.Name)
		values, err := d.weight(name)
		if err != nil {
			return err
		}
		set(&d.weights, name, d.add(tensor.Name, given(values), 0, tensor.Shape...))
	}
	return nil
}
