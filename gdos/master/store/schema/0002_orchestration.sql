-- Configuration: each change of a system's, module's or instance's values is a version of its own.
CREATE TABLE config_versions (
    scope TEXT NOT NULL,           -- id of the system, module or instance
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    entries TEXT NOT NULL,         -- {name: {"v": value}} or, for a secret, {name: {"s": encrypted}}
    PRIMARY KEY (scope, number)
) STRICT, WITHOUT ROWID;
INSERT INTO config_versions (scope, number, at, who, note, entries)
    SELECT id, 1, created_at, 'gdos', 'as it was before version 2 of the database',
        (SELECT json_group_object(key, json_object('v', value)) FROM json_each(json_extract(config, '$.env')))
    FROM modules WHERE json_extract(config, '$.env') IS NOT NULL AND json_extract(config, '$.env') <> '{}';
INSERT INTO config_versions (scope, number, at, who, note, entries)
    SELECT id, 1, created_at, 'gdos', 'as it was before version 2 of the database',
        (SELECT json_group_object(key, json_object('v', value)) FROM json_each(env))
    FROM instances WHERE env <> '{}';
ALTER TABLE modules DROP COLUMN config;
ALTER TABLE instances DROP COLUMN env;

UPDATE modules SET depends_on =
    (SELECT json_group_array(json_object('module', value)) FROM json_each(depends_on)) WHERE depends_on <> '[]';
ALTER TABLE modules ADD COLUMN placement TEXT NOT NULL DEFAULT '{}';
ALTER TABLE modules ADD COLUMN strategy TEXT NOT NULL DEFAULT '{}';  -- of upgrades
ALTER TABLE modules ADD COLUMN external TEXT NOT NULL DEFAULT '';    -- the manifest of what was adopted

ALTER TABLE instances ADD COLUMN kind TEXT NOT NULL DEFAULT 'service';
ALTER TABLE instances ADD COLUMN external TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN staged TEXT NOT NULL DEFAULT '';    -- version that is to be ready beside
ALTER TABLE instances ADD COLUMN reported_config TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN reported_staged TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN staged_error TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN next_due INTEGER;

CREATE TABLE instance_runs (
    id INTEGER PRIMARY KEY,
    instance TEXT NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    due INTEGER,
    code INTEGER,
    signal INTEGER,
    reason TEXT NOT NULL,
    log TEXT NOT NULL,
    log_tail TEXT NOT NULL,
    is_oom INTEGER NOT NULL,
    is_asked INTEGER NOT NULL,
    skipped INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_by_instance ON instance_runs (instance, id);

ALTER TABLE tasks ADD COLUMN is_paused INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN note TEXT NOT NULL DEFAULT '';          -- why it waits, or what it decided
ALTER TABLE tasks ADD COLUMN options TEXT NOT NULL DEFAULT '{}';     -- the strategy of a rollout
ALTER TABLE task_steps ADD COLUMN value TEXT NOT NULL DEFAULT '';    -- the version of an upgrade
ALTER TABLE task_steps ADD COLUMN before TEXT NOT NULL DEFAULT ''; -- the version that it replaced
ALTER TABLE task_steps ADD COLUMN phase TEXT NOT NULL DEFAULT '';
ALTER TABLE task_steps ADD COLUMN needs TEXT NOT NULL DEFAULT '[]';  -- what must be before it is asked for
ALTER TABLE task_steps ADD COLUMN is_issued INTEGER NOT NULL DEFAULT 1;
ALTER TABLE task_steps ADD COLUMN hold_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task_steps ADD COLUMN good_since INTEGER;                -- healthy since; done after hold_ms of it
ALTER TABLE task_steps ADD COLUMN restarts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE task_steps ADD COLUMN closed_at INTEGER;
DROP INDEX steps_open;
CREATE INDEX steps_open ON task_steps (instance) WHERE state IN ('queued', 'running') AND is_issued;
CREATE INDEX steps_by_instance ON task_steps (instance);
