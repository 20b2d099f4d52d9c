// Package resolver is a mirror of Pith records: it takes bundles and events from
// strangers, keeps what its rules let in, and answers with what it holds in a
// form that everybody can check.
//
// A [Store] keeps records; packages memstore, sqlite and postgres are stores. A
// [Service] is the only writer: whatever arrives, by HTTP, from a file or from
// another mirror, goes through [Service.Submit], which verifies it, asks the
// policy, and unites it with what is there. The [Server] gives a service to the
// network.
//
// Three promises hold across a crash at any moment: what was acknowledged is
// stored; every accepted event has one place in an order that never changes
// (its seq); and the transparency log of package tlog repeats that order.
package resolver
