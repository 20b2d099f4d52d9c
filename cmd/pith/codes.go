package main

// A mirrorCode is a reason that a mirror gives beside those of package pith: when it
// refuses what was sent, or when pith fsck finds something in its files.
type mirrorCode struct{ code, means, then string }

// What to do about what pith fsck finds.
const (
	restore = "stop the mirror and restore a backup; without one fill a new database from another mirror or an archive"
	relog   = "stop the mirror and move log in its data directory away: the next start writes it again from the database"
	history = "stop the mirror before it signs more, restore the newest backup and copy what was lost from another mirror; where that cannot be, begin a new log with pith serve --new-log"
	readd   = "pith mirror remove it and add it again"
	remake  = "name the key document with --trust, or have a moderator reject it and send it again"
)

// mirrorCodes are those codes, in the order in which somebody meets them.
var mirrorCodes = []mirrorCode{
	{"busy", "the mirror has too much to do", "send it again after the seconds of Retry-After"},
	{"rate_address", "too much came from this address", "send it again after the seconds of Retry-After"},
	{"rate_signer", "too many events came that this key signed", "send it again after the seconds of Retry-After"},
	{"queue_full", "too much waits for a moderator", "send it again later, or ask whoever runs the mirror"},
	{"size", "it is larger than this mirror takes", "send less at once; what strangers sign has the lowest limit"},
	{"storage_full", "the mirror has no room left", "whoever runs it makes room on its disk; then it goes on by itself"},
	{"internal", "the mirror could not do it", "send it again; whoever runs the mirror finds the reason in its log"},
	{"unreadable", "the request or the database could not be read to its end", "send it again; where pith fsck says so, " + restore},
	{"record_not_found", "this mirror does not have the record that the event is about", "send the bundle of the record, which brings the record with it"},
	{"key_not_declared", "the key that signed the event is not known here", "pith key declare URL, or send the bundle, which brings the key with it"},
	{"other_record", "it was put where another record belongs", "send it to /pith/NUMBER/bundle.json with its own number"},
	{"moderated", "a moderator kept it out", "ask whoever runs the mirror"},
	{"came_in", "it waited for a moderator, and came in when it was sent again", ""},
	{"after_all", "a moderator kept it out, and let it in later", ""},
	{"unauthorized", "only who knows the moderator's token may do this", "send the header Authorization: Bearer TOKEN; pith serve --moderator-file sets the token"},
	{"not_found", "no submission has this number", "GET /moderation lists them"},
	{"status", "a submission has no such status", "ask for queued, accepted, rejected or refused"},
	{"not_queued", "it does not wait for a moderator: it was let in, rejected or refused before", "GET /moderation?status=accepted, rejected or refused lists those"},

	{"integrity", "SQLite finds its own file damaged", restore},
	{"index", "an index of the database does not fit its table", restore},
	{"bundle_missing", "a record has no bundle", restore},
	{"bundle_orphan", "a bundle has no record", restore},
	{"bundle_damaged", "a bundle cannot be read", restore},
	{"bundle_invalid", "a bundle does not verify", restore},
	{"bundle_form", "a bundle is not in canonical form", restore},
	{"record_row", "what stands about a record is not what its bundle says", restore},
	{"search_words", "a record is not found by its words, or by others", restore},
	{"alias_missing", "a name of a record does not lead to it", restore},
	{"alias_orphan", "a name leads to no record", restore},
	{"alias_number", "a record has more or fewer names than lead to it", restore},
	{"search_missing", "a record is not found by any word", restore},
	{"search_orphan", "words lead to no record", restore},
	{"citation_orphan", "a citation belongs to no event", restore},
	{"citation_type", "a citation is of an event that is none", restore},
	{"citation_twice", "a citation stands twice", restore},
	{"citation_missing", "a citation is not found by what it cites", restore},
	{"event_orphan", "an event has no record", restore},
	{"event_numbers", "the order of events has gaps", restore},
	{"event_missing", "an event of a bundle has no place in the order", restore},
	{"event_row", "what stands about an event is not what the bundle says", restore},
	{"event_lost", "a bundle lacks an event that was let in", restore},
	{"event_gap", "an event is missing in the order", restore},
	{"key_missing", "a key of a bundle is not known", restore},
	{"key_unused", "a key that signed something counts as one that did not", restore},
	{"key_damaged", "a key cannot be read", restore},
	{"held_damaged", "something that waits, or was kept out, cannot be read", restore},
	{"held_status", "something is held, nobody knows whether as waiting", restore},
	{"held_row", "something that waits is not what it is held as", restore},
	{"counter", "a count is not that of what was counted", restore},
	{"counter_row", "there are no counts, or several", restore},
	{"policy_missing", "a key document that a moderator accepted is not part of the policy", remake},
	{"policy_damaged", "a key document of the policy cannot be read", remake},
	{"policy_unknown", "a key document of the policy was let in by no moderator", restore},
	{"policy_conflict", "a key document cannot stand beside the others and is left out", remake},
	{"mirror_settings", "what stands about a copied mirror cannot be read", readd},
	{"mirror_progress", "how far a mirror was copied cannot be read", readd},
	{"mirror_evidence", "what a mirror signed and contradicted cannot be read", restore},
	{"log_checkpoint", "a checkpoint is not one that this mirror's key signed", "put the right mirror-key.json back, if it is another one; else " + relog},
	{"log_truncated", "the log ends before a checkpoint that was published", relog},
	{"log_missing", "a file of the log is missing", relog},
	{"log_file", "a file in the directory of the log does not belong there", relog},
	{"log_unreadable", "a file of the log cannot be read", relog},
	{"log_tile", "hashes of the log are not those of the events", relog},
	{"log_entries", "entries of the log are not the events", relog},
	{"log_forgotten", "the database does not remember what was signed, so a larger log may have been", history},
	{"log_ahead", "the mirror signed more events than the database has", history},
	{"log_root", "the mirror signed other events than the database has", history},
}
