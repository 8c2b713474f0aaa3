//! Whether a service's ports are free, and if not, who holds them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use houston_common::error::{Code, Refusal};
use houston_common::id::quoted;

use crate::host::service::ServiceKey;

/// `E-SERVICE-START`, naming the holder where it may be seen, if a port of the host's address is listened
/// on already. Other addresses of the machine may belong to other hosts.
pub(super) fn check_free(key: &ServiceKey, address: IpAddr, ports: &[u16]) -> Result<(), Refusal> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let held = |port: &u16| Some((*port, tables.iter().find_map(|table| listener(table, address, *port))?));
    let Some((port, inode)) = ports.iter().find_map(held) else { return Ok(()) };
    let holder = holder(&inode).unwrap_or_else(|| "another process".to_owned());
    let what = format!("{key} cannot be started: port {port} is held by {holder}");
    Err(Refusal::new(Code::ServiceStart, what, "stop that process, or give the service another port"))
}

/// The inode of the socket that listens on a port of this address or of every address, from a table of
/// `/proc/net`.
fn listener(table: &str, address: IpAddr, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let wanted = format!("{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (local, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_ours =
            local_port == wanted && *fields.get(3)? == LISTEN && covers(local_address(local)?, address);
        is_ours.then(|| fields.get(9).map(|i| (*i).to_owned()))?
    })
}

/// Whether a socket that is bound to `local` takes connections to `address`.
fn covers(local: IpAddr, address: IpAddr) -> bool {
    local.is_unspecified() || local.to_canonical() == address.to_canonical()
}

/// An address as the kernel writes it: 32-bit words in the order of the machine's bytes.
fn local_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    if text.len() == 8 {
        return word(0).map(|bytes| Ipv4Addr::from(bytes).into());
    }
    let words: Vec<[u8; 4]> = (0..4).map(|n| word(n * 8)).collect::<Option<_>>()?;
    <[u8; 16]>::try_from(words.concat()).ok().map(|bytes| Ipv6Addr::from(bytes).into())
}

fn holder(inode: &str) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let mut descriptors = std::fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        let holds =
            descriptors.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == Path::new(&socket)));
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
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let refusal = check_free(&key, here, &[port]).unwrap_err();
        assert_eq!(refusal.code, Code::ServiceStart);
        assert!(refusal.what.contains(&format!("process {}", std::process::id())), "{refusal}");
        check_free(&key, Ipv4Addr::new(127, 0, 0, 9).into(), &[port]).unwrap();
        drop(socket);
        check_free(&key, here, &[port]).unwrap();
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(check_free(&key, here, &[port]).unwrap_err().code, Code::ServiceStart, "on every address");
    }

    #[test]
    fn the_kernels_addresses_are_read() {
        let written = |address: Ipv4Addr| format!("{:08X}", u32::from_ne_bytes(address.octets()));
        assert_eq!(local_address(&written(Ipv4Addr::new(127, 0, 0, 2))), Some([127, 0, 0, 2].into()));
        let mapped = Ipv4Addr::new(127, 0, 0, 2).to_ipv6_mapped().octets();
        let text: String = mapped
            .chunks(4)
            .map(|word| format!("{:08X}", u32::from_ne_bytes(word.try_into().unwrap())))
            .collect();
        assert!(covers(local_address(&text).unwrap(), [127, 0, 0, 2].into()), "a mapped address");
        assert_eq!(local_address(&"0".repeat(32)), Some(Ipv6Addr::UNSPECIFIED.into()));
        assert_eq!(local_address("xyz"), None);
    }
}
