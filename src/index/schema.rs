//! The database's tables. Frozen once released: a change is a new migration at the end.

/// One script per format; format `n` is what the first `n` scripts make.
pub(super) const MIGRATIONS: &[&str] = &[FORMAT_1, FORMAT_2, FORMAT_3];

const FORMAT_1: &str = "
-- Folders that were asked for, with what the last complete or interrupted run found.
CREATE TABLE folder (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    last_run_at INTEGER,
    last_seconds REAL,
    last_found INTEGER,
    last_complete INTEGER
);

-- A picture by the BLAKE3 of its bytes; copies share one row.
CREATE TABLE content (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format TEXT NOT NULL,
    taken_at INTEGER,
    -- Difference hash; 64 bits as a signed integer.
    look INTEGER NOT NULL
);

-- A file: either a picture or the reason why not. Which folder it belongs to follows from its path, so nested folders
-- share their rows. AUTOINCREMENT: an id tells whether a row is older than a scan.
CREATE TABLE file (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content_id INTEGER REFERENCES content(id),
    reason TEXT,
    decoder TEXT,
    CHECK ((content_id IS NULL) <> (reason IS NULL))
);
CREATE INDEX file_content ON file(content_id) WHERE content_id IS NOT NULL;

-- Vectors of one model in one precision with one preprocessing: never compared with another set's.
-- epoch grows whenever rows are changed or removed; additions show in the vectors' ids. token: tells a vector file of
-- another, deleted database apart.
CREATE TABLE vector_set (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    revision TEXT NOT NULL,
    precision TEXT NOT NULL,
    dim INTEGER NOT NULL,
    preprocessing TEXT NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    token INTEGER NOT NULL DEFAULT (random()),
    null_fingerprint TEXT,
    null_vectors BLOB,
    UNIQUE (model, revision, precision, dim, preprocessing)
);

-- vector: little-endian f16 [dim], unit length. mean, spread: of its cosines over the set's null texts.
CREATE TABLE vector (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    set_id INTEGER NOT NULL REFERENCES vector_set(id) ON DELETE CASCADE,
    content_id INTEGER NOT NULL REFERENCES content(id),
    mean REAL NOT NULL,
    spread REAL NOT NULL,
    vector BLOB NOT NULL,
    UNIQUE (set_id, content_id)
);
CREATE INDEX vector_arrival ON vector(set_id, id);
";

const FORMAT_2: &str = "
-- What a detector found in a picture, by the BLAKE3 of the file's bytes, indexed or not; a cache that can be emptied.
-- detector: id, revision, precision and how it was run. boxes: 24 bytes each, five little-endian f32 (left, top, right,
-- bottom, score) and a u32 (class), best first.
CREATE TABLE detection (
    hash BLOB NOT NULL,
    detector TEXT NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    found_at INTEGER NOT NULL,
    boxes BLOB NOT NULL,
    PRIMARY KEY (hash, detector)
) WITHOUT ROWID;
";

const FORMAT_3: &str = "
-- Number of vectors in a set: counting half a million rows would take longer than searching them.
CREATE TABLE vector_count (
    set_id INTEGER PRIMARY KEY REFERENCES vector_set(id) ON DELETE CASCADE,
    vectors INTEGER NOT NULL
);
INSERT INTO vector_count SELECT set_id, COUNT(*) FROM vector GROUP BY set_id;
CREATE TRIGGER vector_added AFTER INSERT ON vector BEGIN
    INSERT OR IGNORE INTO vector_count VALUES (new.set_id, 0);
    UPDATE vector_count SET vectors = vectors + 1 WHERE set_id = new.set_id;
END;
CREATE TRIGGER vector_removed AFTER DELETE ON vector BEGIN
    UPDATE vector_count SET vectors = vectors - 1 WHERE set_id = old.set_id;
END;

-- Grows with every change to what a search may want to know of files, so that a list of them knows when it is stale. token:
-- tells the list of another, deleted database apart. Triggers, since no writer can forget them.
CREATE TABLE file_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    token INTEGER NOT NULL DEFAULT (random()),
    changes INTEGER NOT NULL DEFAULT 0
);
INSERT INTO file_state (id) VALUES (1);
CREATE TRIGGER file_added AFTER INSERT ON file BEGIN
    UPDATE file_state SET changes = changes + 1;
END;
CREATE TRIGGER file_removed AFTER DELETE ON file BEGIN
    UPDATE file_state SET changes = changes + 1;
END;
CREATE TRIGGER file_changed AFTER UPDATE ON file
    WHEN (old.path, old.size, old.mtime_ns, old.content_id) IS NOT (new.path, new.size, new.mtime_ns, new.content_id)
BEGIN
    UPDATE file_state SET changes = changes + 1;
END;
CREATE TRIGGER content_changed AFTER UPDATE ON content
    WHEN (old.width, old.height, old.format, old.taken_at) IS NOT (new.width, new.height, new.format, new.taken_at)
BEGIN
    UPDATE file_state SET changes = changes + 1;
END;
";
