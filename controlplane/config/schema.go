package config

import _ "embed"

// The JSON schemas are generated from the file types by `go generate`, because
// their descriptions are comments, which a program does not have at run time.
//
//go:embed schema/process.schema.json
var processSchema []byte

//go:embed schema/router.schema.json
var routerSchema []byte

// ProcessSchema returns the JSON schema of vrgate.yaml.
func ProcessSchema() []byte { return processSchema }

// RouterSchema returns the JSON schema of a virtual router's file.
func RouterSchema() []byte { return routerSchema }
