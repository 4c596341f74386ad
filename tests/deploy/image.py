#!/usr/bin/env python3
"""Runs a binary as the image would; image.sh calls it in namespaces of its own."""

import fcntl
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "real"))
import stores
import wire

USER = 12345  # as a cluster that gives each namespace its own range does
BY_DNS, BY_HOSTS = "receiver.test", "receiver-in-hosts.test"
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def loopback_up():
    up_and_running = 0x41
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", up_and_running))  # SIOCSIFFLAGS


def serve_names(asked):
    """A name server on port 53: BY_DNS is 127.0.0.1, and has no IPv6 address; nothing else is known."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))

    def serve():
        while True:
            query, sender = server.recvfrom(512)
            end = query.index(b"\0", 12) + 5  # the name, its type and class
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            name, kind = ".".join(labels), struct.unpack_from(">H", query, end - 4)[0]
            asked.append(name)
            found = name == BY_DNS and kind == 1
            header = query[:2] + struct.pack(">HHHHH", 0x8180 if name == BY_DNS else 0x8183, 1, found, 0, 0)
            answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes((127, 0, 0, 1)) if found else b""
            server.sendto(header + query[12:end] + answer, sender)

    threading.Thread(target=serve, daemon=True).start()


def make_certificates(folder):
    """An authority, and a certificate of it for both names."""

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
            "-subj", "/CN=test authority")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "receiver.key", "-out", "receiver.csr",
            "-subj", "/CN=receiver")
    with open(os.path.join(folder, "names"), "w") as file:
        file.write(f"subjectAltName=DNS:{BY_DNS},DNS:{BY_HOSTS}\n")
    openssl("x509", "-req", "-in", "receiver.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "receiver.pem", "-days", "2", "-extfile", "names")


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hosts = []

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.hosts.append(self.headers["Host"].partition(":")[0])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def serve_receiver(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(folder, "receiver.pem"), os.path.join(folder, "receiver.key"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def make_root(folder, name, binary, extra_roots=None):
    """The image's files, and what a container runtime adds: devices, /etc/hosts, /etc/resolv.conf, and a volume."""
    root = os.path.join(folder, name)
    for path in ("usr/local/bin", "etc/ssl/certs", "dev", "data"):
        os.makedirs(os.path.join(root, path))
    # Of those that the OCI's runtime specification promises. Linked so, the program asks urandom for its keys.
    for minor, device in ((3, "null"), (8, "random"), (9, "urandom")):
        path = os.path.join(root, "dev", device)
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        os.chmod(path, 0o666)
    shutil.copy2(binary, os.path.join(root, "usr/local/bin/sluicegate"))
    roots = os.path.join(root, SYSTEM_ROOTS[1:])
    shutil.copy(SYSTEM_ROOTS, roots)
    if extra_roots:
        with open(roots, "a") as file, open(extra_roots) as more:
            file.write(more.read())
    with open(os.path.join(root, "etc/hosts"), "w") as file:
        file.write(f"127.0.0.1 localhost\n127.0.0.1 {BY_HOSTS}\n")
    with open(os.path.join(root, "etc/resolv.conf"), "w") as file:
        file.write("nameserver 127.0.0.1\noptions ndots:1 timeout:1\n")
    os.chown(os.path.join(root, "data"), USER, USER)
    os.chmod(folder, 0o755)
    return root


class Contained:
    """The program with a root folder and a user of its own."""

    def __init__(self, root, *args):
        self.errors = tempfile.TemporaryFile("w+")
        command = [shutil.which("chroot"), f"--userspec={USER}:{USER}", "--groups=", root, "/usr/local/bin/sluicegate", "run",
                   "--listen=127.0.0.1:0", "--web.listen-address=127.0.0.1:0", *args]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL, text=True, env={}
        )
        ready = re.search(r"data=(\S+) admin=(\S+)", self.process.stdout.readline())
        if not ready:
            raise RuntimeError("it does not start: " + self.said())
        self.data, self.admin = ready[1], ready[2]

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def post(self):
        series = [({"__name__": "sent", "n": str(n)}, [(int(time.time() * 1000), n)]) for n in range(10)]
        url = f"http://{self.data}/api/v1/write"
        status, _, body = stores.http(url, wire.write_request(series), wire.WRITE_HEADERS)
        if status // 100 != 2:
            raise RuntimeError(f"answered {status}: {body[:200]!r}; {self.said()[-500:]}")

    def status(self):
        return json.loads(stores.get(f"http://{self.admin}/api/v1/status"))

    def stop(self):
        self.process.terminate()
        return self.process.wait(40)


def until(what, condition):
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.05)


def main(binary, folder):
    loopback_up()
    asked = []
    serve_names(asked)
    make_certificates(folder)
    port = serve_receiver(folder)
    root = make_root(folder, "root", binary, extra_roots=os.path.join(folder, "ca.pem"))
    upstreams = [f"--upstream={name}=https://{host}:{port}/api/v1/write"
                 for name, host in (("dns", BY_DNS), ("hosts", BY_HOSTS))]
    # Without a folder a 2xx means that both receivers have it.
    plain = Contained(root, *upstreams)
    plain.post()
    if set(Receiver.hosts) != {BY_DNS, BY_HOSTS} or BY_DNS not in asked:
        raise RuntimeError(f"receivers heard {Receiver.hosts}, the name server {asked}")
    if code := plain.stop():
        raise RuntimeError(f"exit code {code}: {plain.said()[-500:]}")
    # With one it means that the disk has it; and the receiver gets it.
    before = len(Receiver.hosts)
    kept = Contained(root, upstreams[0], "--storage.path=/data/log", "--batch-send-deadline=100ms")
    kept.post()
    if kept.status()["ack"]["mode"] != "fsync" or not os.path.exists(os.path.join(root, "data/log/format")):
        raise RuntimeError("the folder is not used: " + kept.said())
    until("the receiver has it", lambda: len(Receiver.hosts) > before)
    kept.stop()
    # Without the test's authority nobody is believed: it is the file of the image that decides.
    strange = Contained(make_root(folder, "without", binary), upstreams[0], "--ack=memory", "--batch-send-deadline=100ms")
    before = len(Receiver.hosts)
    strange.post()
    until("an unknown authority is told", lambda: "UnknownIssuer" in str(strange.status()["queues"][0]["errors"]))
    strange.process.kill()
    if len(Receiver.hosts) > before:
        raise RuntimeError("a certificate of an unknown authority was believed")
    size = os.path.getsize(binary) / (1 << 20)
    print(f"{size:.0f} MiB without loader or library; user {USER}; a receiver by DNS and one by /etc/hosts over TLS; log on disk")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(sys.argv[1], made)
