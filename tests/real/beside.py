"""A Prometheus beside a Sluicegate that is in trouble: whether it starts, scrapes and evaluates as it would
without one, and what that costs it.

A *state* is a kind of trouble. A *pair* is a Prometheus that sends through a Sluicegate in that state, and one that
sends directly to the same receiver (or to one that refuses connections, where the trouble is Sluicegate's own
and nothing passes it). Each has targets of its own, scraped once a second, and a recording rule.
"""

import dataclasses
import os
import shutil
import socket
import statistics
import subprocess
import time

import programs
from exporter import Exporter, Pages
from programs import Missing, total, wait_until
from scenario import Different

SERIES = int(os.environ.get("SLUICEGATE_TEST_SERIES", "500"))
RULE = "test:bulk:rate"
INTERVAL = 1

# What may be asked for beside what the version has by default, which README.md says to leave as it is.
LARGER_REQUESTS = {"max_samples_per_send": 5000, "capacity": 15000, "max_shards": 4}


# --- receivers -------------------------------------------------------------------------


class Refusing:
    """An address that refuses connections, and that nobody else gets meanwhile."""

    def __init__(self):
        self.held = socket.socket()
        self.held.bind(("127.0.0.1", 0))
        self.write_url = "http://127.0.0.1:%d/api/v1/write" % self.held.getsockname()[1]


class Sink(programs.Program):
    """`sluicegate bench sink`."""

    def __init__(self, folder, name, *flags):
        command = [programs.find_sluicegate(), "bench", "sink", "--listen", "127.0.0.1:0", *flags]
        super().__init__(name, folder, command)
        self.write_url = None

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} exited with {self.process.returncode}; see {self.log_path}")
        for line in self.log().splitlines():
            if line.startswith("listening on "):
                self.write_url = f"http://{line.split()[-1]}/api/v1/write"
        return self.write_url is not None


class Receivers:
    """One of each kind: a far one that is well, one that takes requests and never answers, one that is not there."""

    def __init__(self, folder):
        self.well = Sink(folder, "sink-well", "--delay", "100ms").start()
        self.hanging = Sink(folder, "sink-hanging", "--hang", "1000000/1000000").start()
        self.dead = Refusing()


# --- Sluicegate in its states ----------------------------------------------------------


class Gate(programs.Sluicegate):
    """A Sluicegate that runs; `insist` says whether it is in the state that it should be in."""

    def __init__(self, folder, upstream, *flags, name):
        # Small, so that its part of what both take is seen, and the log in memory can be full.
        super().__init__(folder, upstream, "--memory.limit", "64MiB", *flags, name=name)

    def delivered(self):
        return self.total("sluicegate_delivered_samples_total")

    def refused(self):
        return self.total("sluicegate_requests_total", 'code="503"')


def passes(gate):
    """What a Sluicegate does that is well or helps itself."""
    if not gate.delivered():
        raise Different(f"{gate.name} delivered nothing")
    return f"{gate.delivered():.0f} samples delivered"


def passes_nothing(gate):
    if gate.delivered():
        raise Different(f"{gate.name} delivered samples to a receiver that is away")
    return f"{gate.refused():.0f} requests answered 503, nothing delivered"


def set_aside(reason):
    """The folder cannot be used: Sluicegate says so and goes on without it."""

    def insist(gate):
        if reason not in gate.log() or "running with --ack upstream" not in gate.log():
            raise Different(f"{gate.name} does not say that it cannot use its folder; see {gate.log_path}")
        return passes(gate)

    return insist


def well(folder, receivers):
    return Gate(folder, receivers.well.write_url, name="well").start(), passes


def well_with_folder(folder, receivers):
    path = os.path.join(folder, "well-data")
    return Gate(folder, receivers.well.write_url, "--storage.path", path, name="well-disk").start(), passes


def receiver_dead(folder, receivers):
    return Gate(folder, receivers.dead.write_url, name="dead").start(), passes_nothing


def receiver_dead_with_folder(folder, receivers):
    path = os.path.join(folder, "dead-data")
    gate = Gate(folder, receivers.dead.write_url, "--storage.path", path, name="dead-disk").start()

    def keeps_all(gate):
        if gate.refused() or not gate.total("sluicegate_pending_samples"):
            raise Different(f"{gate.name} does not keep what it is sent: {gate.refused():.0f} requests answered 503")
        return f"{gate.total('sluicegate_pending_samples'):.0f} samples kept on disk"

    return gate, keeps_all


def receiver_hangs(folder, receivers):
    return Gate(folder, receivers.hanging.write_url, name="hangs").start(), passes_nothing


def log_full(folder, receivers):
    """As full as a day without a receiver makes it; that day is a load at full speed here."""
    path = os.path.join(folder, "full-data")
    flags = "--storage.path", path, "--storage.max-bytes", "4MiB"
    gate = Gate(folder, receivers.dead.write_url, *flags, name="full").start()
    command = [gate.command[0], "bench", "load", "--url", gate.write_url, "--nodes", "20", "--speed", "full"]
    load = programs.Program("load", folder, command).start(wait=False)
    wait_until("the log is full", gate.refused, 30)
    load.kill()
    before = gate.refused()

    def is_full(gate):
        if gate.refused() <= before:
            raise Different(f"{gate.name} refused nothing: the log is not full")
        return passes_nothing(gate)

    return gate, is_full


def newer_log(folder, receivers):
    path = os.path.join(folder, "newer-data")
    os.makedirs(path)
    written = "sluicegate storage 2\n"
    with open(os.path.join(path, "format"), "w") as file:
        file.write(written)
    gate = Gate(folder, receivers.well.write_url, "--storage.path", path, name="newer").start()

    def untouched(gate):
        told = set_aside("the folder's format is")(gate)
        with open(os.path.join(path, "format")) as file:
            # The lock file says only that a process has looked.
            if set(os.listdir(path)) - {"lock"} != {"format"} or file.read() != written:
                raise Different(f"{gate.name} touched a folder of a newer format")
        return told

    return gate, untouched


def disk_read_only(folder, receivers):
    mounted = ReadOnly(os.path.join(folder, "read-only-data"))
    gate = Gate(folder, receivers.well.write_url, "--storage.path", mounted.path, name="read-only").start()
    return gate, set_aside("Read-only file system")


class ReadOnly:
    """A file system that cannot be written, until the end."""

    name = "read-only"

    def __init__(self, path):
        self.path = path
        os.makedirs(path)
        if os.geteuid() != 0 or self.run("mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", path):
            raise Missing("a file system cannot be mounted here")
        programs.running.append(self)

    def run(self, *command):
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode

    def kill(self):
        self.run("umount", "-l", self.path)
        programs.running.remove(self)


class Configured(Gate):
    """A Sluicegate with a configuration file, as a sidecar has it; `configure` changes that as a kubelet does."""

    def __init__(self, folder, text, *flags, name):
        super().__init__(folder, "", "--config.on-error", "stay", *flags, name=name)
        self.config_path = os.path.join(folder, name + ".yaml")
        at = self.command.index("--upstream")
        # An address that stays the same when the configuration is mended.
        address = f"127.0.0.1:{programs.free_port()}"
        self.command[at:at + 4] = ["--config.file", self.config_path, "--listen", address]
        self.configure(text)

    def configure(self, text):
        with open(self.config_path + ".new", "w") as file:
            file.write(text)
        os.rename(self.config_path + ".new", self.config_path)


BROKEN = "remote_wriet: []\n"


def sends_to(receiver):
    return f"remote_write:\n  - url: {receiver.write_url}\n"


def config_broken(folder, receivers):
    gate = Configured(folder, BROKEN, name="broken").start()

    def stands_by(gate):
        if not gate.total("sluicegate_requests_total", 'reason="configuration"'):
            raise Different(f"{gate.name} does not stand by; see {gate.log_path}")
        return passes_nothing(gate)

    return gate, stands_by


def config_broken_after_a_good_one(folder, receivers):
    flags = "--storage.path", os.path.join(folder, "last-good-data")
    good = Configured(folder, sends_to(receivers.well), *flags, name="last-good-before").start()
    good.stop()
    gate = Configured(folder, BROKEN, *flags, name="last-good").start()

    def uses_the_last_good(gate):
        if gate.total("sluicegate_config_last_load_successful"):
            raise Different(f"{gate.name} does not say that its configuration is broken")
        return passes(gate)

    return gate, uses_the_last_good


@dataclasses.dataclass
class State:
    """`receiver` names whom the Prometheus without Sluicegate sends to; `start` gives the Sluicegate and the check
    that it is in this state."""

    name: str
    receiver: str
    start: callable


STATES = [
    State("well", "well", well),
    State("well, with a log on disk", "well", well_with_folder),
    State("log full", "dead", log_full),
    State("receiver dead", "dead", receiver_dead),
    State("receiver dead, with a log on disk", "dead", receiver_dead_with_folder),
    State("receiver hangs", "hanging", receiver_hangs),
    State("configuration broken", "dead", config_broken),
    State("configuration broken, last good one kept", "well", config_broken_after_a_good_one),
    State("disk read-only", "well", disk_read_only),
    State("log of a newer version", "well", newer_log),
]


# --- the Prometheus beside it ----------------------------------------------------------


@dataclasses.dataclass
class Seen:
    """What became of one Prometheus. Sizes in MiB, times in seconds, `cpu` in cores; `scrapes` and `evaluations` are
    those within the time watched, of the target and the rule that had the fewest."""

    ready: float
    up: bool
    scrapes: float
    evaluations: float
    failures: float
    rss: float
    cpu: float
    lag: float
    age: float


class Beside:
    """A Prometheus with targets and a rule, that sends to `write_url`, or to nobody."""

    def __init__(self, folder, binary, name, write_url=None, queue=None):
        self.name = name
        self.exporter = Exporter(pages=Pages(bulk_series=SERIES))
        self.prometheus = programs.Prometheus(binary, name, folder)
        rules = os.path.join(folder, name + "-rules.yml")
        with open(rules, "w") as file:
            file.write(f"groups: [{{name: test, interval: {INTERVAL}s, rules: [")
            file.write(f"{{record: '{RULE}', expr: 'sum by (path) (rate(test_bulk_total[5s]))'}}]}}]\n")
        self.config = {
            "global": {"scrape_interval": f"{INTERVAL}s", "external_labels": {"cluster": name}},
            "rule_files": [rules],
            "scrape_configs": [
                {"job_name": page, "metrics_path": "/" + page, "static_configs": [{"targets": [address]}]}
                for page, address in (
                    ("bulk", self.exporter.address),
                    ("text", self.exporter.address),
                    ("metrics", self.prometheus.address),
                )
            ],
        }
        self.targets = len(self.config["scrape_configs"])
        if write_url:
            self.config["remote_write"] = [{"url": write_url, "queue_config": queue or {}}]
        self.first = None
        self.rss, self.lags = [], []

    def start(self):
        self.began = time.monotonic()
        self.prometheus.start(self.config, wait=False)
        wait_until(f"{self.name} ready", self.prometheus.is_ready, 3 * programs.START_SECONDS, pause=0.02)
        self.ready = time.monotonic() - self.began
        return self

    def begin(self):
        """From now on it is watched."""
        self.watched, self.cpu_before = time.monotonic(), self.cpu_seconds()

    def look(self):
        """Now and then."""
        self.rss.append(self.resident())
        self.lags.append(self.lag())

    def cpu_seconds(self):
        with open(f"/proc/{self.prometheus.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self):
        with open(f"/proc/{self.prometheus.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    def lag(self):
        """How far what was sent is behind what was scraped; all that was scraped while nothing was sent."""
        if "remote_write" not in self.config:
            return 0
        metrics = self.prometheus.metrics()
        newest = total(metrics, "prometheus_remote_storage_highest_timestamp_in_seconds") or total(
            metrics, "prometheus_remote_storage_queue_highest_timestamp_seconds"
        )
        if not newest:
            return 0
        if self.first is None:
            self.first = newest
        sent = total(metrics, "prometheus_remote_storage_queue_highest_sent_timestamp_seconds")
        return newest - max(sent, self.first)

    def value(self, expression):
        found = self.prometheus.query(expression)
        return float(found[0]["value"][1]) if found else 0

    def seen(self):
        now = time.monotonic()
        span = f"[{now - self.watched:.0f}s]"
        metrics = self.prometheus.metrics()
        return Seen(
            ready=self.ready,
            up=self.value("count(up == 1)") == self.targets,
            scrapes=self.value(f"min(count_over_time(up{span}))"),
            evaluations=self.value(f"min(count_over_time({{__name__='{RULE}'}}{span}))"),
            failures=total(metrics, "prometheus_rule_evaluation_failures_total"),
            rss=statistics.median(self.rss),
            cpu=(self.cpu_seconds() - self.cpu_before) / (now - self.watched),
            lag=statistics.median(self.lags[-5:]),
            age=now - self.began,
        )

    def end(self):
        """At once: a queue that cannot send would take a minute to end."""
        self.prometheus.kill()
        self.exporter.stop()
        shutil.rmtree(self.prometheus.data, ignore_errors=True)


def watch(those, seconds):
    for one in those:
        one.begin()
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        for one in those:
            one.look()
        time.sleep(min(left, 1))
    return [one.seen() for one in those]


# --- the verdict -----------------------------------------------------------------------


def harm(alone, direct, through):
    """What is worse through Sluicegate. Against a Prometheus that sends to nobody: what must never change. Against
    one that sends directly: what it costs. Wide, as a shared machine wanders; the numbers are printed."""
    found = []

    def insist(holds, what):
        if not holds:
            found.append(what)

    insist(through.ready <= 2 * alone.ready + 3, f"ready after {through.ready:.1f} s, and {alone.ready:.1f} s alone")
    insist(through.up, "targets are down")
    insist(through.scrapes >= 0.8 * alone.scrapes, f"{through.scrapes:.0f} scrapes, and {alone.scrapes:.0f} alone")
    evaluated = f"{through.evaluations:.0f} evaluations, and {alone.evaluations:.0f} alone"
    insist(through.evaluations >= 0.8 * alone.evaluations > 0, evaluated)
    insist(through.failures == 0, f"{through.failures:.0f} evaluations failed")
    insist(through.rss <= 1.3 * direct.rss + 30, f"{through.rss:.0f} MiB, and {direct.rss:.0f} MiB directly")
    insist(through.cpu <= 1.5 * direct.cpu + 0.1, f"{through.cpu:.2f} cores, and {direct.cpu:.2f} directly")
    older = max(0, through.age - direct.age)
    insist(through.lag <= direct.lag + older + 10, f"a lag of {through.lag:.0f} s, and {direct.lag:.0f} s directly")
    return found


def insist_harm_is_noticed(alone, direct, through):
    """A verdict proves something only if it can be another."""
    worse = {
        "ready": 10 * alone.ready + 10,
        "up": False,
        "scrapes": alone.scrapes / 2,
        "evaluations": 0,
        "failures": 1,
        "rss": 2 * direct.rss + 100,
        "cpu": 2 * direct.cpu + 1,
        "lag": direct.lag + through.age + 20,
    }
    for name, value in worse.items():
        if not harm(alone, direct, dataclasses.replace(through, **{name: value})):
            raise Different(f"the verdict does not notice {name}={value}")


# --- all at once: for a first answer ----------------------------------------------------


def together(folder, binary, seconds=15):
    """All states side by side, in the time of one. A pair has the same machine at the same moment, and shares it
    with all others: costs are seen roughly."""
    programs.find(binary)
    receivers = Receivers(folder)
    gates, lacking = {}, []
    for state in STATES:
        try:
            gates[state.name] = (state, *state.start(folder, receivers))
        except Missing as missing:
            lacking.append(f"{state.name} skipped: {missing}")
    alone = Beside(folder, binary, "alone").start()
    direct = {
        name: Beside(folder, binary, f"direct-{name}", getattr(receivers, name).write_url).start()
        for name in ("well", "hanging", "dead")
    }
    through = {
        name: Beside(folder, binary, f"through-{gate.name}", gate.write_url).start()
        for name, (_, gate, _) in gates.items()
    }
    those = [alone, *direct.values(), *through.values()]
    for one in those:
        one.exporter.wait_scrapes("bulk", 6, 30)
    seen = dict(zip([one.name for one in those], watch(those, seconds), strict=True))
    worse, told = [], []
    for name, (state, gate, insist_state) in gates.items():
        mine = seen[through[name].name], seen[direct[state.receiver].name]
        costs = f"RSS {ratio(mine, 'rss')}, CPU {ratio(mine, 'cpu')} of direct, lag {lags(mine)}"
        try:
            told.append(f"{name}: {insist_state(gate)}; {costs}")
        except Different as different:
            worse.append(f"{name}: {different}")
        worse += [f"{name}: {what}" for what in harm(seen["alone"], mine[1], mine[0])]
        insist_harm_is_noticed(seen["alone"], mine[1], mine[0])
    if worse:
        raise Different("; ".join(worse))
    told += lacking
    a = seen["alone"]
    told.insert(0, f"alone: ready in {a.ready:.1f} s, {a.scrapes:.0f} scrapes, {a.rss:.0f} MiB, {a.cpu:.3f} cores")
    if "configuration broken" in gates:
        told.append(mended(gates["configuration broken"][1], through["configuration broken"], receivers))
    return "\n    ".join(["all as without", *told])


def mended(gate, beside, receivers):
    """The file is taken as soon as it works, and Prometheus catches up by itself."""
    gate.configure(sends_to(receivers.well))
    lag = beside.lag()
    wait_until("Prometheus has caught up after the configuration was mended", lambda: beside.lag() < 7, 40, pause=0.5)
    return f"mended: a lag of {lag:.0f} s made good"


def ratio(pair, name):
    through, direct = (getattr(one, name) for one in pair)
    return f"{through / direct:.2f}" if direct else "?"


def lags(pair):
    return "{:.0f}/{:.0f} s".format(*(one.lag for one in pair))
