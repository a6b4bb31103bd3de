"""The tables of a project's SQLite file. A change is a new entry of `MIGRATIONS`, never an edit of an old one."""

APPLICATION_ID = 0x736B7367
""""sksg" in the file's header: other programs' SQLite files are told by it."""

STATUSES = ("new", "predicted", "corrected", "accepted", "skipped", "issue")

_FIRST = (
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE photos (
        number INTEGER PRIMARY KEY,          -- in the order they were added
        id TEXT NOT NULL UNIQUE,             -- name of its files: readable, and unique by path and content
        path TEXT NOT NULL,                  -- relative to the project, with forward slashes
        sha256 TEXT NOT NULL,                -- of the photo's file
        bytes INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,           -- with bytes: tells without reading that a photo is unchanged
        height INTEGER NOT NULL,
        width INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'here' CHECK (state IN ('here', 'missing', 'replaced')),
        lesion_group TEXT NOT NULL DEFAULT '',
        diagnosis TEXT NOT NULL DEFAULT '',
        status TEXT NOT NULL DEFAULT 'new'
            CHECK (status IN ('new', 'predicted', 'corrected', 'accepted', 'skipped', 'issue')),
        note TEXT NOT NULL DEFAULT '',
        reader TEXT NOT NULL DEFAULT '',     -- who decided or painted last
        changed_at TEXT NOT NULL DEFAULT '', -- and when
        seconds REAL NOT NULL DEFAULT 0,     -- spent on it by persons
        seen INTEGER NOT NULL DEFAULT 0,
        blind INTEGER NOT NULL DEFAULT 0,    -- drawn without seeing the prediction
        mask_sha256 TEXT NOT NULL DEFAULT '',-- of the person's mask file; '' = there is none
        mask_bytes INTEGER NOT NULL DEFAULT 0,
        mask_mtime_ns INTEGER NOT NULL DEFAULT 0,
        dice REAL,                           -- prediction against the person's mask
        predicted_file TEXT NOT NULL DEFAULT '',
        model TEXT NOT NULL DEFAULT '',
        model_version TEXT NOT NULL DEFAULT '',
        confidence REAL,
        doubt REAL,                          -- see `queue`
        doubt_reason TEXT NOT NULL DEFAULT '',
        lesion_share REAL,                   -- of the frame, by the prediction
        stale TEXT NOT NULL DEFAULT '',      -- the newer model that was not let near a person's work
        mm_per_px REAL,
        scale_line TEXT NOT NULL DEFAULT '', -- JSON [[row, column], [row, column], mm]
        scale_from TEXT NOT NULL DEFAULT ''  -- id of the photo whose line it is, '' = drawn here
    )""",
    "CREATE INDEX photos_by_status ON photos (status)",
    "CREATE INDEX photos_by_path ON photos (path)",
    "CREATE INDEX photos_by_content ON photos (sha256)",
    """CREATE TABLE log (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        photo TEXT NOT NULL REFERENCES photos (id),
        time TEXT NOT NULL,
        reader TEXT NOT NULL,
        action TEXT NOT NULL,
        status_before TEXT NOT NULL,
        status TEXT NOT NULL,
        note_before TEXT NOT NULL DEFAULT '',
        note TEXT NOT NULL DEFAULT '',
        model TEXT NOT NULL DEFAULT '',
        model_version TEXT NOT NULL DEFAULT '',
        seconds REAL NOT NULL DEFAULT 0,
        takes_back INTEGER REFERENCES log (number)
    )""",
    "CREATE INDEX log_by_photo ON log (photo)",
    "CREATE TRIGGER log_is_kept BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'the log is never shortened'); END",
    "CREATE TRIGGER log_is_final BEFORE UPDATE ON log BEGIN SELECT RAISE(ABORT, 'the log is never changed'); END",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""Statements that bring the schema from version n to n + 1; the version is `user_version` in the file's header."""
