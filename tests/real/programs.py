"""Starts, watches and stops the real programs. Each keeps its data and its log in the test's own
folder; everything started is ended, whatever happens."""

import atexit
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

from stores import get, http

CACHE = os.environ.get("SLUICEGATE_TEST_CACHE") or os.path.expanduser("~/.cache/sluicegate-tests")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIRECT = os.environ.get("SLUICEGATE_TEST_DIRECT") == "1"

START_SECONDS = 20
STOP_SECONDS = 30


class Missing(Exception):
    """A program that this scenario needs is not on this machine: skip."""


def find(name):
    """The path of an installed program, as install.sh left it."""
    path = os.path.join(CACHE, "bin", name)
    if not os.access(path, os.X_OK):
        raise Missing(f"{name} is not installed")
    return path


def find_sluicegate():
    """The binary under test; with DIRECT there is none and none is needed."""
    named = os.environ.get("SLUICEGATE_BIN")
    built = [os.path.join(REPOSITORY, "target", kind, "sluicegate") for kind in ("release", "debug")]
    for path in [named] if named else built:
        if os.access(path, os.X_OK):
            return path
    raise RuntimeError("sluicegate is not built")  # not a skip: nothing would be tested


def free_port():
    """A port nobody listens on. Another program could take it before ours does: then the start fails."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(what, condition, seconds, pause=0.05):
    """Polls until `condition` returns something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s")
        time.sleep(pause)


def answers(url):
    try:
        status, _, _ = http(url, timeout=2)
        return status == 200
    except OSError:
        return False


def parse_metrics(text):
    """The text format as [(name, labels as written, value)]."""
    found = []
    for line in text.splitlines():
        match = re.match(r"([a-zA-Z_:][\w:]*)(\{.*\})? (\S+)", line)
        if match:
            found.append((match[1], match[2] or "", float(match[3])))
    return found


def total(metrics, name, *with_labels):
    """The sum over the series of a metric; `with_labels` are parts such as 'reason="x"'."""
    return sum(v for n, labels, v in metrics if n == name and all(part in labels for part in with_labels))


running = []


@atexit.register
def end_all():
    for program in list(running):
        program.kill()


class Program:
    """One process with its log; `url` is where it answers."""

    def __init__(self, name, folder, command, ready_path="/-/ready", port=None):
        self.name = name
        self.log_path = os.path.join(folder, name + ".log")
        self.command = command
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self.url = "http://" + self.address
        self.ready_path = ready_path
        self.process = None

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        running.append(self)
        if wait:
            wait_until(f"{self.name} ready", self.is_ready, START_SECONDS)
        return self

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} exited with {self.process.returncode} at its start; see {self.log_path}")
        return answers(self.url + self.ready_path)

    def metrics(self):
        return parse_metrics(get(self.url + "/metrics").decode())

    def terminate(self):
        """SIGTERM, without waiting for the end."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds=STOP_SECONDS):
        """Until the process has ended by itself; returns its exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} has not ended {seconds} s after it was told to") from None
        running.remove(self)
        return status

    def stop(self, seconds=STOP_SECONDS):
        self.terminate()
        return self.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()
        if self in running:
            running.remove(self)

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()


# --- Prometheus ----------------------------------------------------------------------

DEBIAN, NEWEST = "prometheus", "prometheus-3.14"


class Queried:
    """What answers PromQL."""

    def query(self, expression):
        """The result of an instant query, now."""
        parameters = urllib.parse.urlencode({"query": expression})
        return json.loads(get(f"{self.url}/api/v1/query?{parameters}"))["data"]["result"]


class Prometheus(Program, Queried):
    def __init__(self, binary, name, folder, features=(), receiver=False):
        self.data = os.path.join(folder, name + "-data")
        self.config_path = os.path.join(folder, name + ".yml")
        port = free_port()
        command = [
            find(binary),
            f"--config.file={self.config_path}",
            f"--storage.tsdb.path={self.data}",
            # Uncompressed, so that the metadata in it can be read.
            "--no-storage.tsdb.wal-compression",
            f"--web.listen-address=127.0.0.1:{port}",
            "--web.enable-lifecycle",
            "--scrape.discovery-reload-interval=200ms",  # 5 s: a third of a test's time
            "--log.level=info",
        ]
        if features:
            command.append("--enable-feature=" + ",".join(features))
        if receiver:
            command.append("--web.enable-remote-write-receiver")
        super().__init__(name, folder, command, port=port)

    def start(self, config=None, wait=True):
        self.write_config(config or {})
        return super().start(wait)

    def write_config(self, config):
        with open(self.config_path, "w") as file:
            json.dump(config, file, indent=1)  # JSON is YAML

    def reload(self, config):
        self.write_config(config)
        status, _, body = http(self.url + "/-/reload", body=b"", timeout=30)
        if status != 200:
            raise RuntimeError(f"{self.name} reload: {status} {body!r}")


def node_exporter(folder):
    port = free_port()
    command = [
        find("prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--no-collector.textfile",  # complains at each scrape that its folder is not there
    ]
    return Program("node-exporter", folder, command, ready_path="/metrics", port=port).start()


# --- receivers -----------------------------------------------------------------------


def victoriametrics(folder):
    port = free_port()
    command = [
        find("victoria-metrics"),
        f"-storageDataPath={folder}/victoria-metrics-data",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=12",
        "-loggerLevel=INFO",
    ]
    return Program("victoria-metrics", folder, command, ready_path="/health", port=port).start()


class ThanosReceive(Program):
    def __init__(self, folder):
        self.data = os.path.join(folder, "thanos-receive-data")
        port, self.grpc_port, self.write_port = free_port(), free_port(), free_port()
        self.write_url = f"http://127.0.0.1:{self.write_port}/api/v1/receive"
        command = [
            find("thanos"), "receive",
            f"--tsdb.path={self.data}",
            f"--http-address=127.0.0.1:{port}",
            f"--grpc-address=127.0.0.1:{self.grpc_port}",
            f"--remote-write.address=127.0.0.1:{self.write_port}",
            f"--receive.capnproto-address=127.0.0.1:{free_port()}",
            '--label=receive="test"',
            # No retention, so no pruning: 0.42.4 prunes in the first minute of every fourth hour, at its start
            # too, and panics when that finds a tenant whose TSDB is still being opened.
            "--tsdb.retention=0d",
        ]
        super().__init__("thanos-receive", folder, command, port=port)


class ThanosQuery(Program, Queried):
    def __init__(self, folder, receive):
        port = free_port()
        command = [
            find("thanos"), "query",
            f"--http-address=127.0.0.1:{port}",
            f"--grpc-address=127.0.0.1:{free_port()}",
            f"--endpoint=127.0.0.1:{receive.grpc_port}",
        ]
        super().__init__("thanos-query", folder, command, port=port)


# --- the proxy, or none --------------------------------------------------------------

# The metrics of Sluicegate that the scenarios look at.
DROPPED = "sluicegate_dropped_samples_total"
UNCONFIRMED = "sluicegate_unconfirmed_samples_total"
PROTOCOL_2 = "sluicegate_upstream_protocol_v2"  # 1 known, 0 not known to the receiver, -1 not found out yet
CONSERVATION_ERROR = "sluicegate_conservation_error"


class Sluicegate(Program):
    """Between sender and receiver; `write_url` is where the sender sends to."""

    def __init__(self, folder, upstream, *flags, name="sluicegate"):
        command = [
            find_sluicegate(), "run",
            "--upstream", upstream,
            "--listen", "127.0.0.1:0",
            "--web.listen-address", "127.0.0.1:0",
            *flags,
        ]
        super().__init__(name, folder, command)
        self.write_url = None
        self.again = lambda: Sluicegate(folder, upstream, *flags, name=f"{name}-again")
        self.keeps = "--storage.path" in flags

    def deliver_rest(self):
        """With a log on disk a stop leaves what is pending to the next process."""
        if self.keeps:
            again = self.again().start()
            again.wait_empty()
            again.stop()

    def is_ready(self):
        if self.write_url is None:
            printed = self.log()
            data, admin = (re.search(rf"\b{name}=(?:http://)?([\d.:\[\]]+\d)", printed) for name in ("data", "admin"))
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} exited with {self.process.returncode}; see {self.log_path}")
            if not (data and admin):
                return False
            self.write_url = f"http://{data[1]}/api/v1/write"
            self.url = f"http://{admin[1]}"
        return super().is_ready()

    def is_empty(self):
        jobs = json.loads(get(self.url + "/health"))["jobs"]
        return jobs["inQueue"] == 0 and jobs["inProgress"] == 0

    def wait_empty(self, seconds=20):
        wait_until(f"{self.name} has nothing pending", self.is_empty, seconds)
        if error := self.total(CONSERVATION_ERROR):
            raise RuntimeError(f"{self.name} received {error:.0f} samples more than it can account for")

    def total(self, name, *with_labels):
        return total(self.metrics(), name, *with_labels)


class NoProxy:
    """In the place of Sluicegate when the comparators themselves are on trial."""

    def __init__(self, upstream):
        self.write_url = upstream

    def start(self):
        return self

    def wait_empty(self, seconds=0):
        pass

    def terminate(self):
        pass

    def deliver_rest(self):
        pass

    def wait(self, seconds=0):
        return 0

    stop = wait


def disk_log(folder):
    """The flags for a log on disk, where it is asked for."""
    if os.environ.get("SLUICEGATE_TEST_DISK_LOG") != "1":
        return ()
    return "--storage.path", os.path.join(folder, "proxy-data")


# Bodies as they came: what a receiver makes of them is what it would make of them without a proxy.
PASSTHROUGH = os.environ.get("SLUICEGATE_TEST_PASSTHROUGH") == "1"
# The sender hears what it would hear without the proxy: with a log on disk it has its answer before.
UNTOUCHED = DIRECT or (PASSTHROUGH and os.environ.get("SLUICEGATE_TEST_DISK_LOG") != "1")


def proxy(folder, upstream, *flags):
    if PASSTHROUGH:
        flags += ("--mode", "passthrough")
    return (NoProxy(upstream) if DIRECT else Sluicegate(folder, upstream, *flags)).start()


def remove_data(folder):
    """Logs and configurations stay, data folders go."""
    for path in glob.glob(os.path.join(folder, "*-data")):
        shutil.rmtree(path, ignore_errors=True)
