//! Which paths a tree may name, and where its links lead. Text only: nothing here looks at a disk.

use crate::id::is_plain;

/// Longest path within a tree. With the longest state directory it stays below the kernel's 4096.
pub const PATH_BYTES_MAX: usize = 1024;

/// Longest component: what ext4, xfs and btrfs allow.
pub const COMPONENT_BYTES_MAX: usize = 255;

/// What a host keeps for itself at the root of a tree.
const RESERVED_PREFIX: &str = ".houston";

/// Says why a path may not be in a tree, as the end of a sentence about it.
pub fn check_path(path: &str) -> Result<(), String> {
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("is longer than {PATH_BYTES_MAX} bytes"));
    }
    if path.starts_with('/') {
        return Err("is absolute".to_owned());
    }
    for component in path.split('/') {
        check_component(component)?;
    }
    if path.starts_with(RESERVED_PREFIX) {
        return Err(format!("is reserved: names at the root may not begin with \"{RESERVED_PREFIX}\""));
    }
    Ok(())
}

fn check_component(component: &str) -> Result<(), String> {
    match component {
        "" => return Err("is empty or has an empty component".to_owned()),
        "." | ".." => return Err(format!("has \"{component}\" as a component")),
        _ => {}
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(format!("has a component longer than {COMPONENT_BYTES_MAX} bytes"));
    }
    // The backslash is a separator to some programs and an escape to others, systemd among them.
    if component.contains('\\') || !component.chars().all(is_plain) {
        return Err("has a backslash or a control, invisible or direction character".to_owned());
    }
    Ok(())
}

/// The path in the tree that a link leads to, by text alone; `""` is the root. A target is `../` any
/// number of times and then plain components, so that climbing never passes anything but the link's
/// own parents, which are directories.
pub(super) fn resolve(link: &str, target: &str) -> Result<String, &'static str> {
    if target.len() > PATH_BYTES_MAX {
        return Err("which is too long");
    }
    if target.starts_with('/') {
        return Err("which is absolute");
    }
    let mut at = parent(link).ok_or("which is no path")?;
    let mut rest = target;
    loop {
        rest = match rest.strip_prefix("..") {
            Some("") => return parent_or_leaves(at).map(str::to_owned),
            Some(after) if after.starts_with('/') => &after[1..],
            _ => break,
        };
        at = parent_or_leaves(at)?;
    }
    if rest.split('/').any(|component| check_component(component).is_err()) {
        return Err("which is not \"../\" any number of times and then plain names");
    }
    Ok(if at.is_empty() { rest.to_owned() } else { format!("{at}/{rest}") })
}

fn parent_or_leaves(path: &str) -> Result<&str, &'static str> {
    parent(path).ok_or("which leaves the tree")
}

/// `""` for a name at the root; nothing for the root itself.
fn parent(path: &str) -> Option<&str> {
    if path.is_empty() { None } else { Some(path.rsplit_once('/').map_or("", |(parent, _)| parent)) }
}
