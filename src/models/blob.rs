//! Files of a model: on disk, built into the binary, or put together.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Deref;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// A file of a model: on disk, built into the binary, or put together.
#[derive(Debug, Clone)]
pub enum Blob {
    /// On disk.
    File(PathBuf),
    /// In the binary.
    Static {
        /// The file's name, for messages.
        name: &'static str,
        /// Its bytes.
        bytes: &'static [u8],
    },
    /// A text that the model came without, put together from what else is known of it.
    Made {
        /// The file that it was read off, for messages.
        name: String,
        /// The text.
        text: String,
    },
}

impl Blob {
    /// The file's name without its folder, for messages.
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Self::Static { name, .. } => (*name).to_owned(),
            Self::Made { name, .. } => name.clone(),
        }
    }

    /// The whole contents.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> Result<Cow<'static, [u8]>> {
        match self {
            Self::File(path) => Ok(Cow::Owned(std::fs::read(path).map_err(Error::io("read", path))?)),
            Self::Static { bytes, .. } => Ok(Cow::Borrowed(bytes)),
            Self::Made { text, .. } => Ok(Cow::Owned(text.clone().into_bytes())),
        }
    }

    /// The contents as text; `model` is for messages.
    ///
    /// # Errors
    /// The file cannot be read, has more than `max_bytes`, or is not UTF-8.
    pub fn read_text(&self, max_bytes: u64, model: &str) -> Result<String> {
        let refused = |reason| Error::ModelFile { model: model.to_owned(), file: self.name(), reason };
        if let Self::File(path) = self {
            let len = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
            if len > max_bytes {
                return Err(refused(format!("has {len} bytes, at most {max_bytes} are read")));
            }
        }
        String::from_utf8(self.read()?.into_owned()).map_err(|_| refused("is not UTF-8".to_owned()))
    }

    /// The contents without reading them: pages come from the disk when they are looked at.
    ///
    /// # Errors
    /// The file cannot be opened, or is empty.
    pub fn map(&self) -> Result<Bytes> {
        let path = match self {
            Self::File(path) => path,
            Self::Static { bytes, .. } => return Ok(Bytes::Static(bytes)),
            Self::Made { text, .. } => return Ok(Bytes::Owned(text.clone().into_bytes())),
        };
        let file = File::open(path).map_err(Error::io("open", path))?;
        let metadata = file.metadata().map_err(Error::io("read", path))?;
        if !metadata.is_file() {
            return Err(Error::NotAFile { path: path.clone() });
        }
        if metadata.len() == 0 {
            return Err(Error::EmptyFile { path: path.clone() });
        }
        // SAFETY: the map is only read, as plain bytes of which every value is valid, and lives no longer than the load
        // that copies the tensors out. Another process that shortens the file meanwhile would end this one with SIGBUS;
        // model files are written once (the hub's cache renames finished downloads into place), never truncated.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(Error::io("map", path))?;
        Ok(Bytes::Mapped(map))
    }
}

/// The bytes of a [`Blob`].
#[derive(Debug)]
pub enum Bytes {
    /// Pages of a file.
    Mapped(memmap2::Mmap),
    /// In the binary.
    Static(&'static [u8]),
    /// In memory.
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_equals_what_reading_gives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, b"some bytes").unwrap();
        let blob = Blob::File(path);
        assert_eq!(*blob.map().unwrap(), *blob.read().unwrap());
        assert_eq!(blob.name(), "weights");
        let built_in = Blob::Static { name: "config.json", bytes: b"{}" };
        assert_eq!(*built_in.map().unwrap(), *built_in.read().unwrap());
        assert_eq!(built_in.name(), "config.json");
    }

    #[test]
    fn files_that_cannot_be_mapped_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        assert!(matches!(Blob::File(empty).map(), Err(Error::EmptyFile { .. })));
        assert!(matches!(Blob::File(folder.path().join("absent")).map(), Err(Error::NotFound { .. })));
        assert!(matches!(Blob::File(folder.path().to_owned()).map(), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn text_is_limited_and_must_be_utf8() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, b"\xff\xfe").unwrap();
        let blob = Blob::File(path);
        assert!(blob.read_text(2, "m").unwrap_err().to_string().contains("is not UTF-8"));
        assert!(blob.read_text(1, "m").unwrap_err().to_string().contains("has 2 bytes"));
    }
}
