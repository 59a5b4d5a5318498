"""Real programs on S, and the odd ones of peers.py. All of them end with this process (PR_SET_PDEATHSIG)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from tests.netns import ports
from tests.netns.pattern import blocks
from tests.netns.peers import NAMES, READY
from tests.netns.topology import SERVER, Namespace

ROOT = Path(__file__).parents[2]
BIG = 100 << 20
"""Size of the file `big` on the web server."""
PEOPLE = """\
root:x:0:0::/root:/bin/sh
sshd:x:104:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534::/:/bin/sh
caller:x:12345:12345::/:/bin/sh
"""
GROUPS = "root:x:0:\nnogroup:x:65534:\ncaller:x:12345:\n"


def eventually(ready: Callable[[], object], what: str, seconds: float = 15.0) -> None:
    """Poll until `ready()`; fail naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


class Peers:
    """The odd servers, and what they notice. They write it to a file: a pipe that a test does not read would
    hold them up."""

    def __init__(
        self, namespace: Namespace, start: Callable[..., subprocess.Popen[bytes]], notes: Path
    ) -> None:
        with notes.open("wb") as out:
            self._process = start(
                namespace, sys.executable, "-m", "tests.netns.peers", stdin=subprocess.PIPE, stdout=out
            )
        self._notes = notes.open("rb")
        self._pending = b""
        self._seen: list[dict[str, object]] = []
        self.next(READY)

    def next(self, server: str, seconds: float = 15.0) -> dict[str, object]:
        """What `server` notices next, or has noticed already; fails after `seconds`."""
        deadline = time.monotonic() + seconds
        while True:
            for event in self._seen:
                if event["server"] == server:
                    self._seen.remove(event)
                    return event
            if not self._read():
                assert time.monotonic() < deadline, (
                    f"{server}: nothing in {seconds:g} s; others: {self._seen}"
                )
                assert self._process.poll() is None, "the odd servers have died"
                time.sleep(0.002)

    def forget(self) -> list[dict[str, object]]:
        """What has been noticed so far and not been asked for; it is forgotten."""
        while self._read():
            pass
        seen, self._seen = self._seen, []
        return seen

    def go_on(self) -> None:
        """Let the server at LATE read."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._notes.close()

    def _read(self) -> bool:
        data = self._notes.read(1 << 20)
        *lines, self._pending = (self._pending + data).split(b"\n")
        self._seen += [json.loads(line) for line in lines]
        return bool(data)


class Servers:
    """Everything on S; `close` ends it."""

    def __init__(self, namespace: Namespace, files: Path) -> None:
        self.namespace = namespace
        self.files = files
        self.log = files / "servers.log"
        self._processes: list[subprocess.Popen[bytes]] = []
        (files / "passwd").write_text(PEOPLE)
        (files / "group").write_text(GROUPS)
        try:
            self._start_nginx()
            self._start_sshd()
            self._start_unbound()
            self._start_git()
            self.start(namespace, "iperf3", "--server", "--port", str(ports.IPERF))
            for port in (ports.HTTP, ports.SSH, ports.DNS, ports.GIT, ports.IPERF):
                eventually(partial(namespace.listens, port), f"a server on port {port}")
            self.peers = Peers(namespace, self.start, files / "notes")
        except BaseException:
            self._end_all()
            raise

    def start(
        self,
        namespace: Namespace,
        *argv: str,
        stdin: int = subprocess.DEVNULL,
        stdout: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """A program in `namespace`, as root, with the users of this test world; it ends with us."""
        prelude = (
            f"mount --bind {self.files}/passwd /etc/passwd; mount --bind {self.files}/group /etc/group;"
            'mount -t tmpfs none /run; mkdir /run/sshd; exec "$@"'
        )
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", *namespace.command(
                        ["unshare", "--mount", "--propagation=private", "sh", "-c", prelude, "sh", *argv]
                    ),
                ],
                stdin=stdin, stdout=log if stdout is None else stdout, stderr=log, cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def close(self) -> None:
        self.peers.close()
        self._end_all()

    def _end_all(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin:
                process.stdin.close()

    def _start_nginx(self) -> None:
        web = self.files / "web"
        web.mkdir()
        web.chmod(0o777)
        (web / "index.html").write_text("hello from S\n")
        with (web / "big").open("wb") as file:
            file.writelines(blocks(BIG))
        config = self.files / "nginx.conf"
        config.write_text(
            f"user root; daemon off; master_process off; pid {self.files}/nginx.pid; error_log stderr;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; sendfile on; default_type application/octet-stream;\n"
            f"  client_body_temp_path {self.files}/nginx-body; client_max_body_size 0;\n"
            f"  proxy_temp_path {self.files}/t1; fastcgi_temp_path {self.files}/t2;\n"
            f"  uwsgi_temp_path {self.files}/t3; scgi_temp_path {self.files}/t4;\n"
            f"  server {{ listen {ports.HTTP} backlog=1024; listen [::]:{ports.HTTP}; root {web};\n"
            "    autoindex on; dav_methods PUT; } }\n"
        )
        publish_wheel(web / "simple" / "greeting")
        publish_packages(web / "apt")
        self.start(self.namespace, "nginx", "-c", str(config), "-p", str(self.files))

    def _start_sshd(self) -> None:
        keys = self.files / "ssh"
        keys.mkdir()
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True
            )
        for path in (keys / "user", keys / "user.pub"):
            shutil.chown(path, 12345, 12345)
        config = keys / "sshd_config"
        config.write_text(
            f"Port {ports.SSH}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/user.pub\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nUseDNS no\n"
            "MaxStartups 100\nSubsystem sftp internal-sftp\n"
        )
        self.start(self.namespace, "/usr/sbin/sshd", "-D", "-e", "-f", str(config))

    def _start_unbound(self) -> None:
        self.start(
            self.namespace, "unbound", "-d", "-p", "-c", str(write_zone(self.files, list(SERVER.values())))
        )

    def _start_git(self) -> None:
        repository = self.files / "web" / "project.git"
        work = self.files / "project"
        who = ["-c", "user.name=t", "-c", "user.email=t@example.test", "-c", "init.defaultBranch=main"]
        git = ["git", "-C", str(work), *who]
        subprocess.run(["git", *who, "init", "-q", str(work)], check=True)
        (work / "README").write_text("a project\n")
        (work / "data").write_bytes(b"".join(blocks(3 << 20)))
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
        subprocess.run(["git", "clone", "-q", "--bare", str(work), str(repository)], check=True)
        subprocess.run(["git", "-C", str(repository), "update-server-info"], check=True)
        self.start(
            self.namespace, "git", "-c", "safe.directory=*", "daemon", "--export-all", "--reuseaddr",
            f"--port={ports.GIT}", f"--base-path={self.files / 'web'}",
        )  # fmt: skip


def publish_wheel(directory: Path) -> None:
    """A pip index page with one small wheel."""
    directory.mkdir(parents=True)
    name = "greeting-1.0-py3-none-any.whl"
    about = "greeting-1.0.dist-info"
    with zipfile.ZipFile(directory / name, "w") as wheel:
        wheel.writestr("greeting.py", "HELLO = 'hello'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    (directory / "index.html").write_text(f'<a href="{name}">{name}</a>\n')


def publish_packages(directory: Path) -> None:
    """A flat repository of apt with one package in its index."""
    directory.mkdir()
    (directory / "Packages").write_text(
        "Package: greeting\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.test>\n"
        "Filename: ./greeting.deb\nSize: 1\nSHA256: " + "0" * 64 + "\nDescription: hello\n\n"
    )


def write_zone(files: Path, listen: list[str]) -> Path:
    """A configuration of unbound that knows `example.test` and refuses the rest; the path to it."""
    config = files / f"unbound-{listen[0]}.conf"
    lines = [f"  interface: {address}" for address in listen]
    for name, address in NAMES.items():
        lines.append(f'  local-data: "{name}. 60 IN {"AAAA" if ":" in address else "A"} {address}"')
    lines += [
        f'  local-data: "both.example.test. 60 IN A {SERVER[4]}"',
        f'  local-data: "both.example.test. 60 IN AAAA {SERVER[6]}"',
        *(f"  local-data: 'long.example.test. 60 IN TXT \"{n:03}{'x' * 240}\"'" for n in range(12)),
        f'  local-data-ptr: "{SERVER[4]} 60 www.example.test"',
    ]
    config.write_text(
        'server:\n  do-daemonize: no\n  username: ""\n  chroot: ""\n  pidfile: ""\n  use-syslog: no\n'
        "  access-control: 0.0.0.0/0 allow\n  access-control: ::/0 allow\n"
        "  local-zone: example.test. static\n"
        '  local-zone: . refuse\n  num-threads: 1\n  module-config: "iterator"\n' + "\n".join(lines) + "\n"
        "remote-control:\n  control-enable: no\n"
    )
    return config


def end_process(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
