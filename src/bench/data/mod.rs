//! What is scraped: targets, their series in a fixed order, and the moments of their scrapes.
//!
//! Everything follows from [`DataOptions`]. A *slot* is one line of a target's page; without churn
//! it is one series for ever, with churn its series is replaced every few scrapes (a *generation*).
//! Scrape `k` of a target is at `start + offset + k * interval` and gives each slot one sample with
//! that timestamp; where a generation ends, its stale marker comes with the same timestamp, first.

mod catalogue;
mod histogram;
mod profiles;
mod set;
mod values;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use histogram::{Flavour, digest, expected_exemplar, expected_histogram, from_v1, to_v1};
pub use set::{DataSet, Item, Label, What};
pub use values::{
    END_LABEL, RawLabel, STALE, SeriesModel, ValueOptions, expected_bits, series_key, splitmix64,
};

/// Which exporters there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Per node: node exporter, kubelet, cAdvisor, GPU exporter, application pods (820 series).
    #[default]
    Kubernetes,
    /// Per node: the node exporter alone, with few labels.
    Node,
    /// One kube-state-metrics for all nodes.
    Giant,
    /// [`Profile::Kubernetes`], where [`Churn::default`] applies unless another one is set.
    Churn,
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kubernetes" => Ok(Self::Kubernetes),
            "node" => Ok(Self::Node),
            "giant" => Ok(Self::Giant),
            "churn" => Ok(Self::Churn),
            _ => Err(format!(
                "not a profile: {text:?} (kubernetes, node, giant or churn)"
            )),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "kubernetes",
            Self::Node => "node",
            Self::Giant => "giant",
            Self::Churn => "churn",
        })
    }
}

/// How series come and go.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Churn {
    /// Share of the slots whose series are replaced, 0 to 1.
    pub share: f64,
    /// Scrapes that a series lives; each slot is out of step with the others.
    pub every_scrapes: u32,
}

impl Default for Churn {
    fn default() -> Self {
        Self {
            share: 0.3,
            every_scrapes: 8,
        }
    }
}

/// Everything on which the data depends.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each switches one independent thing on"
)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataOptions {
    /// Which exporters.
    pub profile: Profile,
    /// Seed of names, offsets and values.
    pub seed: u64,
    /// Number of nodes.
    pub nodes: u32,
    /// Time between two scrapes of a target.
    pub interval: Duration,
    /// Timestamp (ms) at which scraping begins; `None` leaves it to the load generator.
    pub start_ms: Option<i64>,
    /// Make 1.6 % of the values special floats.
    pub weird: bool,
    /// Replace series.
    pub churn: Option<Churn>,
    /// Labels for every series; they win over a profile's own of the same name.
    pub external_labels: Vec<(String, String)>,
    /// Give application pods native histograms.
    pub histograms: bool,
    /// Give one bucket sample in 16 an exemplar.
    pub exemplars: bool,
    /// Send metadata.
    pub metadata: bool,
    /// Send start timestamps of counters and histograms (RW 2.0).
    pub start_timestamps: bool,
}

impl Default for DataOptions {
    fn default() -> Self {
        Self {
            profile: Profile::Kubernetes,
            seed: 1,
            nodes: 50,
            interval: Duration::from_secs(15),
            start_ms: None,
            weird: false,
            churn: None,
            external_labels: Vec::new(),
            histograms: false,
            exemplars: false,
            metadata: false,
            start_timestamps: false,
        }
    }
}

impl DataOptions {
    /// The churn in force.
    fn churn(&self) -> Option<Churn> {
        let default = (self.profile == Profile::Churn).then(Churn::default);
        self.churn.or(default)
    }
}
