//! One question to an HTTP API: a request whose answer is read whole, up to a limit.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Uri};
use tokio::time::{Instant, timeout};

use super::answer::is_html;
use super::failure::{Failure, FailureKind};
use super::upload::{Progress, Upload};
use super::{Client, retry_after, send};

/// What to ask.
#[derive(Clone, Debug)]
pub struct Question {
    /// On the host of `EndpointOptions::url`, whose own path plays no part.
    pub place: PathAndQuery,
    /// With it the question is a POST of this form, otherwise a GET.
    pub form: Option<Bytes>,
    /// The longest body that is read.
    pub limit: usize,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code, redirects included: none is followed.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The body is a web page.
    pub html: bool,
    /// What `Retry-After` asks for, uncapped.
    pub retry_after: Option<Duration>,
    /// The body; of anything but a 2xx perhaps only its beginning.
    pub body: Vec<u8>,
}

/// Why there is no complete answer.
#[derive(Clone, Debug)]
pub enum Unanswered {
    /// It did not come, or not to its end.
    Failed(Failure),
    /// It is longer than the limit.
    TooLong,
}

impl Client {
    /// Asks, and reads the answer to its end, all within `attempt_timeout`.
    pub async fn ask(&self, question: &Question) -> Result<Reply, Unanswered> {
        let failed = |kind, why: String| Unanswered::Failed(Failure::unsent(kind, why));
        let mut headers = self
            .headers
            .plain(Instant::now())
            .map_err(|why| failed(FailureKind::Other, why))?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if question.form.is_some() {
            let form = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(CONTENT_TYPE, form);
        }
        let uri = self
            .uri_of(question)
            .map_err(|why| failed(FailureKind::Other, why))?;
        match timeout(
            self.attempt_timeout,
            self.exchange_whole(question, &uri, &headers),
        )
        .await
        {
            Ok(outcome) => outcome,
            Err(_) => {
                let (limit, peer) = (self.attempt_timeout, &self.target.peer);
                let why = format!("no complete answer from {peer} within {limit:?}");
                Err(failed(FailureKind::Timeout, why))
            }
        }
    }

    fn uri_of(&self, question: &Question) -> Result<Uri, String> {
        let mut parts = self.target.uri.clone().into_parts();
        parts.path_and_query = Some(question.place.clone());
        Uri::from_parts(parts).map_err(|error| error.to_string())
    }

    async fn exchange_whole(
        &self,
        question: &Question,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Reply, Unanswered> {
        let request = || {
            let body = question.form.clone().unwrap_or_default();
            let mut request = Request::new(Upload::new(body, Arc::new(Progress::default())));
            *request.method_mut() = match question.form {
                Some(_) => Method::POST,
                None => Method::GET,
            };
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            request
        };
        let sent = match send(&self.kept, request()).await {
            // A peer that closes idle connections is not failing; a question may be repeated.
            Err(broken) if broken.stale => send(&self.fresh, request()).await,
            outcome => outcome,
        };
        let response = sent.map_err(|broken| {
            let error = &broken.error;
            let cause = error.source().unwrap_or(error);
            Unanswered::Failed(Failure::explain(cause, &self.target.peer))
        })?;
        let (head, body) = response.into_parts();
        let status = head.status;
        let body = match self.whole(body, question.limit).await {
            // A refusal is judged by its status and the beginning of its text.
            Err((_, begun)) if !status.is_success() => begun,
            outcome => outcome.map_err(|(why, _)| why)?,
        };
        Ok(Reply {
            status: status.as_u16(),
            html: is_html(&head.headers),
            retry_after: retry_after::parse(&head.headers),
            headers: head.headers,
            body,
        })
    }

    /// The body, or why not and what came of it. Dropping the rest closes the connection.
    async fn whole(
        &self,
        mut body: Incoming,
        limit: usize,
    ) -> Result<Vec<u8>, (Unanswered, Vec<u8>)> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    let failure = Failure::explain(&error, &self.target.peer);
                    return Err((Unanswered::Failed(failure), bytes));
                }
            };
            let data = frame.into_data().unwrap_or_default();
            if data.len() > limit - bytes.len() {
                return Err((Unanswered::TooLong, bytes));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}
