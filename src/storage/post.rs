//! Requests of a folder posted to a receiver, one after the other.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::export::{Request, Target};
use crate::queue::client::{
    Answer, Attempt, Auth, Client, EndpointOptions, Response, SecretSource, TlsOptions,
};
use crate::wire::decoded::Protocol;

/// First pause before a request is tried again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// Longest pause that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Where to post, and how.
pub(super) struct PostOptions {
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) credentials_file: Option<std::path::PathBuf>,
    pub(super) ca_file: Option<std::path::PathBuf>,
    /// Tries of each request.
    pub(super) attempts: u32,
}

/// A receiver.
pub(super) struct Receiver {
    client: Client,
    attempts: u32,
    runtime: tokio::runtime::Runtime,
}

/// What to do after an attempt.
enum Next {
    Done,
    Again(Option<Duration>, String),
    Stop(String),
}

impl Receiver {
    /// # Errors
    /// When the options make no sense. The text never holds a password.
    pub(super) fn new(options: &PostOptions) -> Result<Self, String> {
        let url: Uri = options.url.parse().map_err(|_| "url: not a URL")?;
        let mut endpoint = EndpointOptions::new(url);
        for (name, value) in &options.headers {
            let refuse = || format!("header {name}: not a header");
            let name: HeaderName = name.parse().map_err(|_| refuse())?;
            let value: HeaderValue = value.parse().map_err(|_| refuse())?;
            endpoint.headers.push((name, value));
        }
        if let Some(file) = &options.credentials_file {
            endpoint.auth = Auth::Bearer(SecretSource::File(file.clone()));
        }
        endpoint.tls = TlsOptions {
            ca_file: options.ca_file.clone(),
            ..TlsOptions::default()
        };
        endpoint.max_connections = 1;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let client = {
            let _entered = runtime.enter();
            Client::new(&endpoint)?
        };
        Ok(Self {
            client,
            attempts: options.attempts.max(1),
            runtime,
        })
    }

    async fn deliver(&self, request: &Request) -> Result<(), String> {
        let mut attempt = attempt_of(request);
        let mut pause = PAUSES.0;
        loop {
            let (asked, why) = match judge(request, &self.client.post(&attempt).await) {
                Next::Done => return Ok(()),
                Next::Stop(why) => return Err(why),
                Next::Again(asked, why) => (asked, why),
            };
            attempt.number += 1;
            if attempt.number >= self.attempts {
                return Err(format!("{why} (attempt {})", attempt.number));
            }
            let asked = asked.unwrap_or(pause).min(RETRY_AFTER_MAX);
            tokio::time::sleep(asked.max(pause)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

fn attempt_of(request: &Request) -> Attempt {
    let [content_type, content_encoding, version_header] = request.fixed_headers();
    // They came as headers, so they parse.
    let header = |(name, value): &(String, String)| Some((name.parse().ok()?, value.parse().ok()?));
    Attempt {
        body: request.body.clone(),
        content_type: content_type.1,
        content_encoding: content_encoding.1,
        version_header,
        tenant: request.told.tenant.0.iter().filter_map(header).collect(),
        number: 0,
    }
}

/// What an answer means: the request was taken, may be tried again, or is refused.
fn judge(request: &Request, answer: &Answer) -> Next {
    match answer {
        Answer::Failed(failure) => Next::Again(None, failure.to_string()),
        Answer::Response(response) => {
            let status = response.status;
            let text = format!("{status}: {}", response.message);
            match status {
                200..300 if request.told.protocol == Protocol::V2 => judge_v2(request, response),
                200..300 => Next::Done,
                408 | 425 | 429 | 500.. => Next::Again(response.retry_after, text),
                _ => Next::Stop(text.trim_end_matches([':', ' ']).to_owned()),
            }
        }
    }
}

/// A receiver that knows 2.0 says what it wrote.
fn judge_v2(request: &Request, response: &Response) -> Next {
    let written = response.written;
    let said = [written.samples, written.histograms, written.exemplars];
    if said == [None; 3] && !request.place.counts.is_zero() {
        let status = response.status;
        return Next::Stop(format!(
            "{status} without a word of what was written: it does not seem to know remote write 2.0"
        ));
    }
    Next::Done
}

impl Target for Receiver {
    fn take(&mut self, request: &Request) -> Result<(), String> {
        self.runtime.block_on(self.deliver(request))
    }

    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}
