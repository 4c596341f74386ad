//! Addresses as an operator writes them, taken apart and checked.

use std::net::IpAddr;

use hyper::Uri;
use hyper::http::uri::{Authority, Scheme};

/// User name and password.
pub(super) type UserInfo = (String, String);

/// A URL without what does not belong on the wire.
pub(super) struct Target {
    /// Without user information.
    pub(super) uri: Uri,
    /// `user:password@` of the URL.
    pub(super) user: Option<UserInfo>,
    /// Host and port, for messages.
    pub(super) peer: String,
}

impl Target {
    /// Takes an absolute `http` or `https` URL apart.
    ///
    /// # Errors
    /// The text never repeats the URL: it may hold a password.
    pub(super) fn new(uri: &Uri) -> Result<Self, String> {
        let scheme = uri
            .scheme()
            .ok_or("no scheme: write http:// or https://")?
            .clone();
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(format!("scheme {scheme:?}: write http:// or https://"));
        }
        let authority = uri.authority().ok_or("no host")?;
        let (user, place) = match authority.as_str().rsplit_once('@') {
            Some((user, place)) => (Some(user_info(user)?), place),
            None => (None, authority.as_str()),
        };
        let place: Authority = place.parse().map_err(|error| format!("host: {error}"))?;
        if place.host().is_empty() {
            return Err("no host".to_owned());
        }
        let default_port = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let peer = format!(
            "{}:{}",
            place.host(),
            place.port_u16().unwrap_or(default_port)
        );
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(place)
            .path_and_query(uri.path_and_query().map_or("/", |path| path.as_str()))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { uri, user, peer })
    }

    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }

    /// The address, where the host is one and no name.
    pub(super) fn literal_address(&self) -> Option<IpAddr> {
        bare_host(self.uri.host()?).parse().ok()
    }
}

/// A host without the brackets that an IPv6 address has in a URL.
pub(super) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

/// Link-local addresses are where clouds keep their credentials service. No receiver is there, but
/// a name under someone else's control may point there.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    // Canonical: `::ffff:169.254.169.254` reaches the same place.
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn user_info(text: &str) -> Result<UserInfo, String> {
    let (name, password) = text.split_once(':').unwrap_or((text, ""));
    Ok((decoded(name)?, decoded(password)?))
}

/// Percent-decoding.
fn decoded(text: &str) -> Result<String, String> {
    let refuse = || "user name or password: not percent-encoded UTF-8".to_owned();
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let (high, low) = (digit().ok_or_else(refuse)?, digit().ok_or_else(refuse)?);
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_information_leaves_the_url() {
        let uri = "https://al%40ice:p%3Aw@recv.example:9/api/v1/write?a=b"
            .parse()
            .unwrap();
        let target = Target::new(&uri).unwrap();
        assert_eq!(target.uri, "https://recv.example:9/api/v1/write?a=b");
        assert_eq!(target.user, Some(("al@ice".to_owned(), "p:w".to_owned())));
        assert_eq!(target.peer, "recv.example:9");
    }

    #[test]
    fn what_is_no_receiver_url_is_refused_without_repeating_it() {
        for url in [
            "/only/path",
            "ftp://u:pw@host/",
            "http://u:%zz@host/",
            "http://u:%ff@host/",
        ] {
            let error = Target::new(&url.parse().unwrap()).map(|_| ()).unwrap_err();
            assert!(!error.contains("pw") && !error.contains("zz"), "{error}");
        }
    }

    #[test]
    fn link_local_is_seen_through_every_way_to_write_it() {
        for (url, link_local) in [
            ("http://169.254.169.254/", true),
            ("http://[fe80::1]/", true),
            ("http://[::ffff:169.254.1.1]:80/", true),
            ("http://169.253.0.1/", false),
            ("http://[fd00::1]/", false),
            ("http://127.0.0.1/", false),
        ] {
            let address = Target::new(&url.parse().unwrap())
                .unwrap()
                .literal_address()
                .unwrap();
            assert_eq!(is_link_local(address), link_local, "{url}");
        }
    }
}
