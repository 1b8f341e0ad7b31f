-- What formulas may say of an execution: variants, needs, retries, secrets.

-- +goose Up
ALTER TABLE executions ADD COLUMN variant TEXT NOT NULL DEFAULT '';
ALTER TABLE executions ADD COLUMN needs TEXT NOT NULL DEFAULT '';
ALTER TABLE executions ADD COLUMN needs_state TEXT NOT NULL DEFAULT '';
-- -1 is the operator's default.
ALTER TABLE executions ADD COLUMN retries BIGINT NOT NULL DEFAULT -1;
ALTER TABLE executions ADD COLUMN trusted BIGINT NOT NULL DEFAULT 0;
UPDATE executions SET trusted = 1 WHERE event IN
    (SELECT id FROM events WHERE kind IN ('push', 'build') OR kind = 'pull_request' AND trusted = 1);

DROP INDEX executions_check;
CREATE INDEX executions_check ON executions (package, check_name, arch, variant, seq);
CREATE INDEX executions_ended ON executions (seq) WHERE needs_state = 'ended' AND state = 'queued';

-- Who waits for whom, as long as somebody does.
CREATE TABLE needs (
    needed TEXT NOT NULL,
    waiter TEXT NOT NULL REFERENCES executions (id),
    PRIMARY KEY (needed, waiter)
);
CREATE INDEX needs_waiter ON needs (waiter);
