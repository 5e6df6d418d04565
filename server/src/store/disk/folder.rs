//! The data folder itself: its lock and its format version. Knows nothing of what is in it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{FORMAT, damaged};
use crate::store::{StoreError, codec::Flawed};

/// The lock on a data folder; clones share it, the last one frees it.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    _lock: Arc<File>,
}

/// An open data folder of a format that this version reads.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    hold: Hold,
}

impl Folder {
    /// Creates the folder when it isn't there, locks it and checks its format, in this order:
    /// nothing in a folder of a newer format is read.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        create(path).map_err(|source| super::io("creating the data folder", path, source))?;
        let folder = Self { path: path.to_owned(), hold: lock(path)? };
        match folder.format()? {
            Some(found) if found > FORMAT => {
                Err(StoreError::NewerFormat { path: folder.path, found, newest: FORMAT })
            }
            Some(found) if found == FORMAT => Ok(folder),
            // What an older version wrote is read as it is; from now on it can't read it any more.
            Some(_) | None => {
                folder.write_format()?;
                Ok(folder)
            }
        }
    }

    /// Keeps the folder locked for as long as it lives.
    pub(super) fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Makes the names in the folder durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&self.path)
    }

    fn format(&self) -> Result<Option<u32>, StoreError> {
        let file = self.path.join("FORMAT");
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.without_format(&file);
            }
            Err(source) => return Err(super::io("reading", &file, source)),
        };
        std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.strip_prefix("singletrack "))
            .and_then(|text| text.strip_suffix('\n'))
            .and_then(|text| text.parse().ok())
            .filter(|format| *format > 0)
            .map(Some)
            .ok_or_else(|| {
                let found = String::from_utf8_lossy(&text);
                let what = format!("expected `singletrack <format>`, found {found:?}");
                damaged(&file, Some(0), &Flawed(what))
            })
    }

    /// The format is written before anything else, so a folder without it has to be empty.
    fn without_format(&self, file: &Path) -> Result<Option<u32>, StoreError> {
        let listed = |source| super::io("listing", &self.path, source);
        let mut others = Vec::new();
        for item in fs::read_dir(&self.path).map_err(listed)? {
            let name = item.map_err(listed)?.file_name();
            // `lost+found` is on every new ext4 volume.
            if !["LOCK", "FORMAT.new", "lost+found"].iter().any(|ours| name == *ours) {
                others.push(name.to_string_lossy().into_owned());
            }
        }
        let Some(found) = others.first() else { return Ok(None) };
        if others.iter().any(|name| name == "log" || name == "state") {
            let what = format!("it is missing, though the folder holds `{found}`");
            return Err(damaged(file, None, &Flawed(what)));
        }
        Err(StoreError::NoDataFolder { path: self.path.clone(), found: found.clone() })
    }

    fn write_format(&self) -> Result<(), StoreError> {
        let new = self.path.join("FORMAT.new");
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(format!("singletrack {FORMAT}\n").as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, self.path.join("FORMAT"))
        };
        write().map_err(|source| super::io("writing", &new, source))?;
        self.sync()?;
        sync_ancestors(&self.path)
    }
}

/// Makes the folder's name durable, and the names of those it is in: any of them may have been
/// made by this start or by one that was cut short.
fn sync_ancestors(path: &Path) -> Result<(), StoreError> {
    let whole = path.canonicalize().map_err(|source| super::io("resolving", path, source))?;
    for folder in whole.ancestors().skip(1) {
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Ok(()) => {}
            // Not ours, so we didn't make it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            // Some file systems at the root of things know no sync of a folder.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(source) => return Err(super::io("syncing", folder, source)),
        }
    }
    Ok(())
}

/// Nobody but the server's own user may read what agents store.
fn create(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn lock(path: &Path) -> Result<Hold, StoreError> {
    let name = path.join("LOCK");
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|source| super::io("opening", &name, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Hold { _lock: Arc::new(file) }),
        Err(TryLockError::WouldBlock) => Err(StoreError::Fenced(format!(
            "another process has locked the data folder {}: stop it first, or give this one a \
             folder of its own",
            path.display()
        ))),
        Err(TryLockError::Error(source)) => Err(super::io("locking", &name, source)),
    }
}

pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| super::io("syncing", path, source))
}
