-- Comments with commands, reruns, waivers, what watching remembers.

-- +goose Up
ALTER TABLE events ADD COLUMN author TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN comment TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN context TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN origin TEXT NOT NULL DEFAULT '';
DROP INDEX events_received;
CREATE INDEX events_inbox ON events (received, id, source, kind, repo);
CREATE INDEX events_bodies ON events (received) WHERE header <> '' OR LENGTH(body) > 0;
DROP INDEX events_package;
CREATE INDEX events_package ON events (package, received, id) WHERE package <> '';
CREATE INDEX events_pull ON events (source, repo, pull, received) WHERE pull > 0;
CREATE INDEX events_ref ON events (source, repo, ref, received) WHERE kind = 'push';

ALTER TABLE executions ADD COLUMN optional BIGINT NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;

ALTER TABLE reports ADD COLUMN comment TEXT NOT NULL DEFAULT '';
ALTER TABLE reports ADD COLUMN reaction TEXT NOT NULL DEFAULT '';

CREATE INDEX executions_check ON executions (package, check_name, arch, seq);
CREATE INDEX executions_pull ON executions (target_repo, target_pull, seq);
CREATE INDEX reports_pull ON reports (repo, pull, id);

CREATE TABLE waivers (
    repo    TEXT NOT NULL,
    sha     TEXT NOT NULL,
    context TEXT NOT NULL,
    author  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (repo, sha, context)
);

CREATE TABLE memories (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    at    BIGINT NOT NULL
);
