//! Why a program could not be executed, in words. The kernel's own say "No such file" when it is the
//! interpreter that is missing.

use std::io::{self, Read as _};
use std::path::Path;

use houston_common::id::quoted;
use nix::errno::Errno;

/// As much as the kernel itself reads to decide how to run a file.
const HEAD_BYTES: u64 = 256;

pub(super) fn of(program: &Path, error: &io::Error) -> String {
    let name = quoted(&program.to_string_lossy());
    let head = head(program);
    let why = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => missing(program, &head),
        Some(Errno::EACCES) => not_permitted(program, &head),
        Some(Errno::ENOEXEC) => wrong_format(&head),
        Some(Errno::ETXTBSY) => "it is open for writing (text file busy)".to_owned(),
        Some(Errno::E2BIG) => "its arguments and settings are too large".to_owned(),
        Some(Errno::ELOOP) => "its path has too many links".to_owned(),
        Some(Errno::ENOTDIR) => "a part of its path is not a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("\"{name}\" cannot be executed: {why}")
}

fn head(program: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = std::fs::File::open(program) {
        let _ = file.take(HEAD_BYTES).read_to_end(&mut head);
    }
    head
}

/// The interpreter that a script's first line names.
fn interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    Some(line.trim_matches([' ', '\t']).split([' ', '\t']).next()?.to_owned())
}

fn missing(program: &Path, head: &[u8]) -> String {
    if std::fs::symlink_metadata(program).is_err() {
        return "there is no such file".to_owned();
    }
    match interpreter(head) {
        Some(name) if name.ends_with('\r') => {
            "its first line ends with a carriage return (Windows line endings)".to_owned()
        }
        Some(name) => format!("its interpreter \"{}\" does not exist", quoted(&name)),
        None if head.starts_with(b"\x7fELF") => "its dynamic loader does not exist on this host".to_owned(),
        None => "its path leads to nothing".to_owned(),
    }
}

fn not_permitted(program: &Path, head: &[u8]) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    match std::fs::metadata(program) {
        Ok(meta) if meta.is_dir() => "it is a directory".to_owned(),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => "it is not executable".to_owned(),
        Ok(_) => match interpreter(head) {
            Some(name) => format!(
                "its user may not run it or its interpreter \"{}\", or its disk is mounted noexec",
                quoted(&name)
            ),
            None => "its user may not run it, or its disk is mounted noexec".to_owned(),
        },
        Err(_) => "its user may not look into its directory".to_owned(),
    }
}

fn wrong_format(head: &[u8]) -> String {
    if head.is_empty() {
        return "it is empty".to_owned();
    }
    let Some(elf) = head.strip_prefix(b"\x7fELF") else {
        return "it is no program, and has no first line that names its interpreter (#!)".to_owned();
    };
    // Offset 18 of the file, in the byte order that offset 5 names.
    let machine = match (elf.get(1), elf.get(14), elf.get(15)) {
        (Some(2), Some(high), Some(low)) | (Some(_), Some(low), Some(high)) => {
            u16::from_be_bytes([*high, *low])
        }
        _ => return "it is cut off".to_owned(),
    };
    let built_for = match machine {
        3 => "x86",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        _ => "another machine",
    };
    format!("it is built for {built_for}, this host is {}", std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_elf_header_names_its_machine() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 183, 0]);
        assert!(wrong_format(&elf).contains("built for aarch64"), "{}", wrong_format(&elf));
        let mut big = b"\x7fELF\x02\x02\x01".to_vec();
        big.resize(16, 0);
        big.extend([0, 2, 0, 183]);
        assert!(wrong_format(&big).contains("built for aarch64"));
        assert_eq!(wrong_format(&elf[..10]), "it is cut off");
    }
}
