"""Use cases: rules, one transaction, one line of audit. Plain functions; they know no HTTP and no socket."""
