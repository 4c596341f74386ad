//! Leads through a comparison: which metrics there are, and each of them slice by slice.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::task::JoinSet;

use super::diff::{Compared, Rule, compare};
use super::plan::{self, Selector, Slice};
use super::series::{Given, Labelling, NAME, Own, Samples, Value, labels_in};
use super::side::{Side, Told, Trouble};
use super::totals::{LeftOut, Metric, NotCompared, Totals};

/// What is compared, and how.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) window: Slice,
    /// Series of any of these; without one, all.
    pub(super) selectors: Vec<Selector>,
    pub(super) labelling: Labelling,
    /// Counts first, and samples only where they differ.
    pub(super) counts: bool,
    pub(super) rule: Rule,
    /// Metrics at a time.
    pub(super) concurrency: usize,
    /// Waited after each slice.
    pub(super) pause: Duration,
}

/// A comparison under way. What is known so far can be looked at meanwhile.
pub(super) struct Comparison {
    pub(super) from: Side,
    pub(super) to: Side,
    pub(super) wish: Wish,
    totals: Mutex<Totals>,
    /// Metrics there are, those that are done, and samples compared.
    progress: [AtomicU64; 3],
    /// Series of each metric at the end of the window.
    sizes: Mutex<HashMap<String, u64>>,
}

/// How far a comparison is.
pub(super) struct Progress {
    pub(super) metrics: u64,
    pub(super) done: u64,
    pub(super) samples: u64,
}

/// So many smallest pieces of a metric in a row that are refused, and it is given up.
const REFUSED: u32 = 3;

/// A metric, and the selector it was found by.
type Task = (Selector, String);

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    global: Global,
}

#[derive(Default, Deserialize)]
struct Global {
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
}

/// The external labels that a Prometheus' configuration file names.
pub(super) fn external_labels(yaml: &str) -> Result<BTreeMap<String, String>, String> {
    let config: Result<Config, _> = serde_saphyr::from_str(yaml);
    config
        .map(|config| config.global.external_labels)
        .map_err(|error| error.to_string())
}

impl Comparison {
    pub(super) fn new(from: Side, to: Side, wish: Wish) -> Self {
        Self {
            from,
            to,
            wish,
            totals: Mutex::default(),
            progress: [const { AtomicU64::new(0) }; 3],
            sizes: Mutex::default(),
        }
    }

    pub(super) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn progress(&self) -> Progress {
        let [metrics, done, samples] =
            [0, 1, 2].map(|at| self.progress[at].load(Ordering::Relaxed));
        Progress {
            metrics,
            done,
            samples,
        }
    }

    /// Compares everything.
    ///
    /// # Errors
    /// When a side does not answer any more. What was compared until then stays in the totals.
    pub(super) async fn run(self: &Arc<Self>) -> Result<(), Trouble> {
        let tasks = self.tasks().await?;
        self.progress[0].store(tasks.len() as u64, Ordering::Relaxed);
        let tasks = Arc::new(Mutex::new(tasks));
        let mut workers = JoinSet::new();
        for _ in 0..self.wish.concurrency.max(1) {
            let (this, tasks) = (Arc::clone(self), Arc::clone(&tasks));
            workers.spawn(async move {
                loop {
                    let next = tasks
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some((selector, name)) = next else {
                        return Ok(());
                    };
                    this.metric(&selector, &name).await?;
                    this.progress[1].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            // The first that fails ends all: dropping the set stops the others.
            ended.map_err(|error| Trouble::Unreachable(error.to_string()))??;
        }
        Ok(())
    }

    /// Series that only the receiver has count only where labels mark them as the sender's.
    fn knows_its_own(&self) -> bool {
        let Labelling { add, ignore } = &self.wish.labelling;
        add.keys().any(|name| !ignore.contains(name))
    }

    async fn tasks(&self) -> Result<VecDeque<Task>, Trouble> {
        let Wish {
            window, labelling, ..
        } = &self.wish;
        let mut selectors = self.wish.selectors.clone();
        if selectors.is_empty() {
            selectors.push(Selector::default());
        }
        self.look_for_labels().await?;
        let mut tasks = VecDeque::new();
        for selector in selectors {
            let mut names: BTreeSet<String> = self
                .from
                .values(NAME, &selector, *window)
                .await?
                .into_iter()
                .collect();
            if self.knows_its_own() {
                let received = selector.received(labelling, &Own::new());
                names.extend(self.to.values(NAME, &received, *window).await?);
            }
            self.measure(&selector).await?;
            tasks.extend(names.into_iter().map(|name| (selector.clone(), name)));
        }
        Ok(tasks)
    }

    /// Whether the receiver knows the labels that the sender adds at all: if not, everything will be missing,
    /// and this is why.
    async fn look_for_labels(&self) -> Result<(), Trouble> {
        let Labelling { add, ignore } = &self.wish.labelling;
        for (name, value) in add {
            if ignore.contains(name) {
                continue;
            }
            let everything = Selector::default();
            let values = self.to.values(name, &everything, self.wish.window).await?;
            if values.contains(value) {
                continue;
            }
            // Where --to has nothing in the window at all, the label is not why.
            let names = self.to.values(NAME, &everything, self.wish.window).await?;
            if !names.is_empty() {
                self.totals().hints.insert(format!(
                    "nothing at --to carries the label {name}={value:?} that --from adds: if it is taken off on the way \
                     (deduplication of replicas, write_relabel_configs), use --ignore-label {name}"
                ));
            }
        }
        Ok(())
    }

    /// How many series each metric has, to make slices of the right length. Without it they find their length
    /// by trying.
    async fn measure(&self, selector: &Selector) -> Result<(), Trouble> {
        let query = format!("count by ({NAME}) ({})", selector.of_any_name());
        let mut found = HashMap::new();
        let mut sink = |given: Given| {
            let name = given.labels.into_iter().find(|(name, _)| name == NAME);
            let count = given.samples.first().map(|sample| sample.value);
            if let (Some((_, name)), Some(Value::Float(count))) = (name, count) {
                found.insert(name, count as u64);
            }
        };
        let asked = self.from.query(&query, self.wish.window, &mut sink).await;
        match asked {
            Ok(_) | Err(Trouble::TooMuch(_)) => {}
            Err(trouble) => return Err(trouble),
        }
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        sizes.extend(found);
        Ok(())
    }

    /// Compares a metric through the whole window.
    async fn metric(&self, selector: &Selector, name: &str) -> Result<(), Trouble> {
        let window = self.wish.window;
        let series = {
            let sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
            sizes.get(name).copied()
        };
        let mut length = plan::first_length(series, self.wish.counts, window);
        let mut metric = Metric::default();
        let mut parts = vec![selector.named(name)];
        let mut at = window.after;
        // Smallest pieces in a row that were refused.
        let mut refused = 0;
        'window: while at < window.until {
            let slice = Slice {
                after: at,
                until: window.until.min(at + length),
            };
            let (mut most, mut shorter) = (0, None);
            let mut todo: VecDeque<_> = parts.iter().map(|part| (part.clone(), slice)).collect();
            while let Some((part, piece)) = todo.pop_front() {
                match self.slice(name, &part, piece, &mut metric).await {
                    Ok(bytes) => (most, refused) = (most.max(bytes), 0),
                    Err(Trouble::TooMuch(why)) => match self.smaller(&part, piece).await? {
                        Smaller::Length(length) => {
                            let (one, other) = piece.cut(length);
                            todo.push_front((part.clone(), other));
                            todo.push_front((part, one));
                            shorter = Some(length);
                        }
                        Smaller::Parts(one, other) => {
                            // From now on they stand in its place.
                            parts.retain(|known| *known != part);
                            for half in [other, one] {
                                parts.push(half.clone());
                                todo.push_front((half, piece));
                            }
                        }
                        Smaller::Nothing => {
                            refused += 1;
                            if refused == REFUSED {
                                // It is not the size: the rest would be refused too, second by second.
                                let rest = Slice {
                                    after: piece.after,
                                    until: window.until,
                                };
                                metric.not_compared.push(lost(name, rest, why));
                                break 'window;
                            }
                            metric.not_compared.push(lost(name, piece, why));
                        }
                    },
                    Err(trouble) => return Err(trouble),
                }
            }
            length = match shorter {
                Some(shorter) => shorter,
                None if most > 0 => plan::next_length(slice.length(), most, window),
                None => length,
            };
            at = slice.until;
        }
        let foreign = !self.knows_its_own();
        self.totals().add(name, metric, foreign);
        Ok(())
    }

    /// What to ask instead of a slice that is too much.
    async fn smaller(&self, part: &Selector, slice: Slice) -> Result<Smaller, Trouble> {
        if let Some(length) = plan::half(slice.length(), plan::SHORT) {
            return Ok(Smaller::Length(length));
        }
        match self.halves(part, slice).await {
            Ok(Some((one, other))) => return Ok(Smaller::Parts(one, other)),
            // Lists that are too long as well.
            Ok(None) | Err(Trouble::TooMuch(_)) => {}
            Err(trouble) => return Err(trouble),
        }
        Ok(plan::half(slice.length(), 0).map_or(Smaller::Nothing, Smaller::Length))
    }

    /// The series of a part in two halves, by the label that has the most values.
    async fn halves(
        &self,
        part: &Selector,
        slice: Slice,
    ) -> Result<Option<(Selector, Selector)>, Trouble> {
        let Labelling { add, ignore } = &self.wish.labelling;
        let mut best: Option<(String, BTreeSet<String>)> = None;
        for label in self.from.labels(part, slice).await? {
            let plain = super::series::is_plain(&label);
            if label == NAME || !plain || add.contains_key(&label) || ignore.contains(&label) {
                continue;
            }
            let values = self.from.values(&label, part, slice).await?;
            let values: BTreeSet<_> = values.into_iter().collect();
            if best
                .as_ref()
                .is_none_or(|(_, most)| values.len() > most.len())
            {
                best = Some((label, values));
            }
        }
        Ok(best.and_then(|(label, values)| part.halves(&label, &values)))
    }

    /// Compares a slice of a part. The result is the size of the longer answer.
    async fn slice(
        &self,
        name: &str,
        part: &Selector,
        slice: Slice,
        metric: &mut Metric,
    ) -> Result<u64, Trouble> {
        let mut bytes = 0;
        if self.wish.counts {
            let (same, answer) = self.counts(name, part, slice, metric).await?;
            bytes = answer;
            if let Some(counts) = same {
                for (series, count) in counts {
                    let agreed = Compared {
                        samples: count,
                        agreed: count,
                        ..Compared::default()
                    };
                    metric.take(&series, &agreed);
                }
                self.rest(metric).await;
                return Ok(bytes);
            }
        }
        let mut own = Own::new();
        let labelling = &self.wish.labelling;
        let from = self.samples(&self.from, part, slice, labelling, &mut own);
        let from = from.await?;
        let received = part.received(labelling, &own);
        let (bare, mut none) = (labelling.without_added(), Own::new());
        let to = self.samples(&self.to, &received, slice, &bare, &mut none);
        let to = to.await?;
        for side in [&from, &to] {
            bytes = bytes.max(side.told.bytes);
            metric.left_out.nans += side.left_out.nans;
            metric.left_out.histograms += side.left_out.histograms;
            metric.warnings.extend(side.told.warnings.iter().cloned());
        }
        let (mut from, mut to) = (from.samples, to.samples);
        if metric.hint.is_none() {
            metric.hint = hint(&from, &to);
        }
        for (series, samples) in &mut from {
            let mut received = to.remove(series).unwrap_or_default();
            metric.take(series, &compare(samples, &mut received, self.wish.rule));
        }
        for (series, samples) in &mut to {
            metric.take(series, &compare(&mut [], samples, self.wish.rule));
        }
        self.rest(metric).await;
        Ok(bytes)
    }

    async fn rest(&self, metric: &mut Metric) {
        let known = metric.samples - metric.told;
        metric.told = metric.samples;
        self.progress[2].fetch_add(known, Ordering::Relaxed);
        if !self.wish.pause.is_zero() {
            tokio::time::sleep(self.wish.pause).await;
        }
    }

    /// Raw samples of one side by series.
    async fn samples(
        &self,
        side: &Side,
        selector: &Selector,
        slice: Slice,
        labelling: &Labelling,
        own: &mut Own,
    ) -> Result<Fetched, Trouble> {
        let mut found = Samples::new();
        let mut left_out = LeftOut::default();
        let bare = self.from.victoriametrics || self.to.victoriametrics;
        let mut sink = |mut given: Given| {
            let series = labelling.text(&mut given.labels, own);
            let samples = given.samples.into_iter().filter(|sample| {
                // A side whose ranges are closed gives what stands at `after` too.
                let inside = slice.holds(sample.at);
                let kept = match sample.value {
                    Value::Float(value) => !(bare && value.is_nan()),
                    Value::Histogram(_) => !bare,
                };
                if inside && !kept {
                    match sample.value {
                        Value::Float(_) => left_out.nans += 1,
                        Value::Histogram(_) => left_out.histograms += 1,
                    }
                }
                inside && kept
            });
            let mut samples = samples.peekable();
            if samples.peek().is_some() {
                found.entry(series).or_default().extend(samples);
            }
        };
        let query = plan::samples(selector, slice);
        let told = side.query(&query, slice, &mut sink).await?;
        Ok(Fetched {
            samples: found,
            left_out,
            told,
        })
    }

    /// Counts by series, if both sides have the same, and the size of the longer answer.
    async fn counts(
        &self,
        name: &str,
        part: &Selector,
        slice: Slice,
        metric: &mut Metric,
    ) -> Result<(Option<Counts>, u64), Trouble> {
        let labelling = &self.wish.labelling;
        let mut own = Own::new();
        let (from, bytes) =
            count(&self.from, name, part, slice, labelling, &mut own, metric).await?;
        let received = part.received(labelling, &own);
        let bare = labelling.without_added();
        let mut none = Own::new();
        let (to, more) = count(&self.to, name, &received, slice, &bare, &mut none, metric).await?;
        Ok(((from == to).then_some(from), bytes.max(more)))
    }
}

/// A slice of one side.
struct Fetched {
    samples: Samples,
    left_out: LeftOut,
    told: Told,
}

/// Samples of each series.
type Counts = HashMap<String, u64>;

async fn count(
    side: &Side,
    name: &str,
    selector: &Selector,
    slice: Slice,
    labelling: &Labelling,
    own: &mut Own,
    metric: &mut Metric,
) -> Result<(Counts, u64), Trouble> {
    let mut found = Counts::new();
    let mut sink = |mut given: Given| {
        // A function takes the name away.
        given.labels.push((NAME.to_owned(), name.to_owned()));
        let series = labelling.text(&mut given.labels, own);
        if let Some(Value::Float(count)) = given.samples.first().map(|sample| sample.value) {
            *found.entry(series).or_default() += count as u64;
        }
    };
    let query = plan::counts(selector, slice, side.closed);
    let told = side.query(&query, slice, &mut sink).await?;
    metric.warnings.extend(told.warnings);
    Ok((found, told.bytes))
}

/// A question that is smaller.
enum Smaller {
    Length(i64),
    Parts(Selector, Selector),
    Nothing,
}

fn lost(name: &str, slice: Slice, why: String) -> NotCompared {
    NotCompared {
        metric: name.to_owned(),
        after: slice.after,
        until: slice.until,
        why,
    }
}

/// What one could do about series that are on one side only, where their labels tell.
fn hint(from: &Samples, to: &Samples) -> Option<String> {
    let lonely = from.keys().find(|series| !to.contains_key(*series))?;
    let here = labels_in(lonely);
    let others = to.keys().filter(|series| !from.contains_key(*series));
    for other in others.take(100) {
        let there = labels_in(other);
        let lacks = |a: &BTreeMap<&str, &str>, b: &BTreeMap<&str, &str>| {
            let mut pairs = a.iter();
            pairs.all(|(name, value)| b.get(name) == Some(value))
        };
        let only = |a: &BTreeMap<&str, &str>, b: &BTreeMap<&str, &str>| {
            let names = a.keys().filter(|name| !b.contains_key(*name));
            names
                .map(|name| format!("--ignore-label {name}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        if lacks(&here, &there) {
            let flags = only(&there, &here);
            return Some(format!(
                "series at --to have labels that those of --from lack: {flags}, or --add-label, would match them"
            ));
        }
        if lacks(&there, &here) {
            let flags = only(&here, &there);
            return Some(format!(
                "series at --to lack labels that those of --from have: {flags} would match them"
            ));
        }
    }
    None
}
