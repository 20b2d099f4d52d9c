// Package export writes a verified record in the forms that other systems read:
// JSON-LD with schema.org, BibTeX, CSL-JSON, RIS and a detached RO-Crate, and as
// a badge. [New] picks what a trusted signer says about the paper; the methods
// of [Record] write it.
//
// The source keeps authors in alphabetical order of their given names and not in
// that of the paper. Formats whose author field is a byline (BibTeX, CSL-JSON,
// RIS) therefore do not get one: the names stand in a note that says so. In
// JSON-LD an author list is a set, and says so as well.
package export
