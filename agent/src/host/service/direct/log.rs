//! Bounded logs of services. A service writes into its file itself, so that it outlives the agent;
//! the file is cut in place, since the service keeps it open.

use std::io::{self, Read as _, Seek as _, SeekFrom};

use crate::host::dir::Dir;
use crate::host::output::{escape, last};
use crate::host::service::ServiceKey;

/// A file above this is cut. Between two looks a service may write more.
pub(super) const LOG_BYTES: u64 = 1 << 20;

pub(super) fn name(key: &ServiceKey) -> String {
    format!("{}.{}.log", key.package, key.service)
}

/// Keeps the last [`LOG_BYTES`] as `.1` and empties the file, if it has grown above them. What is
/// written in between is lost.
pub(super) fn rotate(logs: &Dir, key: &ServiceKey) -> io::Result<()> {
    let name = name(key);
    if logs.kind(&name)?.is_none() {
        return Ok(());
    }
    let mut file = logs.append(&name)?;
    let length = file.metadata()?.len();
    if length <= LOG_BYTES {
        return Ok(());
    }
    file.seek(SeekFrom::Start(length - LOG_BYTES))?;
    let mut kept = Vec::new();
    (&file).take(LOG_BYTES).read_to_end(&mut kept)?;
    let copied = logs.replace(format!("{name}.1"), &kept);
    // Also without the copy, for which a full disk has no room. The service's own descriptor appends, so it
    // goes on at the new end.
    file.set_len(0)?;
    copied
}

/// The end of the log from the offset `from` on; from its beginning if it was cut since.
pub(super) fn tail(
    logs: &Dir,
    key: &ServiceKey,
    from: u64,
    lines: usize,
    bytes: usize,
) -> io::Result<String> {
    let mut file = logs.file(name(key))?;
    let length = file.metadata()?.len();
    let from = if from > length { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(bytes as u64))))?;
    let mut end = Vec::new();
    file.take(bytes as u64).read_to_end(&mut end)?;
    Ok(last(&escape(&end), lines, bytes).to_owned())
}
