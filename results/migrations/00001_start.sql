-- Times are nanoseconds since 1970 (UTC), 0 for none. Truth values are 0 and 1.
-- The text must read the same to SQLite and to PostgreSQL: no autoincrement, no
-- functions of one of them. "seq" and reports.id come from the counters table,
-- in the order of writing.

-- +goose Up
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('executions', 0);
INSERT INTO counters (name, value) VALUES ('reports', 0);

CREATE TABLE events (
    id            TEXT PRIMARY KEY,
    source        TEXT NOT NULL,
    delivery      TEXT NOT NULL,
    meaning       TEXT NOT NULL,
    kind          TEXT NOT NULL,
    received      BIGINT NOT NULL,
    repo          TEXT NOT NULL,
    ref           TEXT NOT NULL,
    before_commit TEXT NOT NULL,
    commit_sha    TEXT NOT NULL,
    pull          BIGINT NOT NULL,
    trusted       BIGINT NOT NULL,
    package       TEXT NOT NULL,
    build         TEXT NOT NULL,
    ignored       TEXT NOT NULL,
    state         TEXT NOT NULL,
    note          TEXT NOT NULL,
    tries         BIGINT NOT NULL,
    retry_at      BIGINT NOT NULL,
    repeats       BIGINT NOT NULL,
    header        TEXT NOT NULL,
    body          BYTEA NOT NULL
);
CREATE UNIQUE INDEX events_delivery ON events (source, delivery);
CREATE UNIQUE INDEX events_meaning ON events (source, meaning) WHERE meaning <> '';
CREATE INDEX events_received ON events (received, id);
CREATE INDEX events_state ON events (state, received, id);
CREATE INDEX events_package ON events (package, received, id);

CREATE TABLE executions (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    event         TEXT NOT NULL REFERENCES events (id),
    package       TEXT NOT NULL,
    check_name    TEXT NOT NULL,
    checks_repo   TEXT NOT NULL,
    checks_branch TEXT NOT NULL,
    checks_commit TEXT NOT NULL,
    path          TEXT NOT NULL,
    source_repo   TEXT NOT NULL,
    source_commit TEXT NOT NULL,
    item          TEXT NOT NULL,
    type          TEXT NOT NULL,
    arch          TEXT NOT NULL,
    builds        TEXT NOT NULL,
    target_repo   TEXT NOT NULL,
    target_sha    TEXT NOT NULL,
    target_pull   BIGINT NOT NULL,
    state         TEXT NOT NULL,
    verdict       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    attempt       BIGINT NOT NULL,
    created       BIGINT NOT NULL,
    started       BIGINT NOT NULL,
    finished      BIGINT NOT NULL,
    failures      BIGINT NOT NULL,
    interruptions BIGINT NOT NULL
);
CREATE INDEX executions_package ON executions (package, seq);
CREATE INDEX executions_package_state ON executions (package, state, seq);
CREATE INDEX executions_event ON executions (event, seq);
CREATE INDEX executions_target ON executions (target_sha, target_repo, seq);
CREATE INDEX executions_state ON executions (state, seq);

CREATE TABLE transitions (
    execution TEXT NOT NULL REFERENCES executions (id),
    number    BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    state     TEXT NOT NULL,
    attempt   BIGINT NOT NULL,
    note      TEXT NOT NULL,
    PRIMARY KEY (execution, number)
);

CREATE TABLE steps (
    execution TEXT NOT NULL REFERENCES executions (id),
    attempt   BIGINT NOT NULL,
    number    BIGINT NOT NULL,
    name      TEXT NOT NULL,
    started   BIGINT NOT NULL,
    finished  BIGINT NOT NULL,
    outcome   TEXT NOT NULL,
    PRIMARY KEY (execution, attempt, number, name)
);

CREATE TABLE results (
    execution TEXT NOT NULL REFERENCES executions (id),
    number    BIGINT NOT NULL,
    item      TEXT NOT NULL,
    type      TEXT NOT NULL,
    checkname TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    note      TEXT NOT NULL,
    artifact  TEXT NOT NULL,
    data      TEXT NOT NULL,
    PRIMARY KEY (execution, number)
);

CREATE TABLE artifacts (
    execution TEXT NOT NULL REFERENCES executions (id),
    path      TEXT NOT NULL,
    size      BIGINT NOT NULL,
    PRIMARY KEY (execution, path)
);

CREATE TABLE reports (
    id           INTEGER PRIMARY KEY,
    kind         TEXT NOT NULL,
    repo         TEXT NOT NULL,
    sha          TEXT NOT NULL,
    pull         BIGINT NOT NULL,
    context      TEXT NOT NULL,
    status       TEXT NOT NULL,
    description  TEXT NOT NULL,
    url          TEXT NOT NULL,
    body         TEXT NOT NULL,
    execution    TEXT NOT NULL,
    tries        BIGINT NOT NULL,
    state        TEXT NOT NULL,
    reason       TEXT NOT NULL,
    written      BIGINT NOT NULL,
    begun        BIGINT NOT NULL,
    retry_at     BIGINT NOT NULL,
    ended        BIGINT NOT NULL
);
CREATE INDEX reports_commit ON reports (sha, repo, id);
CREATE INDEX reports_state ON reports (state, id);
