// Package mirror lets a resolver be copied and copy others. Server offers what a
// store holds; Sync takes it over from others, and believes nothing that it
// cannot check.
//
// What a server offers:
//
//	GET /export?after=SEQ    accepted events in their order, with the bundles that hold them
//	GET /stream?after=SEQ    the same events as they come, without bundles (server-sent events)
//	GET /ranges?prefix=P     digests of ranges of records, for package compare
//	GET /objects/sha256/HEX  an event or a bundle by its digest, for ever the same
//	GET /_health             how far this mirror is, and how far behind others
//
// What is exported is one JSON value per line. A line about an event is followed,
// after the last event of its record in this answer, by the bundle of the
// record; the last line says where to go on:
//
//	{"seq":7,"event_id":"sha256:…","suffix":"CWPY…","sha256":"…"}
//	{"bundle":{…}}
//	{"next":8,"head":8}
//
// The lines about events are the leaves of the mirror's transparency log. Who
// follows the export therefore recomputes the root of the log, from nothing
// but what it was given, and holds it to the checkpoint that the mirror signed.
// A mirror that leaves an event out, shows different histories to different
// readers, or rewrites what it said before is found out by its next checkpoint.
package mirror
