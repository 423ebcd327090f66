package config

import (
	"maps"
	"reflect"
	"slices"

	"peftsearch/space"
)

// Values are keys of a study file, dotted, with their values in one canonical spelling. They are what is
// kept of a study to recognise it by, so they depend on no name and no layout of this program's types.
type Values map[string]string

// Identity lists the keys that a study's scores and proposals depend on. The space is the resolved one of
// the study's model. Keys that name files are not among them: their contents are compared.
func (c *Config) Identity(resolved space.Config) Values {
	whole := *c
	whole.Space = resolved
	keys := values(reflect.ValueOf(whole), identityYes)
	if c.Training.LearningRate == AutoRate { // what it becomes will be
		delete(keys, "training.learning_rate")
	}
	return keys
}

// Sources lists the keys that say where the contents of model and data come from. When contents differ,
// those that differ may be why.
func (c *Config) Sources() Values { return values(reflect.ValueOf(*c), identityContents) }

// Continue makes the file one of a study that was started with the given values: keys that are newer than the
// study, and that the file does not name, get the value that studies had before they existed.
func (c *Config) Continue(started Values) {
	continueWith(reflect.ValueOf(c).Elem(), c.file, started)
}

func continueWith(file reflect.Value, d *document, started Values) {
	walk(file, "", identityYes, func(k key, value reflect.Value) {
		_, known := started[k.path]
		_, named := d.where[k.path]
		if k.identity == identityYes && !known && !named && k.was != k.standard {
			parseDefault(k.was, value)
		}
	})
}

func values(file reflect.Value, identity string) Values {
	out := Values{}
	walk(file, "", identityYes, func(k key, value reflect.Value) {
		if k.identity == identity {
			out[k.path] = canonical(value)
		}
	})
	return out
}

// Change is a key with two values.
type Change struct{ Key, Old, New string }

// Changes lists the keys that differ, sorted. A key that the old values lack is newer than they are: it
// differs if its value is not the one that studies had before it existed. A key that the present values lack
// differs if this program does not know it, since it cannot honour it then.
func Changes(old, now Values) []Change { return changes(old, now, reflect.TypeFor[Config]()) }

func changes(old, now Values, file reflect.Type) []Change {
	known := map[string]key{}
	walk(reflect.New(file).Elem(), "", identityYes, func(k key, _ reflect.Value) { known[k.path] = k })
	all := Values{}
	maps.Copy(all, old)
	maps.Copy(all, now)
	var out []Change
	for _, name := range slices.Sorted(maps.Keys(all)) {
		change := Change{name, old[name], now[name]}
		k, isKnown := known[name]
		if _, given := old[name]; !given && isKnown {
			change.Old = k.before()
		}
		if _, given := now[name]; !given && isKnown { // a key that scores no longer depend on
			continue
		}
		if change.Old != change.New {
			out = append(out, change)
		}
	}
	return out
}
