// Package flink carries the sources of the Java harness, so that whoever runs the lab has them at hand whatever the
// working directory. README.md says what the harness does; package flinklab builds and runs it.
package flink

import "embed"

// Source holds pom.xml and src.
//
//go:embed pom.xml src
var Source embed.FS
