//! The metrics of well-known exporters, in the order in which they print them.
//!
//! Names and labels are real; the lists are cut to about 820 series a Kubernetes node.

/// A metric and the labels that multiply it.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) dims: &'static [Dim],
}

/// One label of a metric, with all its values.
pub(super) enum Dim {
    /// These values.
    Of(&'static str, &'static [&'static str]),
    /// A prefix and the numbers from 0.
    Each(&'static str, &'static str, u32),
}

use Dim::{Each, Of};

const fn plain(name: &'static str) -> Family {
    Family { name, dims: &[] }
}

const fn with(name: &'static str, dims: &'static [Dim]) -> Family {
    Family { name, dims }
}

const CPUS: u32 = 8;
const DISK: &[Dim] = &[Of("device", &["nvme0n1", "nvme1n1", "sda"])];
const NIC: &[Dim] = &[Of("device", &["eth0", "ib0", "lo", "cilium_host"])];
const FILESYSTEM: &[Dim] = &[
    Of("device", &["/dev/nvme0n1p1"]),
    Of("fstype", &["ext4", "tmpfs", "vfat"]),
    Of("mountpoint", &["/var/lib/kubelet"]),
];
const BOUNDS: &[&str] = &[
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
];

pub(super) const NODE_EXPORTER: &[Family] = &[
    with(
        "go_gc_duration_seconds",
        &[Of("quantile", &["0", "0.25", "0.5", "0.75", "1"])],
    ),
    plain("go_gc_duration_seconds_sum"),
    plain("go_gc_duration_seconds_count"),
    plain("go_goroutines"),
    with("go_info", &[Of("version", &["go1.24.4"])]),
    plain("go_memstats_alloc_bytes"),
    plain("go_memstats_alloc_bytes_total"),
    plain("go_memstats_heap_inuse_bytes"),
    plain("go_threads"),
    with("node_arp_entries", NIC),
    plain("node_boot_time_seconds"),
    plain("node_context_switches_total"),
    with(
        "node_cpu_guest_seconds_total",
        &[Each("cpu", "", CPUS), Of("mode", &["nice", "user"])],
    ),
    with(
        "node_cpu_seconds_total",
        &[
            Each("cpu", "", CPUS),
            Of(
                "mode",
                &[
                    "idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user",
                ],
            ),
        ],
    ),
    with("node_disk_discard_time_seconds_total", DISK),
    with("node_disk_io_now", DISK),
    with("node_disk_io_time_seconds_total", DISK),
    with("node_disk_io_time_weighted_seconds_total", DISK),
    with("node_disk_read_bytes_total", DISK),
    with("node_disk_read_time_seconds_total", DISK),
    with("node_disk_reads_completed_total", DISK),
    with("node_disk_reads_merged_total", DISK),
    with("node_disk_write_time_seconds_total", DISK),
    with("node_disk_writes_completed_total", DISK),
    with("node_disk_written_bytes_total", DISK),
    plain("node_entropy_available_bits"),
    with("node_filesystem_avail_bytes", FILESYSTEM),
    with("node_filesystem_device_error", FILESYSTEM),
    with("node_filesystem_files", FILESYSTEM),
    with("node_filesystem_files_free", FILESYSTEM),
    with("node_filesystem_free_bytes", FILESYSTEM),
    with("node_filesystem_readonly", FILESYSTEM),
    with("node_filesystem_size_bytes", FILESYSTEM),
    plain("node_forks_total"),
    with(
        "node_hwmon_temp_celsius",
        &[
            Of("chip", &["platform_coretemp_0"]),
            Each("sensor", "temp", 8),
        ],
    ),
    plain("node_intr_total"),
    plain("node_load1"),
    plain("node_load15"),
    plain("node_load5"),
    plain("node_memory_Active_anon_bytes"),
    plain("node_memory_Active_bytes"),
    plain("node_memory_Active_file_bytes"),
    plain("node_memory_AnonHugePages_bytes"),
    plain("node_memory_AnonPages_bytes"),
    plain("node_memory_Buffers_bytes"),
    plain("node_memory_Cached_bytes"),
    plain("node_memory_CommitLimit_bytes"),
    plain("node_memory_Committed_AS_bytes"),
    plain("node_memory_Dirty_bytes"),
    plain("node_memory_HugePages_Free"),
    plain("node_memory_HugePages_Total"),
    plain("node_memory_Inactive_anon_bytes"),
    plain("node_memory_Inactive_bytes"),
    plain("node_memory_Inactive_file_bytes"),
    plain("node_memory_KernelStack_bytes"),
    plain("node_memory_Mapped_bytes"),
    plain("node_memory_MemAvailable_bytes"),
    plain("node_memory_MemFree_bytes"),
    plain("node_memory_MemTotal_bytes"),
    plain("node_memory_PageTables_bytes"),
    plain("node_memory_SReclaimable_bytes"),
    plain("node_memory_Shmem_bytes"),
    plain("node_memory_Slab_bytes"),
    plain("node_memory_SwapFree_bytes"),
    plain("node_memory_SwapTotal_bytes"),
    plain("node_memory_Unevictable_bytes"),
    plain("node_memory_Writeback_bytes"),
    plain("node_netstat_Icmp_InErrors"),
    plain("node_netstat_Tcp_ActiveOpens"),
    plain("node_netstat_Tcp_CurrEstab"),
    plain("node_netstat_Tcp_InSegs"),
    plain("node_netstat_Tcp_OutSegs"),
    plain("node_netstat_Tcp_RetransSegs"),
    plain("node_netstat_Udp_InDatagrams"),
    plain("node_netstat_Udp_OutDatagrams"),
    with("node_network_carrier", NIC),
    with(
        "node_network_info",
        &[
            Of("device", &["eth0", "ib0", "lo"]),
            Of("operstate", &["up"]),
        ],
    ),
    with("node_network_mtu_bytes", NIC),
    with("node_network_receive_bytes_total", NIC),
    with("node_network_receive_drop_total", NIC),
    with("node_network_receive_errs_total", NIC),
    with("node_network_receive_packets_total", NIC),
    with("node_network_speed_bytes", NIC),
    with("node_network_transmit_bytes_total", NIC),
    with("node_network_transmit_drop_total", NIC),
    with("node_network_transmit_errs_total", NIC),
    with("node_network_transmit_packets_total", NIC),
    with("node_network_up", NIC),
    plain("node_nf_conntrack_entries"),
    plain("node_procs_blocked"),
    plain("node_procs_running"),
    with("node_softnet_dropped_total", &[Each("cpu", "", CPUS)]),
    with("node_softnet_processed_total", &[Each("cpu", "", CPUS)]),
    plain("node_sockstat_TCP_inuse"),
    plain("node_sockstat_TCP_mem_bytes"),
    plain("node_time_seconds"),
    plain("node_timex_offset_seconds"),
    with("node_uname_info", &[Of("release", &["6.8.0-1031-nvidia"])]),
    plain("node_vmstat_oom_kill"),
    plain("node_vmstat_pgfault"),
    plain("node_vmstat_pgmajfault"),
    plain("process_cpu_seconds_total"),
    plain("process_open_fds"),
    plain("process_resident_memory_bytes"),
];

pub(super) const KUBELET: &[Family] = &[
    plain("kubelet_active_pods"),
    with(
        "kubelet_http_requests_total",
        &[
            Of("method", &["GET", "POST"]),
            Of("path", &["healthz", "metrics", "pods", "stats"]),
        ],
    ),
    plain("kubelet_node_name"),
    with(
        "kubelet_pleg_relist_duration_seconds_bucket",
        &[Of("le", BOUNDS)],
    ),
    plain("kubelet_pleg_relist_duration_seconds_sum"),
    plain("kubelet_pleg_relist_duration_seconds_count"),
    with(
        "kubelet_running_containers",
        &[Of("container_state", &["created", "exited", "running"])],
    ),
    plain("kubelet_running_pods"),
    with(
        "kubelet_runtime_operations_total",
        &[Of(
            "operation_type",
            &[
                "container_status",
                "create_container",
                "image_status",
                "list_containers",
                "podsandbox_status",
                "version",
            ],
        )],
    ),
    with(
        "rest_client_requests_total",
        &[
            Of("code", &["200", "201", "404"]),
            Of("method", &["GET", "PATCH"]),
        ],
    ),
];

/// Of each container.
pub(super) const CADVISOR: &[Family] = &[
    plain("container_cpu_cfs_periods_total"),
    plain("container_cpu_cfs_throttled_periods_total"),
    plain("container_cpu_cfs_throttled_seconds_total"),
    plain("container_cpu_usage_seconds_total"),
    plain("container_file_descriptors"),
    plain("container_fs_reads_bytes_total"),
    plain("container_fs_writes_bytes_total"),
    plain("container_last_seen"),
    plain("container_memory_cache"),
    with(
        "container_memory_failures_total",
        &[
            Of("failure_type", &["pgfault", "pgmajfault"]),
            Of("scope", &["container", "hierarchy"]),
        ],
    ),
    plain("container_memory_max_usage_bytes"),
    plain("container_memory_rss"),
    plain("container_memory_usage_bytes"),
    plain("container_memory_working_set_bytes"),
    with(
        "container_network_receive_bytes_total",
        &[Of("interface", &["eth0"])],
    ),
    with(
        "container_network_transmit_bytes_total",
        &[Of("interface", &["eth0"])],
    ),
    plain("container_processes"),
    plain("container_spec_cpu_quota"),
    plain("container_spec_memory_limit_bytes"),
    plain("container_start_time_seconds"),
    plain("container_threads"),
];

/// Of each GPU.
pub(super) const DCGM: &[Family] = &[
    plain("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS"),
    plain("DCGM_FI_DEV_DEC_UTIL"),
    plain("DCGM_FI_DEV_ENC_UTIL"),
    plain("DCGM_FI_DEV_FB_FREE"),
    plain("DCGM_FI_DEV_FB_USED"),
    plain("DCGM_FI_DEV_GPU_TEMP"),
    plain("DCGM_FI_DEV_GPU_UTIL"),
    plain("DCGM_FI_DEV_MEMORY_TEMP"),
    plain("DCGM_FI_DEV_MEM_CLOCK"),
    plain("DCGM_FI_DEV_MEM_COPY_UTIL"),
    plain("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL"),
    plain("DCGM_FI_DEV_PCIE_REPLAY_COUNTER"),
    plain("DCGM_FI_DEV_POWER_USAGE"),
    plain("DCGM_FI_DEV_SM_CLOCK"),
    plain("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"),
    plain("DCGM_FI_DEV_XID_ERRORS"),
    plain("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    plain("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"),
];

/// Of each application pod.
pub(super) const WORKLOAD: &[Family] = &[
    with(
        "http_request_duration_seconds_bucket",
        &[Of("le", BOUNDS), Of("method", &["GET"])],
    ),
    with(
        "http_request_duration_seconds_sum",
        &[Of("method", &["GET"])],
    ),
    with(
        "http_request_duration_seconds_count",
        &[Of("method", &["GET"])],
    ),
    with(
        "http_requests_total",
        &[
            Of("code", &["200", "404", "500"]),
            Of("method", &["GET", "POST"]),
        ],
    ),
    plain("process_cpu_seconds_total"),
    plain("process_max_fds"),
    plain("process_open_fds"),
    plain("process_resident_memory_bytes"),
    plain("process_start_time_seconds"),
    plain("process_virtual_memory_bytes"),
];

/// Native histograms of an application pod, when asked for; the flavour is in the name.
pub(super) const NATIVE: &[Family] = &[
    with("rpc_duration_seconds", &[Of("method", &["Get", "Put"])]),
    with(
        "rpc_duration_seconds_float",
        &[Of("method", &["Get", "Put"])],
    ),
    with("rpc_response_size_custom", &[Of("method", &["Get", "Put"])]),
];

/// Of each pod that kube-state-metrics knows.
pub(super) const KUBE_STATE: &[Family] = &[
    with("kube_pod_completion_time", &[]),
    plain("kube_pod_container_info"),
    with(
        "kube_pod_container_resource_limits",
        &[Of("resource", &["cpu", "memory", "nvidia_com_gpu"])],
    ),
    with(
        "kube_pod_container_resource_requests",
        &[Of("resource", &["cpu", "memory", "nvidia_com_gpu"])],
    ),
    plain("kube_pod_container_state_started"),
    plain("kube_pod_container_status_ready"),
    plain("kube_pod_container_status_restarts_total"),
    plain("kube_pod_container_status_running"),
    plain("kube_pod_container_status_terminated"),
    plain("kube_pod_container_status_waiting"),
    plain("kube_pod_created"),
    plain("kube_pod_info"),
    plain("kube_pod_labels"),
    plain("kube_pod_owner"),
    plain("kube_pod_restart_policy"),
    plain("kube_pod_start_time"),
    with(
        "kube_pod_status_phase",
        &[Of(
            "phase",
            &["Pending", "Succeeded", "Failed", "Unknown", "Running"],
        )],
    ),
    with(
        "kube_pod_status_qos_class",
        &[Of("qos_class", &["BestEffort", "Burstable", "Guaranteed"])],
    ),
    with(
        "kube_pod_status_ready",
        &[Of("condition", &["true", "false", "unknown"])],
    ),
    with(
        "kube_pod_status_reason",
        &[Of(
            "reason",
            &["Evicted", "NodeAffinity", "NodeLost", "Shutdown"],
        )],
    ),
    with(
        "kube_pod_status_scheduled",
        &[Of("condition", &["true", "false", "unknown"])],
    ),
    plain("kube_pod_tolerations"),
];

/// What Prometheus adds to every scrape, after the target's own.
pub(super) const SYNTHETIC: &[Family] = &[
    plain("up"),
    plain("scrape_duration_seconds"),
    plain("scrape_samples_scraped"),
    plain("scrape_samples_post_metric_relabeling"),
    plain("scrape_series_added"),
];
