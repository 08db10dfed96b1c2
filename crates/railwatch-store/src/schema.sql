-- Version 1. Times are microseconds since the epoch. Tables that people may query: alerts, alert_history, outbox,
-- audit, generations, rejects, reject_totals, cursors, and the `view` column of subjects.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per batch; seq is contiguous. clock_at is the largest last_at of all batches so far, so that a time can be
-- found by bisecting seq, without an index that every append would have to maintain.
CREATE TABLE journal (
    seq            INTEGER PRIMARY KEY,
    first_at       INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    clock_at       INTEGER NOT NULL,
    n_payments     INTEGER NOT NULL,
    payments_total INTEGER NOT NULL,
    format         INTEGER NOT NULL,
    checksum       INTEGER NOT NULL,
    body           BLOB NOT NULL
) STRICT;

CREATE TABLE cursors (
    source TEXT PRIMARY KEY,
    cursor TEXT NOT NULL,
    seq    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE rejects (
    id     INTEGER PRIMARY KEY,
    seq    INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    source TEXT NOT NULL,
    code   TEXT NOT NULL,
    detail TEXT NOT NULL,
    raw    BLOB NOT NULL
) STRICT;

CREATE TABLE reject_totals (
    source TEXT NOT NULL,
    code   TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (source, code)
) STRICT, WITHOUT ROWID;

-- seq is the batch whose effects wrote the row last.
CREATE TABLE alerts (
    id         TEXT PRIMARY KEY,
    seq        INTEGER NOT NULL,
    incident   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    trigger    TEXT NOT NULL,
    state      TEXT NOT NULL,
    severity   TEXT NOT NULL,
    opened_at  INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    alert      TEXT NOT NULL
) STRICT;
CREATE INDEX alerts_by_time ON alerts (opened_at);
CREATE INDEX alerts_by_subject ON alerts (subject, opened_at);
CREATE INDEX alerts_by_incident ON alerts (incident);
CREATE INDEX alerts_open ON alerts (opened_at) WHERE state <> 'resolved';

CREATE TABLE alert_history (
    alert    TEXT NOT NULL,
    seq      INTEGER NOT NULL,
    ordinal  INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    state    TEXT NOT NULL,
    severity TEXT NOT NULL,
    score    REAL NOT NULL,
    summary  TEXT NOT NULL,
    PRIMARY KEY (alert, seq, ordinal)
) STRICT, WITHOUT ROWID;

-- id is the order of delivery within a sink.
CREATE TABLE outbox (
    id         INTEGER PRIMARY KEY,
    seq        INTEGER NOT NULL,
    notice     TEXT NOT NULL,
    sink       TEXT NOT NULL,
    incident   TEXT NOT NULL,
    occasion   TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('queued', 'sending', 'retry', 'sent', 'dead', 'unknown', 'dropped')),
    n_attempts INTEGER NOT NULL DEFAULT 0,
    queued_at  INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    last_error TEXT,
    receipt    TEXT,
    body       TEXT NOT NULL,
    UNIQUE (notice, sink)
) STRICT;
-- Queries must repeat this condition word for word, or SQLite will not use the index.
CREATE INDEX outbox_pending ON outbox (sink, id) WHERE state IN ('queued', 'sending', 'retry');
CREATE INDEX outbox_by_sink ON outbox (sink, state, next_at);
CREATE INDEX outbox_by_incident ON outbox (incident, sink, id);
CREATE INDEX outbox_by_state ON outbox (state, id);

-- (seq, ordinal) is null for rows that no batch caused.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    seq     INTEGER,
    ordinal INTEGER,
    at      INTEGER NOT NULL,
    by      TEXT NOT NULL,
    what    TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL,
    UNIQUE (seq, ordinal)
) STRICT;

CREATE TABLE generations (
    number  INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    digest  TEXT NOT NULL,
    content TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

-- Several versions of a subject may exist; the newest with epoch <= the committed one counts. A null body says that
-- the subject was forgotten in that epoch. Not clustered by key: subjects are saved in no order, and clustering would
-- rewrite a page for each of them.
CREATE TABLE subjects (
    key      TEXT NOT NULL,
    epoch    INTEGER NOT NULL,
    last_at  INTEGER NOT NULL,
    view     TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    body     BLOB,
    UNIQUE (key, epoch)
) STRICT;
CREATE INDEX subjects_by_epoch ON subjects (epoch, key);

CREATE TABLE globals (
    name     TEXT PRIMARY KEY,
    epoch    INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body     BLOB NOT NULL
) STRICT, WITHOUT ROWID;
