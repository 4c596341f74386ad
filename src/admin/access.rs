//! Who may see the page and the API. Pure.
//!
//! They name receivers, folders and error texts, and there is no authentication yet: so peers on loopback
//! only. A browser there is a loopback peer too, whatever page it shows: a page whose name is made to lead to
//! 127.0.0.1 could read what we answer. So a `Host` has to be an address, or `localhost`: no such page has
//! that name.

use std::net::IpAddr;

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// They are not on this machine, or in this pod.
    Peer,
    /// They are, but asked for another name.
    Host,
}

impl Denied {
    /// One sentence: what is the matter, and the way in.
    pub fn message(self) -> &'static str {
        match self {
            Self::Peer => {
                "The page and its API answer loopback only; reach them with `kubectl port-forward POD 9202` or \
                 `ssh -L 9202:127.0.0.1:9202 HOST`, then open http://127.0.0.1:9202/ (probes and /metrics \
                 answer everybody).\n"
            }
            Self::Host => {
                "The page and its API answer to an address or to localhost only, not to other names: open \
                 http://127.0.0.1:9202/ (with the admin listener's port).\n"
            }
        }
    }
}

/// May this peer, who asked for this `Host`, see page and API?
pub fn may_see(peer: IpAddr, host: Option<&str>) -> Result<(), Denied> {
    if !peer.to_canonical().is_loopback() {
        return Err(Denied::Peer);
    }
    // HTTP/1.0 has none, and no browser speaks that.
    match host {
        Some(host) if !is_plain(host) => Err(Denied::Host),
        _ => Ok(()),
    }
}

/// An address or `localhost`, with or without a port.
fn is_plain(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || is_port(port) => name,
            _ => return false,
        },
        None => match host.rsplit_once(':') {
            Some((name, port)) if is_port(&format!(":{port}")) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':')
        .is_some_and(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_peers_may_see() {
        for (peer, may) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:10.0.0.1", false),
            ("10.0.0.1", false),
            ("192.168.1.4", false),
            ("169.254.1.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("fe80::1", false),
            ("::2", false),
        ] {
            let seen = may_see(peer.parse().unwrap(), Some("127.0.0.1:9202"));
            let expected = if may { Ok(()) } else { Err(Denied::Peer) };
            assert_eq!(seen, expected, "{peer}");
        }
    }

    #[test]
    fn a_name_that_may_lead_anywhere_is_no_host() {
        let loopback = "127.0.0.1".parse().unwrap();
        for host in [
            "127.0.0.1",
            "127.0.0.1:9202",
            "localhost:8080",
            "LOCALHOST",
            "[::1]:9202",
            "[::1]",
            "10.1.2.3:9202",
        ] {
            assert_eq!(may_see(loopback, Some(host)), Ok(()), "{host}");
        }
        assert_eq!(may_see(loopback, None), Ok(()));
        for host in [
            "",
            "evil.example",
            "evil.example:9202",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:evil",
            "[::1",
            "[::1]evil",
            "[evil]:1",
            "localhost:",
            "127.0.0.1:99999",
        ] {
            assert_eq!(may_see(loopback, Some(host)), Err(Denied::Host), "{host}");
        }
    }
}
