//! The database: opening it, its format, its connections.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::schema::MIGRATIONS;
use crate::error::{Error, Result};

/// One connection to the index. Any number of processes and connections may be open at once: readers see whole batches,
/// writers wait for each other (write-ahead log).
#[derive(Debug)]
pub struct Catalogue {
    pub(super) connection: Connection,
    data_dir: PathBuf,
    file: PathBuf,
}

/// Holds one state of the database for reading; see [`Catalogue::snapshot`].
#[derive(Debug)]
#[must_use]
pub struct Snapshot<'a>(#[expect(dead_code, reason = "ends the transaction when it goes")] Transaction<'a>);

/// How long a writer waits for another one; a batch takes milliseconds, a removal of a large set a few seconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);

impl Catalogue {
    /// Opens the index of a data folder, making both where they are missing and bringing an older format up to date.
    ///
    /// # Errors
    /// The folder cannot be made or written; the file is no database; [`Error::CatalogueTooNew`].
    pub fn open(data_dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(data_dir).map_err(Error::io("create", data_dir))?;
        let mut catalogue = Self::connect(data_dir)?;
        catalogue.migrate()?;
        Ok(catalogue)
    }

    /// A second connection to the same index, for another thread.
    ///
    /// # Errors
    /// The database cannot be opened.
    pub fn reader(&self) -> Result<Self> {
        Self::connect(&self.data_dir)
    }

    /// Lets all reads until the guard goes see one state of the database, and spares each of them the locks.
    ///
    /// # Errors
    /// The database fails.
    pub fn snapshot(&self) -> Result<Snapshot<'_>> {
        self.connection.unchecked_transaction().map(Snapshot).map_err(self.failed())
    }

    /// The folder that holds the index.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The database file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What `SQLite` finds wrong with the database, if anything; reads all of it.
    ///
    /// # Errors
    /// The check cannot be made.
    pub fn damage(&self) -> Result<Option<String>> {
        let found: String =
            self.connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(self.failed())?;
        Ok((found != "ok").then_some(found))
    }

    fn connect(data_dir: &Path) -> Result<Self> {
        let file = data_dir.join("catalogue.sqlite");
        let failed = |source| Error::Catalogue { path: file.clone(), source };
        let connection = Connection::open(&file).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        enter_wal(&connection).map_err(failed)?;
        // NORMAL: a killed process loses nothing; a power cut may lose the last batches but damages nothing.
        connection
            .execute_batch("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;")
            .map_err(failed)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection, data_dir: data_dir.to_owned(), file })
    }

    fn migrate(&mut self) -> Result<()> {
        let known = MIGRATIONS.len() as i64;
        let path = self.file.clone();
        let failed = |source| Error::Catalogue { path: path.clone(), source };
        let format = |connection: &Connection| connection.query_row("PRAGMA user_version", [], |row| row.get(0));
        let mut found: i64 = format(&self.connection).map_err(failed)?;
        if found < known {
            // Another process may be migrating too: look again once the write lock is held.
            let step = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
            found = format(&step).map_err(failed)?;
            for script in MIGRATIONS.get(usize::try_from(found).unwrap_or(0)..).unwrap_or_default() {
                step.execute_batch(script).map_err(failed)?;
            }
            if found < known {
                step.pragma_update(None, "user_version", known).map_err(failed)?;
                found = known;
            }
            step.commit().map_err(failed)?;
        }
        if found > known {
            return Err(Error::CatalogueTooNew { path, found, known });
        }
        Ok(())
    }

    /// For `map_err` on this database's operations.
    pub(super) fn failed(&self) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let path = self.file.clone();
        move |source| Error::Catalogue { path: path.clone(), source }
    }
}

/// Switches to the write-ahead log. `SQLite` does not wait on its own when two processes do this to a new file at once.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    const TRIES: u32 = 100;
    let mut tries = 0;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
            Err(error) if tries < TRIES && error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_twice_and_refuses_a_newer_format() {
        let dir = tempfile::tempdir().unwrap();
        let first = Catalogue::open(dir.path()).unwrap();
        Catalogue::open(dir.path()).unwrap();
        first.connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Catalogue::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::CatalogueTooNew { found: 99, known: 3, .. }), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn an_index_of_the_first_format_is_brought_up_to_date_with_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let old = Connection::open(dir.path().join("catalogue.sqlite")).unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.execute("INSERT INTO folder (path) VALUES (x'61')", []).unwrap();
        old.execute_batch(
            "INSERT INTO content (hash, width, height, format, look) VALUES (x'01', 1, 1, 'png', 0);
             INSERT INTO vector_set (model, revision, precision, dim, preprocessing, created_at)
             VALUES ('m', 'r', 'f32', 1, 'p', 0);
             INSERT INTO vector (set_id, content_id, mean, spread, vector) VALUES (1, 1, 0, 1, x'003c');",
        )
        .unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        drop(old);
        let catalogue = Catalogue::open(dir.path()).unwrap();
        assert_eq!(catalogue.folders().unwrap().len(), 1);
        assert_eq!(catalogue.sets().unwrap()[0].vectors, 1);
        assert_eq!(catalogue.stored_detections(&[0; 32], "any").unwrap(), None);
    }

    #[test]
    fn many_threads_open_a_new_index_at_once() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(|| Catalogue::open(dir.path()).map(drop))).collect();
            for one in all {
                one.join().unwrap().unwrap();
            }
        });
    }

    #[test]
    fn a_file_that_is_no_database_is_an_error_and_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("catalogue.sqlite");
        std::fs::write(&file, "a letter, not a database ".repeat(100)).unwrap();
        assert!(matches!(Catalogue::open(dir.path()), Err(Error::Catalogue { .. })));
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("a letter"));
    }

    #[test]
    fn a_data_folder_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("taken");
        std::fs::write(&file, "x").unwrap();
        let error = Catalogue::open(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error}");
    }
}
