//! Address, headers, credentials and certificates of a receiver: from written to usable.

use super::checks::{self, Judge};
use super::choice::ReceiverProfile;
use super::endpoint::{Auth, EndpointConfig, HttpEndpoint, Password, Secret, TlsConfig};
use super::problem::{Located, Source};
use super::raw::{RawAuthorization, RawBasicAuth, RawRemoteWrite, RawTlsConfig};
use super::validate::section;

/// Where to send. After a problem: anything.
pub(super) fn endpoint(raw: &RawRemoteWrite, source: &Source, judge: &mut Judge) -> EndpointConfig {
    let headers = headers(raw, judge);
    let auth = auth(raw, source, judge);
    let tls = tls(raw.tls_config.as_ref(), judge);
    let receiver = judge.word(raw.receiver.as_ref(), ReceiverProfile::Auto);
    let proxy_url = raw.proxy_url.as_ref().map(|given| {
        if let Err(reason) = checks::url(&given.value, &["http"]) {
            judge
                .problems
                .refuse(&given.source, checks::shown(&given.value), reason);
        }
        given.value.clone()
    });
    let Some(url) = &raw.url else {
        judge.problems.note(
            &source.below("url", source.line),
            "url for remote_write is empty",
        );
        return EndpointConfig::Discard;
    };
    if url.value == "discard:" {
        return EndpointConfig::Discard;
    }
    let mut endpoint = HttpEndpoint::new(url.value.clone());
    (endpoint.headers, endpoint.auth, endpoint.tls) = (headers, auth, tls);
    (endpoint.proxy_url, endpoint.receiver) = (proxy_url, receiver);
    match checks::url(&url.value, &["http", "https"]) {
        Ok(uri) => advise_endpoint(&endpoint, &uri, raw, judge),
        Err(reason) => {
            let hint = if url.value.contains('@') {
                "; use basic_auth"
            } else {
                ", or be discard:"
            };
            let shown = checks::shown(&url.value);
            judge
                .problems
                .refuse(&url.source, shown, format!("{reason}{hint}"));
        }
    }
    EndpointConfig::Http(endpoint)
}

fn advise_endpoint(
    endpoint: &HttpEndpoint,
    uri: &hyper::Uri,
    raw: &RawRemoteWrite,
    judge: &mut Judge,
) {
    let shown = endpoint.url_shown();
    let mut warn = |text: &str| judge.warnings.push(format!("{shown}: {text}"));
    if endpoint.tls.insecure_skip_verify {
        warn("tls_config.insecure_skip_verify: whoever answers gets the data");
    }
    if uri.scheme_str() == Some("https") {
        return;
    }
    if raw.tls_config.is_some() {
        warn("tls_config has no effect on an http URL");
    }
    let loopback = uri.host().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let address = address.parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    });
    if endpoint.auth != Auth::None && !loopback {
        warn("credentials go over the network in clear text");
    }
}

fn headers(raw: &RawRemoteWrite, judge: &mut Judge) -> Vec<(String, String)> {
    const MOST: usize = 64;
    let Some(Located {
        value: pairs,
        source,
    }) = &raw.headers
    else {
        return Vec::new();
    };
    if pairs.0.len() > MOST {
        judge
            .problems
            .note(source, format!("{} entries; at most {MOST}", pairs.0.len()));
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, Located { value, source }) in pairs.0.iter().take(MOST) {
        let value = value.expose();
        if let Err(reason) = checks::header_name(name) {
            judge.problems.note(source, reason);
        } else if let Err(reason) = checks::header_value(value) {
            judge.problems.note(source, reason);
        } else if headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
        {
            judge.problems.note(source, "is there twice");
        } else {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    headers
}

fn tls(given: Option<&Located<RawTlsConfig>>, judge: &mut Judge) -> TlsConfig {
    let raw = section(given);
    if let Some(Located { value, source }) = &raw.server_name
        && rustls_pki_types::ServerName::try_from(value.as_str()).is_err()
    {
        judge
            .problems
            .refuse(source, value, "must be a host name or an IP address");
    }
    TlsConfig {
        ca_file: raw.ca_file.as_ref().map(|given| judge.path(given)),
        server_name: raw.server_name.map(|given| given.value),
        insecure_skip_verify: raw.insecure_skip_verify.is_some_and(|given| given.value),
    }
}

/// Source of the texts: prometheus/common `HTTPClientConfig.Validate`.
fn auth(raw: &RawRemoteWrite, entry: &Source, judge: &mut Judge) -> Auth {
    let old = raw.bearer_token.is_some() || raw.bearer_token_file.is_some();
    let reason = match (&raw.authorization, &raw.basic_auth) {
        (Some(_), _) if old => {
            "authorization is not compatible with bearer_token & bearer_token_file"
        }
        (Some(_), Some(_)) => "at most one of basic_auth & authorization must be configured",
        (None, Some(_)) if old => {
            "at most one of basic_auth, bearer_token & bearer_token_file must be configured"
        }
        (None, None) if raw.bearer_token.is_some() && raw.bearer_token_file.is_some() => {
            "at most one of bearer_token & bearer_token_file must be configured"
        }
        _ => "",
    };
    if !reason.is_empty() {
        judge.problems.note(entry, reason);
    }
    if let Some(Located { value, source }) = &raw.authorization {
        return authorization(value, source, judge);
    }
    if let Some(Located { value, source }) = &raw.basic_auth {
        return basic(value, source, judge);
    }
    if let Some(file) = &raw.bearer_token_file {
        return Auth::Bearer {
            file: judge.path(file),
        };
    }
    raw.bearer_token
        .as_ref()
        .map_or(Auth::None, |token| bearer(token, judge))
}

fn authorization(raw: &RawAuthorization, source: &Source, judge: &mut Judge) -> Auth {
    if let Some(Located { value, source }) = &raw.r#type {
        let reason = match value.trim().to_ascii_lowercase().as_str() {
            "bearer" | "" => "",
            "basic" => r#"authorization type cannot be set to "basic", use "basic_auth" instead"#,
            _ => "not built yet; must be Bearer",
        };
        if !reason.is_empty() {
            judge.problems.refuse(source, value, reason);
        }
    }
    match (&raw.credentials, &raw.credentials_file) {
        (Some(_), Some(_)) => judge.problems.note(
            source,
            "at most one of authorization credentials & credentials_file must be configured",
        ),
        (Some(token), None) => return bearer(token, judge),
        (None, Some(file)) => {
            return Auth::Bearer {
                file: judge.path(file),
            };
        }
        (None, None) => judge
            .problems
            .note(source, "needs credentials or credentials_file"),
    }
    Auth::None
}

fn bearer(token: &Located<Secret>, judge: &mut Judge) -> Auth {
    if token.value.expose().is_empty() {
        judge.problems.note(&token.source, "must not be empty");
    } else if let Err(reason) = checks::header_value(token.value.expose()) {
        judge.problems.note(&token.source, reason);
    }
    Auth::BearerInline(token.value.clone())
}

fn basic(raw: &RawBasicAuth, source: &Source, judge: &mut Judge) -> Auth {
    let username = raw
        .username
        .as_ref()
        .map_or(String::new(), |given| given.value.clone());
    if username.contains(|c: char| c == ':' || c.is_control()) {
        judge.problems.note(
            source,
            "username must not hold a colon or control characters",
        );
    }
    let password = match (&raw.password, &raw.password_file) {
        (Some(_), Some(_)) => {
            let reason = "at most one of basic_auth password & password_file must be configured";
            judge.problems.note(source, reason);
            Password::Inline(Secret::new(""))
        }
        (None, Some(file)) => Password::File(judge.path(file)),
        (Some(password), None) => Password::Inline(password.value.clone()),
        (None, None) => Password::Inline(Secret::new("")),
    };
    Auth::Basic { username, password }
}
