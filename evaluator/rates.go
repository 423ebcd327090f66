package evaluator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"peftsearch/peft"
)

// Rates are learning rates by what they are for: a method, or the head. It is a text, such as "head=0.001,lora=0.002",
// so that settings can be compared; in JSON it is an object.
type Rates string

// RateHead stands for the head among the names of rates.
const RateHead = "head"

// NewRates spells rates in one way.
func NewRates(rates map[string]float64) Rates {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(rates)) {
		parts = append(parts, name+"="+strconv.FormatFloat(rates[name], 'g', -1, 64))
	}
	return Rates(strings.Join(parts, ","))
}

// Map has the rates by name.
func (r Rates) Map() map[string]float64 {
	rates := map[string]float64{}
	for part := range strings.SplitSeq(string(r), ",") {
		if name, value, ok := strings.Cut(part, "="); ok {
			rates[name], _ = strconv.ParseFloat(value, 64) // as NewRates wrote it
		}
	}
	return rates
}

// Validate refuses names of nothing and rates outside of 1e-12 to 1.
func (r Rates) Validate() error {
	for name, rate := range r.Map() {
		if name != RateHead && !slices.Contains(peft.Methods, peft.Method(name)) {
			return fmt.Errorf("learning rate of %q: must be of %s or one of %v", name, RateHead, peft.Methods)
		}
		if !(rate >= 1e-12 && rate <= 1) {
			return fmt.Errorf("learning rate of %s %g: must be between 1e-12 and 1", name, rate)
		}
	}
	return nil
}

// MarshalJSON writes an object.
func (r Rates) MarshalJSON() ([]byte, error) { return json.Marshal(r.Map()) }

// UnmarshalJSON reads one.
func (r *Rates) UnmarshalJSON(data []byte) error {
	var rates map[string]float64
	if err := json.Unmarshal(data, &rates); err != nil {
		return err
	}
	*r = NewRates(rates)
	return nil
}
