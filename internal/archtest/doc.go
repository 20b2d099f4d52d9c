// Package archtest holds the architecture in place: its test compares what
// every package imports with the table in docs/map.md and fails when a package
// leans on something it should not, or when a package is missing from the
// table. It contains no code of its own.
package archtest
