//! Whether a service's ports are free, and if not, who holds them.

use std::path::Path;

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;

use crate::host::service::ServiceKey;

/// `E-SERVICE-START`, naming the holder where it may be seen, if a port is listened on already.
pub(super) fn check_free(key: &ServiceKey, ports: &[u16]) -> Result<(), Refusal> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let held = |port: &u16| Some((*port, tables.iter().find_map(|table| listener(table, *port))?));
    let Some((port, inode)) = ports.iter().find_map(held) else { return Ok(()) };
    let holder = holder(&inode).unwrap_or_else(|| "another process".to_owned());
    let what = format!("{key} cannot be started: port {port} is held by {holder}");
    Err(Refusal::new(Code::ServiceStart, what, "stop that process, or give the service another port"))
}

/// The inode of the socket that listens on a port, from a table of `/proc/net`.
fn listener(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let wanted = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        (local_port == wanted && *fields.get(3)? == LISTEN).then(|| fields.get(9).map(|i| (*i).to_owned()))?
    })
}

fn holder(inode: &str) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut descriptors = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let holds = descriptors.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&socket)));
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        holds.then(|| format!("process {pid} ({})", quoted(name.trim())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_port_names_its_holder() {
        let key = ServiceKey::from_dotted("prod.web.http").unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let refusal = check_free(&key, &[port]).unwrap_err();
        assert_eq!(refusal.code, Code::ServiceStart);
        assert!(refusal.what.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(socket);
        check_free(&key, &[port]).unwrap();
    }
}
