//! How values are written on the command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::base::limits::GROUP_MOST;

/// A secret, wiped when it is dropped.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for it")]
pub fn hidden(text: &str) -> Result<Zeroizing<String>, String> {
    Ok(Zeroizing::new(text.to_owned()))
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

/// A server: a host name or address, and a port.
pub fn server_at(text: &str) -> Result<(String, u16), String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let bare = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    match parts.map(|(host, port)| (bare(host), port)) {
        Some((host, port)) if !host.is_empty() && port > 0 => Ok((host, port)),
        _ => Err("it is a host and a port, as localhost:3780 or [::1]:3780".to_owned()),
    }
}
