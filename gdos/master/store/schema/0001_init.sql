CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('online', 'offline', 'planned')),
    hostname TEXT NOT NULL DEFAULT '',
    os TEXT NOT NULL DEFAULT '',
    arch TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT '',
    version TEXT NOT NULL DEFAULT '',
    labels TEXT NOT NULL DEFAULT '{}',
    allow TEXT NOT NULL DEFAULT '[]',
    facts TEXT NOT NULL DEFAULT '{}',
    work_dir TEXT NOT NULL DEFAULT '',
    credential TEXT UNIQUE,                      -- SHA-256 of the node's own token
    wanted_revision INTEGER NOT NULL DEFAULT 0,  -- counts the changes of what is wanted on it
    report_epoch TEXT NOT NULL DEFAULT '',
    report_seq INTEGER NOT NULL DEFAULT 0,       -- stored reports of that epoch
    joined_at INTEGER NOT NULL,
    last_seen INTEGER
) STRICT;

CREATE TABLE packages (
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    os TEXT NOT NULL DEFAULT '',
    description TEXT NOT NULL DEFAULT '',
    manifest TEXT NOT NULL,
    uploaded_at INTEGER NOT NULL,
    uploaded_by TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE INDEX packages_by_sha256 ON packages (sha256);

CREATE TABLE systems (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE modules (
    id TEXT PRIMARY KEY,
    system TEXT NOT NULL REFERENCES systems (id),
    name TEXT NOT NULL,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    previous_version TEXT NOT NULL DEFAULT '',
    count INTEGER NOT NULL DEFAULT 1,
    depends_on TEXT NOT NULL DEFAULT '[]',
    config TEXT NOT NULL DEFAULT '{}',
    created_at INTEGER NOT NULL,
    UNIQUE (system, name)
) STRICT;

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    system TEXT NOT NULL REFERENCES systems (id),
    module TEXT NOT NULL REFERENCES modules (id),
    node TEXT NOT NULL REFERENCES nodes (id),
    -- wanted
    present INTEGER NOT NULL DEFAULT 1,
    run INTEGER NOT NULL DEFAULT 1,
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    previous_version TEXT NOT NULL DEFAULT '',
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    env TEXT NOT NULL DEFAULT '{}',
    ports TEXT NOT NULL DEFAULT '{}',
    start_serial INTEGER NOT NULL DEFAULT 0,
    restart_serial INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL,
    -- reported
    state TEXT NOT NULL DEFAULT 'pending',
    reason TEXT NOT NULL DEFAULT '',
    pid INTEGER,
    started_at INTEGER,
    restarts INTEGER NOT NULL DEFAULT 0,
    reported_sha256 TEXT NOT NULL DEFAULT '',
    reported_revision INTEGER NOT NULL DEFAULT 0,
    reported_at INTEGER,
    log_tail TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX instances_by_node ON instances (node, revision);
CREATE INDEX instances_by_module ON instances (module);
CREATE INDEX instances_by_sha256 ON instances (sha256);
CREATE UNIQUE INDEX instances_by_name ON instances (system, name);

CREATE TABLE instance_events (
    number INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    who TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX events_by_instance ON instance_events (instance, number);

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;
CREATE INDEX tasks_by_time ON tasks (created_at);
CREATE INDEX tasks_open ON tasks (state) WHERE finished_at IS NULL;

CREATE TABLE task_steps (
    task TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    target TEXT NOT NULL,
    instance TEXT NOT NULL,
    goal TEXT NOT NULL,            -- running, stopped or gone
    revision INTEGER NOT NULL,     -- reached when the instance reports at least this one
    state TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (task, number)
) STRICT;
CREATE INDEX steps_open ON task_steps (instance) WHERE state IN ('queued', 'running');

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL,        -- argon2id
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (            -- of the console and of `gdos login`
    secret TEXT PRIMARY KEY,       -- SHA-256 of the token
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('cookie', 'bearer')),
    address TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (              -- of programs
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER,
    expires_at INTEGER
) STRICT;

CREATE TABLE join_tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    secret TEXT NOT NULL UNIQUE,
    uses_left INTEGER,             -- NULL: any number
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;

CREATE TABLE login_failures (
    who TEXT PRIMARY KEY,          -- 'account:NAME' or 'address:PREFIX'
    count INTEGER NOT NULL,
    until INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    result TEXT NOT NULL,
    chain TEXT NOT NULL            -- SHA-256 over the previous chain value and this row
) STRICT;

CREATE TABLE idempotency (
    key TEXT PRIMARY KEY,          -- who + method + path + Idempotency-Key
    body TEXT NOT NULL,            -- SHA-256 of the request's body
    status INTEGER NOT NULL,
    answer TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
