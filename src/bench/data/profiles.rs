//! The targets of each profile, with labels of the length that clusters really have.

use super::catalogue::{
    CADVISOR, DCGM, Family, KUBE_STATE, KUBELET, NATIVE, NODE_EXPORTER, SYNTHETIC, WORKLOAD,
};
use super::values::splitmix64;
use super::{DataOptions, Label, Profile};

/// Containers, application pods and GPUs of a node.
const CONTAINERS: u32 = 8;
const APPS: u32 = 4;
const GPUS: u32 = 8;
/// Pods a node that kube-state-metrics tells about: as many series a node as with other profiles.
const GIANT_PODS: u32 = 19;

/// One target: its labels, and its page as families times things they are told of.
pub(super) struct Target {
    pub(super) labels: Vec<Label>,
    pub(super) page: Vec<(&'static [Family], Vec<Vec<Label>>)>,
}

impl Target {
    fn new(labels: Vec<Label>, families: &'static [Family]) -> Self {
        Self::each(labels, families, vec![Vec::new()])
    }

    fn each(labels: Vec<Label>, families: &'static [Family], things: Vec<Vec<Label>>) -> Self {
        let synthetic = (SYNTHETIC, vec![Vec::new()]);
        Self {
            labels,
            page: vec![(families, things), synthetic],
        }
    }
}

/// All targets of the options' profile, node by node.
pub(super) fn targets(options: &DataOptions) -> Vec<Target> {
    let names = Names(options.seed);
    let mut targets: Vec<Target> = match options.profile {
        Profile::Node => (0..options.nodes).map(bare_node).collect(),
        Profile::Giant => vec![giant(options, names)],
        Profile::Kubernetes | Profile::Churn => (0..options.nodes)
            .flat_map(|node| kubernetes_node(options, names, node))
            .collect(),
    };
    for target in &mut targets {
        if options.profile != Profile::Node {
            target.labels.extend(external());
        }
        for (name, value) in &options.external_labels {
            put(&mut target.labels, name, value.clone());
        }
    }
    targets
}

/// Sets a label, over one of the same name.
pub(super) fn put(labels: &mut Vec<Label>, name: &str, value: String) {
    match labels.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => labels.push((name.to_owned(), value)),
    }
}

/// External labels like those of a kube-prometheus installation.
fn external() -> Vec<Label> {
    labels(&[
        ("cluster", "gpu-eu-west-1"),
        ("prometheus_replica", "prometheus-k8s-0"),
    ])
}

fn labels(pairs: &[(&str, &str)]) -> Vec<Label> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn address(node: u32, port: u16) -> String {
    format!(
        "10.{}.{}.{}:{port}",
        32 + (node >> 16),
        (node >> 8) & 255,
        node & 255
    )
}

fn bare_node(node: u32) -> Target {
    let instance = address(node, 9100);
    Target::new(
        labels(&[("instance", &instance), ("job", "node")]),
        NODE_EXPORTER,
    )
}

fn kubernetes_node(options: &DataOptions, names: Names, node: u32) -> Vec<Target> {
    let mut targets = vec![
        Target::new(node_exporter(names, node), NODE_EXPORTER),
        Target::new(kubelet(node, "/metrics"), KUBELET),
        cadvisor(names, node),
        dcgm(names, node),
    ];
    for app in 0..APPS {
        let mut target = Target::new(workload(names, node, app), WORKLOAD);
        if options.histograms {
            target.page.insert(1, (NATIVE, vec![Vec::new()]));
        }
        targets.push(target);
    }
    targets
}

fn node_exporter(names: Names, node: u32) -> Vec<Label> {
    let pod = format!("node-exporter-{}", names.tail(node, 1));
    labels(&[
        ("container", "node-exporter"),
        ("endpoint", "http-metrics"),
        ("instance", &address(node, 9100)),
        ("job", "node-exporter"),
        ("namespace", "monitoring"),
        ("node", &node_name(node)),
        ("pod", &pod),
        ("service", "node-exporter"),
    ])
}

fn kubelet(node: u32, path: &str) -> Vec<Label> {
    labels(&[
        ("endpoint", "https-metrics"),
        ("instance", &address(node, 10250)),
        ("job", "kubelet"),
        ("metrics_path", path),
        ("namespace", "kube-system"),
        ("node", &node_name(node)),
        ("service", "kubelet"),
    ])
}

fn cadvisor(names: Names, node: u32) -> Target {
    let container = |n: u32| {
        let (id, uid) = (names.hex(node, 100 + n, 32), names.hex(node, 200 + n, 16));
        let cgroup = format!("/kubepods/burstable/pod{uid}/{id}");
        labels(&[
            ("container", "worker"),
            ("id", &cgroup),
            ("image", "registry.example.com/ml/worker:v2.17.3"),
            ("name", &id),
            ("namespace", &format!("runai-team-{}", n % 5)),
            ("pod", &pod_name(names, node, n)),
        ])
    };
    let things = (0..CONTAINERS).map(container).collect();
    Target::each(kubelet(node, "/metrics/cadvisor"), CADVISOR, things)
}

fn dcgm(names: Names, node: u32) -> Target {
    let gpu = |n: u32| {
        labels(&[
            ("DCGM_FI_DRIVER_VERSION", "570.148.08"),
            ("Hostname", &node_name(node)),
            ("UUID", &format!("GPU-{}", names.hex(node, 300 + n, 16))),
            ("device", &format!("nvidia{n}")),
            ("gpu", &n.to_string()),
            ("modelName", "NVIDIA H100 80GB HBM3"),
        ])
    };
    let own = labels(&[
        ("container", "nvidia-dcgm-exporter"),
        ("instance", &address(node, 9400)),
        ("job", "nvidia-dcgm-exporter"),
        ("namespace", "gpu-operator"),
        (
            "pod",
            &format!("nvidia-dcgm-exporter-{}", names.tail(node, 2)),
        ),
    ]);
    Target::each(own, DCGM, (0..GPUS).map(gpu).collect())
}

fn workload(names: Names, node: u32, app: u32) -> Vec<Label> {
    labels(&[
        ("container", "server"),
        ("endpoint", "http"),
        ("instance", &address(node, 8080 + app as u16)),
        ("job", "inference-gateway"),
        ("namespace", &format!("runai-team-{app}")),
        ("node", &node_name(node)),
        ("pod", &pod_name(names, node, 50 + app)),
        ("service", "inference-gateway-metrics"),
    ])
}

fn giant(options: &DataOptions, names: Names) -> Target {
    let pod = |n: u32| {
        labels(&[
            ("namespace", &format!("runai-team-{}", n % 23)),
            ("pod", &pod_name(names, n, 60)),
            ("uid", &names.hex(n, 61, 16)),
        ])
    };
    let own = labels(&[
        ("instance", "10.32.4.17:8080"),
        ("job", "kube-state-metrics"),
    ]);
    let pods = options.nodes * GIANT_PODS;
    Target::each(own, KUBE_STATE, (0..pods).map(pod).collect())
}

fn node_name(node: u32) -> String {
    format!("gpu-worker-{node:04}")
}

fn pod_name(names: Names, node: u32, n: u32) -> String {
    format!(
        "training-{}-{}",
        names.hex(node, 400 + n, 3),
        names.tail(node, 500 + n)
    )
}

/// Random parts of names, the same for the same seed.
#[derive(Clone, Copy)]
struct Names(u64);

impl Names {
    fn number(self, node: u32, salt: u32) -> u64 {
        splitmix64(self.0 ^ (u64::from(node) << 32) ^ u64::from(salt))
    }

    /// The five letters at the end of a pod's name.
    fn tail(self, node: u32, salt: u32) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let number = self.number(node, salt);
        let letter =
            |place: u32| LETTERS[((number >> (place * 8)) % LETTERS.len() as u64) as usize];
        (0..5).map(|place| char::from(letter(place))).collect()
    }

    fn hex(self, node: u32, salt: u32, bytes: usize) -> String {
        let mut hex = String::new();
        for word in 0..bytes.div_ceil(8) as u32 {
            let number = self.number(node, salt + (word << 20));
            for byte in number.to_be_bytes() {
                hex.extend(
                    [byte >> 4, byte & 15]
                        .map(|digit| char::from(b"0123456789abcdef"[digit as usize])),
                );
            }
        }
        hex.truncate(bytes * 2);
        hex
    }
}
