-- Version 2: attempts of which nobody knows whether they arrived, and reviewers' labels.

ALTER TABLE outbox ADD COLUMN n_doubts INTEGER NOT NULL DEFAULT 0;

-- One row per labelled alert: the latest word counts. What the alert said then is kept with it, because alerts are
-- forgotten earlier than what was learned from them.
CREATE TABLE labels (
    alert   TEXT PRIMARY KEY,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('true_positive', 'false_positive', 'expected')),
    note    TEXT,
    trigger TEXT NOT NULL,
    subject TEXT NOT NULL,
    alerted TEXT NOT NULL
) STRICT;
CREATE INDEX labels_by_trigger ON labels (trigger, at);
