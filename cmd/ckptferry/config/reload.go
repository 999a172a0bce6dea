package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// reloaded are the keys of the top level that may change while the agent runs.
var reloaded = []string{"limits", "tls", "log"}

// Reload reads the file of a configuration that an agent runs with again. What may change while it runs is limits, tls
// (but not whether there is any) and log: changed names those that did. If anything else has changed, the error is
// *Errors, which names it and where it stands, and nothing of the file is to be taken: what was meant together is taken
// together. The other errors are ReadAgent's.
func Reload(running Agent, env func(string) string) (fresh Agent, changed []string, err error) {
	fresh, d, err := readAgent(running.File, env)
	if err != nil {
		return Agent{}, nil, err
	}
	was, is := reflect.ValueOf(running), reflect.ValueOf(fresh)
	for i := range was.NumField() {
		key := was.Type().Field(i).Tag.Get("yaml")
		before, now := was.Field(i), is.Field(i)
		switch {
		case key == "" || reflect.DeepEqual(before.Interface(), now.Interface()):
		case slices.Contains(reloaded, key):
			changed = append(changed, key)
		default:
			d.restart(before, now, keys{key})
		}
	}
	if running.TLS.Set() != fresh.TLS.Set() {
		d.problem(keys{"tls"}, "tls can't be turned on or off while the agent runs: put it back, or restart the agent to take it")
	}
	if err := d.err(); err != nil {
		return Agent{}, nil, err
	}
	return fresh, changed, nil
}

// restart names each value in which two that differ do.
func (d *document) restart(was, is reflect.Value, p keys) {
	switch was.Kind() {
	case reflect.Struct:
		for i := range was.NumField() {
			if tag := was.Type().Field(i).Tag.Get("yaml"); tag != "" && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
				d.restart(was.Field(i), is.Field(i), p.in(tag))
			}
		}
		return
	case reflect.Map:
		names := map[string]bool{}
		for _, m := range []reflect.Value{was, is} {
			for _, name := range m.MapKeys() {
				names[name.String()] = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(names)) {
			before, now := was.MapIndex(reflect.ValueOf(name)), is.MapIndex(reflect.ValueOf(name))
			switch {
			case !before.IsValid():
				d.problem(p.in(name), "%s: %q is new, and is not taken while the agent runs: restart the agent to take it", describe(p), name)
			case !now.IsValid():
				d.problem(p, "%s: %q is gone, and the running agent goes on with it: put it back, or restart the agent", describe(p), name)
			case !reflect.DeepEqual(before.Interface(), now.Interface()):
				d.restart(before, now, p.in(name))
			}
		}
		return
	}
	d.problem(p, "%s has changed from %s, and is not taken while the agent runs: put it back, or restart the agent to take it", describe(p), said(was))
}

// said is a value as a person would write it.
func said(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return fmt.Sprintf("%q", v.String())
	}
	if v.Kind() == reflect.Slice && v.Len() == 0 {
		return "nothing"
	}
	return fmt.Sprint(v.Interface())
}
