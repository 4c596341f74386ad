#!/usr/bin/env python3
"""What deploy/ says, against the program and the types of Kubernetes. One check by name; run.sh runs them all.

Exit status: 0 and a line about what was looked at, 1 and the faults, 77 and the reason for a skip.
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

import yaml

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEPLOY = os.path.join(REPOSITORY, "deploy")
PATCH = "sidecar/prometheus-cr-patch.yaml"
NATIVE = "sidecar/prometheus-cr-native-sidecar.yaml"
VALUES = "sidecar/kube-prometheus-stack-values.yaml"
SIDECARS = (PATCH, NATIVE, VALUES)
OWN_PODS = ("companion/statefulset.yaml", "gateway/statefulset.yaml")
KUBERNETES_VERSIONS = ("1.29", "1.37")


class Skip(Exception):
    pass


# --- what is there ---------------------------------------------------------------------


class NoRepeats(yaml.SafeLoader):
    """A key that stands twice in a map is a mistake; YAML's readers take the last one in silence."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if repeated := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(repeated)} stands twice")
        return super().construct_mapping(node, deep)


def read(name):
    with open(os.path.join(DEPLOY, name)) as file:
        return list(yaml.load_all(file, NoRepeats))


def objects():
    """(name, object) of everything that a cluster would be given; patches and values as the object they make."""
    for name in OWN_PODS:
        for found in read(name):
            yield f"{name} {found['kind']}", found
    for name in SIDECARS:
        yield name, {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "test"},
            "spec": sidecar_spec(name),
        }


def sidecar_spec(name):
    [found] = read(name)
    return found["prometheus"]["prometheusSpec"] if name == VALUES else found["spec"]


def pods():
    """(name, pod spec, names of claimed volumes with their size) of all manifests."""
    for name in OWN_PODS:
        for found in read(name):
            if found["kind"] == "StatefulSet":
                claims = {
                    claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
                    for claim in found["spec"]["volumeClaimTemplates"]
                }
                yield name, found["spec"]["template"]["spec"], claims
    for name in SIDECARS:
        yield name, sidecar_spec(name), {}


def container_of(pod):
    [found] = [c for key in ("containers", "initContainers") for c in pod.get(key, ()) if c["name"] == "sluicegate"]
    return found


def flag(container, name):
    found = [arg.partition("=")[2] for arg in container["args"] if arg.startswith(name + "=")]
    return found[0] if found else None


def bytes_of(text):
    number, unit = re.fullmatch(r"(\d+)([KMG]i)B?", text).groups()
    return int(number) << {"Ki": 10, "Mi": 20, "Gi": 30}[unit]


# --- checks ----------------------------------------------------------------------------


def manifests_add_up():
    """What one part of a manifest says of another."""
    faults = []
    for name, pod, claims in pods():
        container = container_of(pod)
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for mount in mounts:
            if mount not in volumes and mount not in claims:
                faults.append(f"{name}: nothing is mounted as {mount}")
        config, log = flag(container, "--config.file"), flag(container, "--storage.path")
        for path in (config, log):
            if not any(path == m or path.startswith(m + "/") for m in mounts.values()):
                faults.append(f"{name}: {path} lies on no volume")
        [log_mount] = [n for n, path in mounts.items() if log.startswith(path)]
        size = claims.get(log_mount) or volumes[log_mount]["emptyDir"]["sizeLimit"]
        # A segment, a reserve of 1 MiB, and room for journals.
        most = bytes_of(flag(container, "--storage.max-bytes")) + (32 << 20) + (1 << 20)
        if most + (64 << 20) > bytes_of(size):
            faults.append(f"{name}: --storage.max-bytes is too near to the volume's size of {size}")
        admin = int(flag(container, "--web.listen-address").rpartition(":")[2])
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port", admin)
            if ports.get(port, port) != admin:
                faults.append(f"{name}: {probe} asks port {port}, and the admin listener has {admin}")
        security = {**pod.get("securityContext", {}), **container["securityContext"]}
        for key, value in {
            "runAsNonRoot": True,
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }.items():
            if security.get(key) != value:
                faults.append(f"{name}: {key} is {security.get(key)}")
    for name in OWN_PODS:
        faults += own_pod_faults(name)
    for name in SIDECARS:
        faults += sidecar_faults(name)
    return faults, f"{len(list(objects()))} objects"


def own_pod_faults(name):
    faults = []
    found = {one["kind"]: one for one in read(name)}
    stateful, service = found["StatefulSet"]["spec"], found["Service"]
    labels = stateful["template"]["metadata"]["labels"]
    selectors = {
        "Service": service["spec"]["selector"],
        "StatefulSet": stateful["selector"]["matchLabels"],
        "NetworkPolicy": found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    if "PodDisruptionBudget" in found:
        selectors["PodDisruptionBudget"] = found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    for kind, selector in selectors.items():
        if not selector or not selector.items() <= labels.items():
            faults.append(f"{name}: the {kind} selects {selector}, and the pod has {labels}")
    if stateful["serviceName"] != service["metadata"]["name"]:
        faults.append(f"{name}: serviceName is {stateful['serviceName']}")
    # Longer than a stop may take.
    if stateful["template"]["spec"]["terminationGracePeriodSeconds"] <= 30:
        faults.append(f"{name}: a stop may take 30 s")
    with open(os.path.join(DEPLOY, name)) as file:
        text = file.read()
    urls = re.findall(r"http://(\S+?)\.monitoring\.svc:(\d+)(/\S+?)}", text)
    hosts = {service["metadata"]["name"]}
    hosts |= {f"{found['StatefulSet']['metadata']['name']}-{n}.{stateful['serviceName']}" for n in range(stateful["replicas"])}
    ports = {str(port["port"]) for port in service["spec"]["ports"]}
    if not urls or any(host not in hosts or port not in ports or path != "/api/v1/write" for host, port, path in urls):
        faults.append(f"{name}: the URLs that it tells senders lead elsewhere: {urls}")
    return faults


def sidecar_faults(name):
    """Nothing in a sidecar may keep Prometheus from starting or being ready."""
    faults = []
    spec, first = sidecar_spec(name), sidecar_spec(PATCH)
    container = container_of(spec)
    for probe in ("startupProbe", "readinessProbe"):
        if probe in container:
            faults.append(f"{name}: a {probe} makes Prometheus' pod wait for Sluicegate")
    if not flag(container, "--listen").startswith("127.0.0.1:"):
        faults.append(f"{name}: the data listener has no authentication, and is not on loopback")
    [write] = spec["remoteWrite"]
    if write["url"] != f"http://{flag(container, '--listen')}/api/v1/write":
        faults.append(f"{name}: Prometheus sends to {write['url']}")
    # The three say the same in three forms.
    native = {**container_of(first), "restartPolicy": "Always"} if name == NATIVE else container_of(first)
    if container != native:
        faults.append(f"{name}: its container is not the one of {PATCH}")
    for key in ("remoteWrite", "volumes"):
        if spec[key] != first[key]:
            faults.append(f"{name}: its {key} is not the one of {PATCH}")
    return faults


def program():
    path = os.environ.get("SLUICEGATE_BIN") or os.path.join(REPOSITORY, "target/release/sluicegate")
    if not os.access(path, os.X_OK):
        raise Skip("sluicegate is not built")
    return path


def sample_config():
    """The configuration that deploy/README.md shows."""
    with open(os.path.join(DEPLOY, "README.md")) as file:
        [found] = re.findall(r"```yaml\n(.*?)```", file.read(), re.DOTALL)
    return found


def program_starts():
    """Each container's arguments, with the sample configuration: it starts, and answers its probes."""
    faults, started = [], set()
    with tempfile.TemporaryDirectory() as folder:
        config = os.path.join(folder, "sluicegate.yaml")
        with open(config, "w") as file:
            file.write(sample_config())
        with open(os.path.join(folder, "token"), "w") as file:
            file.write("secret\n")
        checked = subprocess.run([program(), "check", config], capture_output=True, text=True, check=False)
        if checked.returncode:
            faults.append(f"the configuration in README.md: {checked.stdout}{checked.stderr}")
        commands = [(name, container_of(pod)["args"], container_of(pod)) for name, pod, _ in pods()]
        commands.append(("systemd/sluicegate.service", unit_command()[1:], {}))
        for name, args, container in commands:
            # Elsewhere, and otherwise as it stands there.
            args = list(map(str, args))
            for at, (pattern, here) in enumerate((
                (r"(--config\.file[= ]).*", config),
                (r"(--storage\.path[= ]).*", os.path.join(folder, "log-" + str(len(started)))),
                (r"(--listen[= ]).*", "127.0.0.1:0"),
                (r"(--web\.listen-address[= ]).*", "127.0.0.1:0"),
            )):
                replaced = [re.sub(f"^{pattern}$", rf"\g<1>{here}", arg) for arg in args]
                if replaced == args and at < 2:
                    faults.append(f"{name}: no {pattern} in {args}")
                args = replaced
            if not any(arg.startswith("--listen") for arg in args):
                args += ["--listen=127.0.0.1:0", "--web.listen-address=127.0.0.1:0"]
            paths = {container[p]["httpGet"]["path"] for p in container if p.endswith("Probe")}
            faults += [f"{name}: {fault}" for fault in start(args, paths)]
            started.add(name)
    return faults, f"{len(started)} command lines"


def start(args, paths):
    """Starts the program, asks for the paths and stops it."""
    process = subprocess.Popen(
        [program(), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        # One line, or the end.
        ready = process.stdout.readline()
        admin = re.search(r"admin=(\S+)", ready)
        if not admin:
            return [process.communicate(timeout=10)[1].strip() or "it ends and says nothing"]
        faults = []
        for path in paths:
            connection = http.client.HTTPConnection(admin[1], timeout=10)
            connection.request("GET", path)
            if (status := connection.getresponse().status) != 200:
                faults.append(f"{path} is answered {status}")
            connection.close()
        process.terminate()
        process.communicate(timeout=40)
        return faults + ([f"exit code {process.returncode}"] if process.returncode else [])
    finally:
        process.kill()
        process.communicate()


def kubernetes_schemas():
    """What Kubernetes asks of its own objects: fields that must be there and their types."""
    try:
        import kubernetes_validate
    except ImportError:
        raise Skip("kubernetes-validate is not installed") from None
    faults, looked = [], 0
    for name, found in objects():
        if found["kind"] == "Prometheus":
            continue
        for version in KUBERNETES_VERSIONS:
            looked += 1
            try:
                kubernetes_validate.validate(found, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                faults.append(f"{name} in {version}: {error}")
    # It must be able to find something.
    _, broken = next(objects())
    broken["spec"]["prots"] = broken["spec"].pop("ports")
    try:
        kubernetes_validate.validate(broken, KUBERNETES_VERSIONS[0], strict=True)
        faults.append("the schemas do not notice an unknown field")
    except kubernetes_validate.ValidationError:
        pass
    return faults, f"{looked} times, Kubernetes {' and '.join(KUBERNETES_VERSIONS)}"


def kubernetes_types():
    """The Go types of Kubernetes and of the Prometheus Operator, decoded as the API server does."""
    if not shutil.which("go"):
        raise Skip("no go here")
    decode = os.path.join(REPOSITORY, "tests/deploy/decode")
    with tempfile.TemporaryDirectory() as folder:
        binary = os.path.join(folder, "decode")
        built = subprocess.run(
            ["go", "build", "-o", binary, "."], cwd=decode, capture_output=True, text=True, check=False,
            env={**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"},
        )
        if built.returncode:
            lines = built.stderr.strip().splitlines()
            # Its own mistakes are faults; modules that cannot be had are not.
            if any(line.startswith("./main.go") for line in lines):
                return lines, ""
            raise Skip("the types do not build here: " + lines[-1])
        all_objects = list(objects())
        faults = run_decode(binary, all_objects)
        name, broken = all_objects[-1]
        broken["spec"]["containers"][0]["imagepullPolicy"] = "Always"
        if not run_decode(binary, [(name, broken)]):
            faults.append("the types do not notice an unknown field")
    return faults, f"{len(all_objects)} objects"


def run_decode(binary, named):
    lines = [
        json.dumps({"name": name, "kind": f"{found['apiVersion']}/{found['kind']}", "object": found})
        for name, found in named
    ]
    return subprocess.run(
        [binary], input="\n".join(lines), capture_output=True, text=True, check=False, timeout=60
    ).stdout.splitlines()


def not_a_package(copied):
    """What cargo says against a folder with just these files."""
    cargo = shutil.which("cargo")
    if not cargo:
        return []
    with tempfile.TemporaryDirectory() as folder:
        for source, target in copied:
            there = os.path.join(REPOSITORY, source)
            into = os.path.normpath(os.path.join(folder, target))
            if os.path.isdir(there):
                shutil.copytree(there, into)
            else:
                os.makedirs(into, exist_ok=True)
                shutil.copy(there, into)
        # Only a build looks at all of it. This one ends where it would begin.
        asked = [cargo, "build", "--offline", "--locked", "--bin", "none"]
        told = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False).stderr
        return [] if "no bin target named `none`" in told else told.splitlines()


def dockerfile():
    """What hadolint says, and that cargo finds all that it looks for in what is copied."""
    path = os.path.join(DEPLOY, "docker/Dockerfile")
    faults = []
    with open(path) as file:
        copied = re.findall(r"^COPY (?!--from)(.+) (\S+)$", file.read(), re.MULTILINE)
    copied = [(source, target) for sources, target in copied for source in sources.split()]
    with open(path + ".dockerignore") as file:
        let_in = {line[1:].strip() for line in file if line.startswith("!")}
    for source, _ in copied:
        if not os.path.exists(os.path.join(REPOSITORY, source)):
            faults.append(f"{source} is copied and is not there")
        if source not in let_in:
            faults.append(f"{source} is copied, and .dockerignore keeps it out")
    faults += faults or not_a_package(copied)
    linter = shutil.which("hadolint", path=os.path.dirname(sys.executable)) or shutil.which("hadolint")
    if not linter:
        if faults:
            return faults, ""
        raise Skip("hadolint is not installed")
    told = subprocess.run([linter, path], capture_output=True, text=True, check=False)
    return faults + told.stdout.splitlines(), "hadolint"


# --- systemd ---------------------------------------------------------------------------

UNIT = os.path.join(DEPLOY, "systemd/sluicegate.service")
# Of 10, where 10 is a unit without any restriction.
MOST_EXPOSURE = 2.0


def unit_command():
    with open(UNIT) as file:
        [line] = re.findall(r"^ExecStart=(.*)$", file.read(), re.MULTILINE)
    return line.replace("%S", "/var/lib").split()


def systemd():
    """The unit is understood, and what it leaves open."""
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        raise Skip("no systemd-analyze here")
    with tempfile.TemporaryDirectory() as folder:
        # The program is not in /usr/local/bin here.
        here = os.path.join(folder, "sluicegate.service")
        with open(UNIT) as file, open(here, "w") as out:
            out.write(file.read().replace("/usr/local/bin/sluicegate", program()))
        verified = subprocess.run(
            [analyze, "verify", "--man=no", here], capture_output=True, text=True, check=False, timeout=60
        )
        faults = [line for line in verified.stderr.splitlines() if "sluicegate.service" in line]
        if verified.returncode and not faults:
            raise Skip("systemd-analyze verify does not work here: " + verified.stderr.strip()[-200:])
        judged = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", here],
            capture_output=True, text=True, check=False, timeout=60,
        )
        level = re.search(r"exposure level for sluicegate\.service: ([\d.]+)", judged.stdout)
        if not level:
            return faults, "verified; this systemd cannot judge a unit that is not installed"
        if float(level[1]) > MOST_EXPOSURE:
            faults.append(f"an exposure of {level[1]}, and {MOST_EXPOSURE} is the most")
    return faults, f"verified; exposure {level[1]} of 10"


CHECKS = {
    check.__name__: check
    for check in (manifests_add_up, program_starts, kubernetes_schemas, kubernetes_types, dockerfile, systemd)
}


def main():
    if len(sys.argv) != 2 or sys.argv[1] not in CHECKS:
        sys.exit(f"check.py {'|'.join(CHECKS)}")
    began = time.monotonic()
    try:
        faults, told = CHECKS[sys.argv[1]]()
    except Skip as skip:
        print(skip)
        sys.exit(77)
    except ValueError as error:
        faults, told = [str(error)], ""
    print("; ".join(faults) or f"{told} [{time.monotonic() - began:.0f} s]")
    sys.exit(bool(faults))


main()
