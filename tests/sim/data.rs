//! Random requests of both protocols, and what is in them.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use sluicegate::log::Tenant;
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::wire::decoded::{Protocol, WalkLimits};
use sluicegate::wire::pb::{rw1, rw2};

/// One element of a request. Its id is what stands in its value bits, so it can be told from all others
/// wherever it turns up.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// Tenant and sorted labels.
    pub(crate) series: Arc<str>,
    pub(crate) timestamp: i64,
    /// Start timestamp of a sample; 0 when it has none.
    pub(crate) start: i64,
    /// Place in its request: row, kind, place in the row.
    pub(crate) place: (usize, usize, usize),
    /// Its series is valid.
    pub(crate) admitted: bool,
    /// A histogram with custom buckets.
    pub(crate) custom: bool,
}

/// A request, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) protocol: Protocol,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) message: Bytes,
    pub(crate) elements: Vec<Element>,
}

impl Request {
    /// Admitted elements by kind.
    pub(crate) fn admitted(&self) -> Counts {
        let admitted = self.elements.iter().filter(|element| element.admitted);
        admitted.map(|element| Counts::of(element.kind, 1)).sum()
    }
}

/// No limit that a simulated request comes near.
pub(crate) const WALK: WalkLimits = WalkLimits {
    series: 100_000,
    elements: 1 << 20,
    labels: 100,
    label_bytes: 0,
    expanded_bytes: usize::MAX,
};

/// Makes requests.
pub(crate) struct Source {
    tenants: Vec<Arc<Tenant>>,
    targets: Vec<Vec<(String, String)>>,
    clusters: usize,
    rows: usize,
    next_id: u64,
    clock: i64,
}

impl Source {
    /// A world of few or many tenants, targets and clusters.
    pub(crate) fn new(rng: &mut fastrand::Rng, many_keys: bool) -> Self {
        let tenant = |n: usize| {
            Arc::new(Tenant(match n {
                0 => Vec::new(),
                n => vec![("x-scope-orgid".to_owned(), format!("tenant-{n}"))],
            }))
        };
        let target = |n: usize| {
            let label = |name: &str, value: String| (name.to_owned(), value);
            match n % 4 {
                0 => vec![
                    label("job", "ksm".into()),
                    label("instance", "heavy".into()),
                ],
                1 => vec![label("job", format!("push-{n}"))],
                _ => vec![
                    label("job", "node".into()),
                    label("instance", format!("host-{n}")),
                ],
            }
        };
        Self {
            tenants: (0..rng.usize(1..4)).map(tenant).collect(),
            targets: (0..rng.usize(1..12)).map(target).collect(),
            clusters: if many_keys { 3000 } else { rng.usize(1..4) },
            rows: if many_keys { 200 } else { rng.usize(2..25) },
            next_id: 1,
            clock: 1_700_000_000_000,
        }
    }

    /// A new request.
    pub(crate) fn request(&mut self, rng: &mut fastrand::Rng) -> Request {
        self.clock += rng.i64(1..1000);
        let protocol = rng
            .choice([Protocol::V1, Protocol::V2])
            .unwrap_or(Protocol::V1);
        let at = rng.usize(..self.tenants.len());
        let tenant = Arc::clone(&self.tenants[at]);
        let rows: Vec<_> = (0..rng.usize(..self.rows))
            .map(|_| self.row(rng, protocol))
            .collect();
        let mut elements = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            row.list(number, &tenant, &mut elements);
        }
        let message = match protocol {
            Protocol::V1 => encode_v1(&rows, some_metadata(rng)),
            Protocol::V2 => encode_v2(&rows),
        };
        Request {
            protocol,
            tenant,
            message: message.into(),
            elements,
        }
    }

    fn row(&mut self, rng: &mut fastrand::Rng, protocol: Protocol) -> Row {
        let heavy = rng.bool();
        let target = if heavy {
            0
        } else {
            rng.usize(..self.targets.len())
        };
        let mut labels = self.targets[target].clone();
        let mut add = |name: &str, value: String| labels.push((name.to_owned(), value));
        let fault = Fault::any(rng);
        if fault != Fault::NoName {
            add("__name__", format!("metric_{}", rng.u8(..6)));
        }
        if heavy {
            add("namespace", format!("team-{}", rng.u8(..10)));
        }
        if self.clusters > 1 {
            add("cluster", format!("c{}", rng.usize(..self.clusters)));
        }
        if fault == Fault::RepeatedName {
            add("job", "again".to_owned());
        }
        rng.shuffle(&mut labels);
        let mut row = Row {
            labels,
            fault,
            ..Row::default()
        };
        if fault == Fault::NoElement {
            return row;
        }
        // Few rows have more than one kind, or more than a handful of elements.
        let many = if rng.u8(..40) == 0 { 60 } else { 4 };
        let histograms = rng.u8(..6) == 0 || fault == Fault::Histogram;
        if !histograms || rng.u8(..4) == 0 {
            for _ in 0..rng.usize(1..many) {
                let start = if protocol == Protocol::V2 && rng.u8(..4) == 0 {
                    self.clock - 9
                } else {
                    0
                };
                let value = self.value(rng, start);
                row.samples.push(value);
            }
        }
        if histograms {
            for _ in 0..rng.usize(1..4) {
                let value = self.value(rng, 0);
                row.histograms.push((value, rng.u8(..4) == 0));
            }
        }
        if rng.u8(..5) == 0 {
            for _ in 0..rng.usize(1..3) {
                let value = self.value(rng, 0);
                row.exemplars.push(value);
            }
        }
        row.help = rng.u8(..8) == 0;
        row
    }

    fn value(&mut self, rng: &mut fastrand::Rng, start: i64) -> Value {
        self.next_id += 1;
        self.clock += i64::from(rng.u8(..3));
        // Now and then out of order: the proxy moves it as it came.
        let late = if rng.u8(..16) == 0 {
            rng.i64(0..500)
        } else {
            0
        };
        Value {
            id: self.next_id,
            timestamp: self.clock - late,
            start,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Value {
    id: u64,
    timestamp: i64,
    start: i64,
}

/// What makes a series invalid by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    NoName,
    RepeatedName,
    NoElement,
    Histogram,
}

impl Fault {
    fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u8(..60) {
            0 => Self::NoName,
            1 => Self::RepeatedName,
            2 => Self::NoElement,
            3 => Self::Histogram,
            _ => Self::None,
        }
    }
}

#[derive(Debug, Default)]
struct Row {
    labels: Vec<(String, String)>,
    samples: Vec<Value>,
    histograms: Vec<(Value, bool)>,
    exemplars: Vec<Value>,
    help: bool,
    fault: Fault,
}

impl Row {
    fn list(&self, number: usize, tenant: &Tenant, out: &mut Vec<Element>) {
        let mut labels = self.labels.clone();
        labels.sort();
        let series: Arc<str> = series_text(tenant, labels.iter().map(|(n, v)| (&**n, &**v))).into();
        let samples = self.samples.iter().map(|value| (*value, false));
        let exemplars = self.exemplars.iter().map(|value| (*value, false));
        let kinds: [Vec<_>; 3] = [
            samples.collect(),
            self.histograms.clone(),
            exemplars.collect(),
        ];
        for (kind, values) in kinds.into_iter().enumerate() {
            for (at, (value, custom)) in values.into_iter().enumerate() {
                out.push(Element {
                    id: value.id,
                    kind: Kind::ALL[kind],
                    series: Arc::clone(&series),
                    timestamp: value.timestamp,
                    start: value.start,
                    place: (number, kind, at),
                    admitted: self.fault == Fault::None,
                    custom,
                });
            }
        }
    }
}

/// A series as text: tenant and sorted labels.
pub(crate) fn series_text<'a>(
    tenant: &Tenant,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut text = format!("{:?}", tenant.0);
    for (name, value) in labels {
        text.extend([" ", name, "=", value]);
    }
    text
}

fn some_metadata(rng: &mut fastrand::Rng) -> Vec<rw1::MetricMetadata> {
    let families = rng.usize(..3);
    let one = |n| rw1::MetricMetadata {
        r#type: 1,
        metric_family_name: format!("metric_{n}"),
        help: format!("help {}", rng.u8(..4)),
        unit: String::new(),
    };
    (0..families).map(one).collect()
}

fn encode_v1(rows: &[Row], metadata: Vec<rw1::MetricMetadata>) -> Vec<u8> {
    let series = |row: &Row| rw1::TimeSeries {
        labels: row
            .labels
            .iter()
            .map(|(name, value)| rw1::Label {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        samples: row
            .samples
            .iter()
            .map(|value| rw1::Sample {
                value: f64::from_bits(value.id),
                timestamp: value.timestamp,
            })
            .collect(),
        exemplars: row
            .exemplars
            .iter()
            .map(|value| rw1::Exemplar {
                labels: vec![rw1::Label {
                    name: "trace".into(),
                    value: format!("{:x}", value.id),
                }],
                value: f64::from_bits(value.id),
                timestamp: value.timestamp,
            })
            .collect(),
        histograms: row
            .histograms
            .iter()
            .map(|(value, custom)| histogram_v1(row, *value, *custom))
            .collect(),
    };
    rw1::WriteRequest {
        metadata,
        timeseries: rows.iter().map(series).collect(),
    }
    .encode_to_vec()
}

fn histogram_v1(row: &Row, value: Value, custom: bool) -> rw1::Histogram {
    let count = if row.fault == Fault::Histogram { 99 } else { 3 };
    rw1::Histogram {
        sum: f64::from_bits(value.id),
        schema: if custom { -53 } else { 0 },
        positive_spans: vec![rw1::BucketSpan {
            offset: 0,
            length: 2,
        }],
        positive_deltas: vec![1, 1],
        custom_values: if custom { vec![1.0] } else { Vec::new() },
        timestamp: value.timestamp,
        count: Some(rw1::histogram::Count::CountInt(count)),
        ..rw1::Histogram::default()
    }
}

fn encode_v2(rows: &[Row]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut symbol = |text: &str| {
        let at = symbols
            .iter()
            .position(|known| known == text)
            .unwrap_or_else(|| {
                symbols.push(text.to_owned());
                symbols.len() - 1
            });
        at as u32
    };
    let mut timeseries = Vec::new();
    for row in rows {
        let mut series = rw2::TimeSeries::default();
        for (name, value) in &row.labels {
            series.labels_refs.extend([symbol(name), symbol(value)]);
        }
        for value in &row.samples {
            series.samples.push(rw2::Sample {
                value: f64::from_bits(value.id),
                timestamp: value.timestamp,
                start_timestamp: value.start,
            });
        }
        for (value, custom) in &row.histograms {
            // The message is the same in both versions.
            let message = histogram_v1(row, *value, *custom).encode_to_vec();
            series
                .histograms
                .push(rw2::Histogram::decode(&*message).expect("the same message"));
        }
        for value in &row.exemplars {
            series.exemplars.push(rw2::Exemplar {
                labels_refs: vec![symbol("trace"), symbol("abc")],
                value: f64::from_bits(value.id),
                timestamp: value.timestamp,
            });
        }
        series.metadata = row.help.then(|| rw2::Metadata {
            r#type: 2,
            help_ref: symbol("help"),
            unit_ref: 0,
        });
        timeseries.push(series);
    }
    rw2::Request {
        symbols,
        timeseries,
    }
    .encode_to_vec()
}

/// A 1.0 request: by instance, so many samples and exemplars of one series each.
pub(crate) fn plain(rows: &[(&str, usize, usize)], next_id: &mut u64) -> Request {
    let mut value = |_| {
        *next_id += 1;
        let id = *next_id;
        Value {
            id,
            timestamp: id.cast_signed(),
            start: 0,
        }
    };
    let mut row = |(instance, samples, exemplars): &(&str, usize, usize)| Row {
        labels: [("__name__", "up"), ("instance", *instance), ("job", "node")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        samples: (0..*samples).map(&mut value).collect(),
        exemplars: (0..*exemplars).map(&mut value).collect(),
        ..Row::default()
    };
    let rows: Vec<_> = rows.iter().map(&mut row).collect();
    let tenant = Arc::<Tenant>::default();
    let mut elements = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        row.list(number, &tenant, &mut elements);
    }
    Request {
        protocol: Protocol::V1,
        tenant,
        message: encode_v1(&rows, Vec::new()).into(),
        elements,
    }
}
