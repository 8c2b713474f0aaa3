//! A directory that is open, and what may be done in it by a single name. Nothing here follows a
//! link or takes a path, so nobody who swaps directories below can lead a write elsewhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use houston_common::error::{Code, Refusal};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfs};

/// Begins the names of what is being made; left over by a crash and then removed by collection.
pub const UNFINISHED: &str = ".new-";

#[derive(Debug)]
pub struct Dir(OwnedFd);

impl Dir {
    /// Opens by path, following links: for a path that the operator gave.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    pub fn dir(&self, name: impl AsRef<OsStr>) -> io::Result<Self> {
        self.open_at(name.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map(Self)
    }

    /// Makes a directory that must not exist yet.
    pub fn make(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.0, component(name.as_ref())?, Mode::from(0o700))?;
        let made = self.dir(name)?;
        made.set_mode(mode)?;
        Ok(made)
    }

    /// Opens a directory, made and synced first if it is missing.
    pub fn ensure(&self, name: impl AsRef<OsStr>, mode: u32) -> io::Result<Self> {
        match self.make(name.as_ref(), mode) {
            Ok(made) => {
                self.sync()?;
                Ok(made)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.dir(name),
            Err(error) => Err(error),
        }
    }

    /// Opens a plain file for reading; anything else is `InvalidInput`, and a FIFO does not block.
    pub fn file(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let file =
            File::from(self.open_at(name.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Makes a file that must not exist yet, open for reading and writing, mode 0600.
    pub fn create(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_at(name.as_ref(), flags, Mode::from(0o600)).map(File::from)
    }

    /// Opens a plain file for reading and for writing at its end, made with mode 0640 if it is missing.
    pub fn append(&self, name: impl AsRef<OsStr>) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NONBLOCK;
        let file = File::from(self.open_at(name.as_ref(), flags, Mode::from(0o640))?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Puts a whole file, mode 0600, in the place of what was there: a reader or a crash sees the
    /// old or the new one, and it is durable on return.
    pub fn replace(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> io::Result<()> {
        let fresh = unfinished(name.as_ref());
        let written = self.create(&fresh).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.and_then(|()| self.rename(&fresh, name)).and_then(|()| self.sync()).inspect_err(|_| {
            let _ = self.remove(&fresh);
        })
    }

    /// A small file's contents; absent if there is no such file, `FileTooLarge` above `bytes_max`.
    pub fn read(&self, name: impl AsRef<OsStr>, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > bytes_max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(Some(bytes)) }
    }

    pub fn make_link(&self, target: impl AsRef<OsStr>, name: impl AsRef<OsStr>) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target.as_ref(), &self.0, component(name.as_ref())?)?)
    }

    /// Where a link points; absent if there is nothing. Anything but a link is `InvalidInput`.
    pub fn read_link(&self, name: impl AsRef<OsStr>) -> io::Result<Option<OsString>> {
        match rustix::fs::readlinkat(&self.0, component(name.as_ref())?, Vec::new()) {
            Ok(target) => Ok(Some(OsStr::from_bytes(target.as_bytes()).to_owned())),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renames within the directory, over what is there.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> io::Result<()> {
        let (from, to) = (component(from.as_ref())?, component(to.as_ref())?);
        Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Type and permission bits of what has this name, not of what a link leads to; absent if nothing has.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> io::Result<Option<(FileType, u32)>> {
        match rustix::fs::statat(&self.0, component(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777))),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Every name but `.` and `..`, sorted.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes what has this name, with all that is in it. Links are removed, never followed, and
    /// another file system mounted below stops the removal. Nothing there is success.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> io::Result<()> {
        let name = component(name.as_ref())?;
        match self.kind(name)? {
            None => return Ok(()),
            Some((FileType::Directory, _)) => {}
            Some(_) => return Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?),
        }
        let below = self.dir(name)?;
        if rustix::fs::fstat(&below.0)?.st_dev != rustix::fs::fstat(&self.0)?.st_dev {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        // Trees are read-only directories.
        below.set_mode(0o700)?;
        for name in below.names()? {
            below.remove(name)?;
        }
        Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::REMOVEDIR)?)
    }

    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.0, Mode::from_raw_mode(mode))?)
    }

    /// Makes names durable that were made, renamed or removed here. The contents need their own sync.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    pub fn statvfs(&self) -> io::Result<StatVfs> {
        Ok(rustix::fs::fstatvfs(&self.0)?)
    }

    fn open_at(&self, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.0, component(name)?, flags, mode)?)
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A name for what will become `name`, never used before by any process that runs.
pub fn unfinished(name: &OsStr) -> OsString {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut fresh = OsString::from(UNFINISHED);
    fresh.push(name);
    fresh.push(format!("-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fresh
}

fn component(name: &OsStr) -> io::Result<&OsStr> {
    let bytes = name.as_bytes();
    let whole = !bytes.is_empty() && bytes != b"." && bytes != b".." && !bytes.contains(&b'/');
    if whole { Ok(name) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// An error of the kernel for a person. A full disk has a code of its own.
pub fn refused(doing: impl std::fmt::Display, error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Refusal::new(Code::DiskSpace, format!("{doing}: {error}"), "free space on the host's disk")
        }
        _ => Refusal::new(
            Code::Io,
            format!("{doing}: {error}"),
            "look at the host's kernel log and permissions",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_single_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("precious"), "p").unwrap();
        let home = temp.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let dir = Dir::open(&home).unwrap();
        for bad in ["", ".", "..", "a/b", "/etc"] {
            assert_eq!(dir.dir(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
            assert!(dir.remove(bad).is_err(), "{bad}");
        }
        dir.make_link(&outside, "link").unwrap();
        assert!(dir.dir("link").is_err());
        dir.make_link(outside.join("precious"), "file").unwrap();
        assert!(dir.file("file").is_err());
        assert!(dir.append("file").is_err());
        dir.replace("file", b"new").unwrap();
        assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"p");
        let tree = dir.make("tree", 0o700).unwrap();
        tree.make_link(&outside, "out").unwrap();
        tree.set_mode(0o555).unwrap();
        dir.remove("tree").unwrap();
        dir.remove("link").unwrap();
        assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"p");
        assert_eq!(dir.names().unwrap(), ["file"]);
    }

    #[test]
    fn reading_is_bounded_and_absence_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::open(temp.path()).unwrap();
        assert_eq!(dir.read("a", 3).unwrap(), None);
        dir.replace("a", b"123").unwrap();
        assert_eq!(dir.read("a", 3).unwrap().unwrap(), b"123");
        assert_eq!(dir.read("a", 2).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }
}
