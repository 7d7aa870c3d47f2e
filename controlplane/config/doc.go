// Package config turns a directory of YAML files into one validated, immutable
// [Config].
//
// The directory holds vrgate.yaml, which describes the process, and one file
// per virtual router below vr/ (vr/NAME.yaml; the virtual router is called
// NAME). Files that start with a dot or do not end in .yaml are ignored, so
// that an editor's back-up never becomes a tenant.
//
// Reading is strict and all or nothing. Every mistake of every file is reported
// at once as file:line:column with a sentence: syntax, unknown keys, wrong
// types, values out of range, references to names that do not exist, and
// contradictions between files. With one mistake or more there is no Config;
// with none there is one that nobody has to check again: references are
// resolved, defaults are filled in, secrets are read. What is legal but unwise
// (a weak algorithm, a short key, a secret file the world can read) comes back
// as warnings.
//
// The package has two sets of types. The file types in file.go are the YAML as
// it is written and the source of the JSON schema and of the reference page;
// they stay inside. The types in config.go are plain values (netip, durations,
// enums) for everybody else. Nothing of the YAML library leaves the package,
// and the package imports nothing else of vrgate.
//
// The requirement identifiers in the comments (G3, K3 ...) are those of
// requirements.md.
package config
