//! Reads the program's metrics ten times a second, and holds every scrape against what must always be true.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{interval, timeout};

const EVERY: Duration = Duration::from_millis(100);
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// The books' sums, which only grow.
const SUMS: [&str; 5] = [
    "sluicegate_queue_received_samples_total",
    "sluicegate_delivered_samples_total",
    "sluicegate_unconfirmed_samples_total",
    "sluicegate_dropped_samples_total",
    "sluicegate_quarantined_samples_total",
];

/// One scrape: the text as it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scrape(String);

impl Scrape {
    /// Scrapes now; `None` if nobody answers, or not to the end.
    pub(crate) async fn of(admin: SocketAddr) -> Option<Self> {
        let read = timeout(SCRAPE_LIMIT, get(admin, "/metrics")).await.ok()?;
        read.ok().map(Self).filter(Self::is_whole)
    }

    /// A process that is killed while it answers leaves half a page.
    fn is_whole(&self) -> bool {
        self.0.ends_with('\n') && self.0.contains("sluicegate_conservation_error")
    }

    /// A metric's value, summed over its series that carry all of these `name="value"` texts.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_series = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let is_it =
                rest.starts_with([' ', '{']) && labels.iter().all(|label| rest.contains(label));
            is_it.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        };
        self.0.lines().filter_map(of_series).sum()
    }

    /// Elements that are not settled.
    pub(crate) fn pending(&self) -> f64 {
        self.sum("sluicegate_pending_samples", &[])
    }

    /// What must be true of every scrape, and is not.
    fn faults(&self) -> Option<String> {
        let error = self.sum("sluicegate_conservation_error", &[]);
        (error != 0.0)
            .then(|| format!("sluicegate_conservation_error is {error}\n{}", self.books()))
    }

    /// The lines of the books, for messages.
    pub(crate) fn books(&self) -> String {
        let book = |line: &&str| {
            let names = ["conservation_error", "pending_samples", "at_risk_samples"];
            let names = names.iter().any(|name| line.contains(name));
            names || SUMS.iter().any(|sum| line.starts_with(sum))
        };
        self.0.lines().filter(book).collect::<Vec<_>>().join("\n")
    }
}

/// The body of an answer to a GET.
async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Ok(body.unwrap_or_default())
}

/// What the scrapes of all lives showed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Whole scrapes.
    pub(crate) scrapes: u64,
    /// What was wrong, at first.
    pub(crate) faults: Vec<String>,
    /// The greatest value of each sum.
    greatest: BTreeMap<&'static str, f64>,
}

impl Seen {
    fn note(&mut self, scrape: &Scrape, sums_survive: bool) {
        self.scrapes += 1;
        self.faults.extend(scrape.faults());
        if !sums_survive {
            return;
        }
        for name in SUMS {
            let now = scrape.sum(name, &[]);
            let before = self.greatest.insert(name, now).unwrap_or(0.0);
            if now < before {
                self.faults
                    .push(format!("{name} went from {before} to {now}"));
            }
        }
    }
}

/// Scrapes in the background until dropped.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Watch {
    /// `sums_survive`: the books go on after a restart where they were.
    pub(crate) fn start(admin: SocketAddr, sums_survive: bool) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let noted = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            loop {
                ticks.tick().await;
                if let Some(scrape) = Scrape::of(admin).await {
                    let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    seen.note(&scrape, sums_survive);
                }
            }
        });
        Self { seen, task }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[test]
fn a_scrape_whose_books_do_not_balance_or_go_back_is_a_fault() {
    let page = |delivered: u32, error: i32| {
        Scrape(format!(
            "sluicegate_delivered_samples_total{{remote_name=\"a\",kind=\"sample\"}} {delivered}\n\
             sluicegate_delivered_samples_total{{remote_name=\"a\",kind=\"histogram\"}} 5\n\
             sluicegate_conservation_error{{remote_name=\"a\"}} {error}\n"
        ))
    };
    let mut seen = Seen::default();
    seen.note(&page(10, 0), true);
    seen.note(&page(10, 0), true);
    assert!(seen.faults.is_empty(), "{seen:?}");
    seen.note(&page(9, 0), true);
    assert_eq!(seen.faults.len(), 1, "{seen:?}");
    seen.note(&page(1, -1), false);
    assert_eq!(seen.faults.len(), 2, "{seen:?}");
}
