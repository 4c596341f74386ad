//! A receiver: its client, made anew when the file with its authorities changes.
//!
//! Tokens and passwords are read again by the client itself; what TLS trusts is fixed when a client is
//! made, so a changed CA file makes a new one. A file that does not parse keeps the old client.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::client::{Client, EndpointOptions};
use crate::clock::Instant;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A receiver and the client for it.
pub struct Receiver {
    options: EndpointOptions,
    current: Mutex<Current>,
}

struct Current {
    client: Arc<Client>,
    ca_modified: Option<SystemTime>,
    looked: Instant,
}

impl Receiver {
    /// A client for these options.
    ///
    /// # Errors
    /// When they cannot work: a CA file that cannot be read, a reserved header.
    pub fn new(options: EndpointOptions) -> Result<Self, String> {
        let client = Arc::new(Client::new(&options)?);
        let ca_modified = modified(options.tls.ca_file.as_deref());
        let current = Current {
            client,
            ca_modified,
            looked: Instant::now(),
        };
        Ok(Self {
            options,
            current: Mutex::new(current),
        })
    }

    /// The client to use for the next attempt.
    pub fn client(&self) -> Arc<Client> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if self.options.tls.ca_file.is_some() && current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            self.renew(&mut current);
        }
        Arc::clone(&current.client)
    }

    fn renew(&self, current: &mut Current) {
        let modified = modified(self.options.tls.ca_file.as_deref());
        if modified.is_none() || modified == current.ca_modified {
            return;
        }
        match Client::new(&self.options) {
            Ok(client) => {
                current.client = Arc::new(client);
                current.ca_modified = modified;
                tracing::info!("the CA file has changed: trusting it from now on");
            }
            Err(error) => tracing::warn!(%error, "the CA file has changed, but cannot be used"),
        }
    }
}

fn modified(file: Option<&Path>) -> Option<SystemTime> {
    std::fs::metadata(file?).ok()?.modified().ok()
}
