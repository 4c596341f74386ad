//! A receiver that stores nothing and forgets nothing: it counts, checks, and misbehaves on demand.
//!
//! Series are known by a hash of their sorted labels (and tenant). Of each it keeps the newest sample
//! and, as runs, the timestamps it has seen; with [`SinkOptions::verify`] the bits of every sample
//! are held against those that [`super::data`] gives for its labels and timestamp.

mod behaviour;
mod decode;
mod inspect;
mod ledger;
mod negotiate;
mod scan;
mod server;
mod stats;
mod store;
mod table;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use xxhash_rust::xxh3::xxh3_64;

pub use behaviour::{
    Behaviour, Delay, Down, Fail, Hang, Keep, RateLimit, Refuse, SeriesMatch, V2Support, When,
};
pub use decode::Decoder;
pub use ledger::SinkLedger;
pub use stats::{SinkStats, Spread};

use self::store::Store;
use super::compare::{Comparison, Faults, Holdings, compare};
use super::data::DataOptions;
use super::load::LoadReport;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Everything about a receiver that does not change while it runs.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Which code reads messages.
    pub decoder: Decoder,
    /// Check every value against the data of these options (only what values depend on matters).
    pub verify: Option<DataOptions>,
    /// Remember all timestamps, so that late samples and old duplicates are told apart, and
    /// [`SinkHandle::missing`] works.
    pub remember: bool,
    /// Keep a list of the samples that come again, for [`SinkHandle::take_repeats`].
    pub list_repeats: bool,
    /// Headers that name a tenant. Each tenant has series of its own.
    pub tenant_headers: Vec<String>,
    /// A label that must have the tenant's name as its value, if a series has it.
    pub tenant_label: Option<String>,
    /// How it behaves at first.
    pub behaviour: Behaviour,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            decoder: Decoder::Prost,
            verify: None,
            remember: true,
            list_repeats: false,
            tenant_headers: Vec::new(),
            tenant_label: None,
            behaviour: Behaviour::default(),
        }
    }
}

/// A sample that was accepted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Key of its series (and tenant).
    pub(super) key: u128,
    /// Its timestamp.
    pub(super) timestamp_ms: i64,
}

/// What all connections share.
struct Shared {
    options: SinkOptions,
    store: Mutex<Store>,
    behaviour: watch::Sender<Arc<Behaviour>>,
    /// Told after each change of the numbers.
    changed: watch::Sender<()>,
}

impl Shared {
    fn behaviour(&self) -> Arc<Behaviour> {
        Arc::clone(&self.behaviour.borrow())
    }

    /// Waits until the behaviour is as asked for.
    async fn until(&self, mut is: impl FnMut(&Behaviour) -> bool) {
        let mut behaviour = self.behaviour.subscribe();
        // Cannot fail: the sender is in `self`.
        drop(behaviour.wait_for(|now| is(now)).await);
    }

    fn update<R>(&self, change: impl FnOnce(&mut Store) -> R) -> R {
        // Numbers stay the best there are after a panic elsewhere.
        let result = change(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_replace(());
        result
    }

    fn peek<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        look(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The receiver; see [`Sink::start`].
pub struct Sink;

/// A running receiver. It stops when this is dropped.
pub struct SinkHandle {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sink {
    /// Binds, and serves on the current runtime until stopped.
    ///
    /// # Errors
    /// The address cannot be bound.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(options: SinkOptions) -> io::Result<SinkHandle> {
        let socket = bind(options.listen)?;
        let addr = socket.local_addr()?;
        let shared = Arc::new(Shared {
            store: Mutex::new(Store::new(&options)),
            behaviour: watch::Sender::new(Arc::new(options.behaviour.clone())),
            changed: watch::Sender::new(()),
            options,
        });
        let doors = Doors {
            addr,
            shared: Arc::clone(&shared),
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
        };
        let (stop, tasks) = (doors.stop.clone(), doors.connections.clone());
        let listener = match shared.behaviour().down {
            Some(Down::Refused) => Door::Shut(socket),
            _ => Door::Open(socket.listen(BACKLOG)?),
        };
        let guard = stop.clone();
        tasks.spawn(async move { guard.run_until_cancelled(doors.serve(listener)).await });
        Ok(SinkHandle {
            addr,
            shared,
            stop,
            tasks,
        })
    }
}

impl SinkHandle {
    /// Address that it is bound to, while down too.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where to send: the usual path at its address.
    pub fn url(&self) -> String {
        format!("http://{}/api/v1/write", self.addr)
    }

    /// The numbers now.
    pub fn stats(&self) -> SinkStats {
        self.shared.peek(|store| store.counting.snapshot())
    }

    /// Changes the behaviour. Requests that came before keep theirs, but hangs are released and
    /// connections closed as the new one says.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.behaviour.send_replace(Arc::new(behaviour));
    }

    /// Waits until the numbers are as asked for; the latest ones come back either way.
    ///
    /// # Errors
    /// The time is over and they are not.
    pub async fn wait_until(
        &self,
        limit: Duration,
        mut are: impl FnMut(&SinkStats) -> bool,
    ) -> Result<SinkStats, Box<SinkStats>> {
        let mut changed = self.shared.changed.subscribe();
        let reached = async {
            loop {
                let stats = self.stats();
                if are(&stats) {
                    return stats;
                }
                // Cannot fail: the sender is in `self`.
                drop(changed.changed().await);
            }
        };
        match tokio::time::timeout(limit, reached).await {
            Ok(stats) => Ok(stats),
            Err(_) => Err(Box::new(self.stats())),
        }
    }

    /// The samples that were accepted again since the last call, in the order of their arrival. Needs
    /// [`SinkOptions::list_repeats`].
    pub fn take_repeats(&self) -> Vec<Repeat> {
        self.shared
            .update(|store| std::mem::take(&mut store.repeats))
    }

    /// What is missing here of what a load was told is written; see [`compare`](super::compare).
    pub fn missing(&self, load: &LoadReport) -> Comparison {
        compare(&[self], &[load])
    }

    /// Closes everything, and gives the last numbers.
    pub async fn stop(self) -> SinkStats {
        self.close().await;
        self.stats()
    }

    /// Closes everything, and gives the last numbers and all that it has, to be written down. Needs
    /// [`SinkOptions::remember`].
    pub async fn into_ledger(self) -> (SinkStats, SinkLedger) {
        self.close().await;
        let stats = self.stats();
        let table = self.shared.update(|store| std::mem::take(&mut store.table));
        let tenant_headers = self.shared.options.tenant_headers.clone();
        let ledger = SinkLedger::new(tenant_headers, Faults::from(&stats), table);
        (stats, ledger)
    }

    async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Needs [`SinkOptions::remember`] for all but the newest sample of each series.
impl Holdings for SinkHandle {
    fn has(&self, headers: &[(String, String)], key: u128, timestamp_ms: i64) -> bool {
        let tenant = tenant_of(headers, &self.shared.options.tenant_headers);
        let key = tenant_key(key, &tenant);
        self.shared.peek(|store| store.table.has(key, timestamp_ms))
    }

    fn distinct(&self) -> u64 {
        self.shared.peek(|store| store.table.distinct())
    }

    fn faults(&self) -> Faults {
        Faults::from(&self.stats())
    }
}

impl Drop for SinkHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Between the values of several tenant headers.
const TENANT_SEPARATOR: &str = "|";

/// The tenant of a sender with these headers: the values of those that name tenants, joined.
fn tenant_of(headers: &[(String, String)], names: &[String]) -> String {
    let value_of = |name: &String| {
        let own = headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.as_str())
    };
    let values: Vec<&str> = names.iter().filter_map(value_of).collect();
    values.join(TENANT_SEPARATOR)
}

/// Key of a series of one tenant: tenants may hold the same labels, each with samples of its own.
fn tenant_key(key: u128, tenant: &str) -> u128 {
    if tenant.is_empty() {
        key
    } else {
        key ^ u128::from(xxh3_64(tenant.as_bytes()))
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// A socket that listens, or one that is only bound: connections to it are refused, and nobody
/// else gets its port.
enum Door {
    Open(TcpListener),
    Shut(TcpSocket),
}

/// Accepts connections while it is not down.
struct Doors {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl Doors {
    async fn serve(&self, mut door: Door) -> io::Result<Infallible> {
        let refused = |now: &Behaviour| now.down == Some(Down::Refused);
        loop {
            door = match door {
                Door::Open(listener) => {
                    tokio::select! {
                        () = self.shared.until(refused) => {}
                        () = self.accept(&listener) => {}
                    }
                    drop(listener);
                    Door::Shut(self.bind_again().await?)
                }
                Door::Shut(socket) => {
                    self.shared.until(|now| !refused(now)).await;
                    Door::Open(socket.listen(BACKLOG)?)
                }
            };
        }
    }

    /// Takes the port back after the listener is gone. A program that this process starts at the same
    /// moment holds a copy of the listener until it executes: the port is in use so long.
    async fn bind_again(&self) -> io::Result<TcpSocket> {
        loop {
            match bind(self.addr) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                bound => return bound,
            }
        }
    }

    async fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.connect(stream),
                // Out of file descriptors, or the peer is gone again: others may fare better.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    fn connect(&self, stream: TcpStream) {
        let (shared, stop) = (Arc::clone(&self.shared), self.stop.clone());
        self.connections.spawn(async move {
            // Only latency is at stake.
            stream.set_nodelay(true).ok();
            let service = service_fn(|request| server::handle(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // What went wrong with a connection is the sender's to tell.
                result = connection => drop(result),
                () = stop.cancelled() => {}
                () = shared.until(|now| now.down == Some(Down::Refused)) => {}
            }
        });
    }
}
