//! How values are written on the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use zeroize::Zeroizing;

use crate::base::limits::GROUP_MOST;
use crate::store::Fsync;

/// Bytes of a host's name: what the domain name system allows.
const HOST_BYTES: usize = 253;

/// A secret, wiped when it is dropped.
pub fn hidden(text: &str) -> Result<Zeroizing<String>, String> {
    match text {
        "" => Err("a secret is not empty".to_owned()),
        _ => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// What is logged.
pub fn level() -> impl TypedValueParser<Value = log::LevelFilter> {
    let levels = PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"]);
    levels.map(|text| text.parse().expect("each of them is a level"))
}

/// When talk is synced.
pub fn fsync() -> impl TypedValueParser<Value = Fsync> {
    let times = PossibleValuesParser::new(["always", "interval", "never"]);
    times.map(|text| text.parse().expect("each of them is one"))
}

/// Bytes: a number, or one with K, M or G behind it.
pub fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text
        .trim_end_matches("iB")
        .split_at_checked(text.trim_end_matches("iB").len().saturating_sub(1))
    {
        Some((digits, "K" | "k")) => (digits, 10),
        Some((digits, "M" | "m")) => (digits, 20),
        Some((digits, "G" | "g")) => (digits, 30),
        _ => (text, 0),
    };
    let n: usize = digits
        .parse()
        .map_err(|_| "a size is a number of bytes, or one with K, M or G behind it".to_owned())?;
    n.checked_mul(1 << shift)
        .filter(|n| *n <= 1 << 40)
        .ok_or_else(|| "that is more than a terabyte".to_owned())
}

/// How many servers a group has: a number, or one for each core.
pub fn processes(text: &str) -> Result<u16, String> {
    let n = match text {
        "auto" => std::thread::available_parallelism().map_or(1, |n| n.get().try_into().unwrap_or(u16::MAX)),
        _ => text.parse().map_err(|_| "a number, or auto for one for each core".to_owned())?,
    };
    match n {
        1..=GROUP_MOST => Ok(n),
        _ => Err(format!("a group has 1 to {GROUP_MOST} servers")),
    }
}

/// A duration: seconds, or a number with its unit.
pub fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let ms = digits.parse::<u64>().ok().filter(|_| unit_ms > 0).and_then(|n| n.checked_mul(unit_ms));
    let ms = ms.ok_or("a duration is a number of seconds, or one with ms, s, m or h behind it")?;
    if ms > 366 * 24 * 3_600_000 {
        Err("that is more than a year".into())
    } else {
        Ok(Duration::from_millis(ms))
    }
}

/// Where the status pages are: a port of this machine's loopback, or an address with its port.
pub fn place(text: &str) -> Result<SocketAddr, String> {
    // As a server prints it.
    let text = text.strip_prefix("http://").map_or(text, |text| text.trim_end_matches('/'));
    match text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| {
            "it is a port, or an address and a port, as 127.0.0.1:9780, 0.0.0.0:9780 or [::]:9780".to_owned()
        }),
    }
}

/// A host: a name or an address, that of IPv6 in brackets or without.
pub fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    if bare.is_empty() || bare.len() > HOST_BYTES || bare.contains(is_odd) {
        return Err(format!("a host is a name or an address, without blanks, of at most {HOST_BYTES} bytes"));
    }
    // An address may name its interface behind a %.
    let address = bare.split('%').next().unwrap_or_default();
    if bare.contains(':') && address.parse::<IpAddr>().is_err() {
        return Err("a host is a name or an address; the port has a flag of its own, -rp or -lp".to_owned());
    }
    Ok(bare.to_owned())
}

/// Where somebody's status pages are: a port of this machine, or a host with its port; or as a server prints it.
pub fn page(text: &str) -> Result<(String, u16), String> {
    match place(text) {
        Ok(at) => Ok((at.ip().to_string(), at.port())),
        Err(_) => server_at(text.strip_prefix("http://").map_or(text, |text| text.trim_end_matches('/')))
            .map_err(|_| {
                "it is a port, or a host and a port, as 9780, one.example:9780 or [::1]:9780".to_owned()
            }),
    }
}

/// A server: a host name or address, and a port.
pub fn server_at(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match parts.map(|(name, port)| (host(name), port)) {
        Some((Ok(host), port)) if port > 0 => Ok((host, port)),
        _ => Err("it is a host and a port, as localhost:3780 or [::1]:3780".to_owned()),
    }
}
