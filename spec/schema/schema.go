// Package schema embeds the JSON Schemas of the formats, so that programs can
// serve them and validate with them.
package schema

import "embed"

// Files holds the schemas under the names they have in this folder, such as
// bundle.json and payload/correction.json.
//
//go:embed *.json payload/*.json
var Files embed.FS
