"""A real Apache Kafka on loopback, for tests and benchmarks; needs `java` (17 or newer) and, once, `mvn`.

A keeper process starts the broker in a folder and ends it when nobody uses that folder any more. Who uses it holds
a shared lock on a file in it, which the kernel lets go of however the user ends. So several test workers share one
broker, and a killed test run leaves none behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import string
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
JVM = ("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
START_S = 90.0


class Broker(NamedTuple):
    """How to reach it: `bootstrap` without a login, `login` as the user `fleet` with `password` (SASL PLAIN).

    `pid` is its process, 0 where it is not ours.
    """

    bootstrap: str
    login: str
    password: str
    pid: int = 0


def unavailable() -> str | None:
    """Why no broker can be started here, None if one can."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no real Kafka: {' and '.join(absent)} not on PATH; or set ANOMALY_TEST_KAFKA=HOST:PORT" if absent else None


@contextlib.contextmanager
def broker() -> Iterator[str]:
    """A broker of one's own for the length of a `with`; gives its bootstrap address."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as name:
        with shared(Path(name)) as running:
            yield running.bootstrap
        while Path(name, "address.json").exists():
            time.sleep(0.05)


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[Broker]:
    """The broker of `folder`, started if nobody did yet, and ended after its last user let go."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "users").open("ab") as users, (folder / "starting").open("ab") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        fcntl.flock(users, fcntl.LOCK_SH)
        if not (folder / "address.json").exists():
            _keep(folder)
        found = Broker(**json.loads((folder / "address.json").read_text()))
        fcntl.flock(starting, fcntl.LOCK_UN)
        yield found


def _keep(folder: Path) -> None:
    """Start the keeper of `folder` and wait until its broker answers."""
    with (folder / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + START_S
    while not (folder / "address.json").exists():
        if keeper.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"Kafka did not start:\n{(folder / 'keeper.log').read_text()[-3000:]}")
        time.sleep(0.05)
    keeper.returncode = 0  # it outlives this process on purpose


def _keeper(folder: Path) -> None:
    """Run a broker until nobody holds a lock on `users`; a newcomer waits on that lock until all is put away."""
    with (folder / "users").open("ab") as users:
        process, running = _start(folder)
        try:
            (folder / "new.json").write_text(json.dumps(running._asdict()))
            (folder / "new.json").rename(folder / "address.json")
            while process.poll() is None:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder / "node", ignore_errors=True)
            (folder / "address.json").unlink(missing_ok=True)


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], Broker]:
    """Format a new node in `folder`, start it, and wait until its port answers."""
    node = folder / "node"
    node.mkdir(mode=0o700)
    ports = dict(zip(("open", "login", "controller"), _free_ports(3), strict=True))
    password = secrets.token_hex(8)
    template = string.Template((HERE / "broker.properties").read_text())
    (node / "broker.properties").write_text(template.substitute(ports, password=password))
    java = ["java", *JVM, "-cp", f"{_jars()}/*"]
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", "broker.properties"], cwd=node, check=True
    )
    process = subprocess.Popen([*java, "kafka.Kafka", "broker.properties"], cwd=node)
    until = time.monotonic() + START_S
    while not _answers(ports["open"]):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise SystemExit("the broker ended, or does not answer")
        time.sleep(0.05)
    return process, Broker(f"127.0.0.1:{ports['open']}", f"127.0.0.1:{ports['login']}", password, process.pid)


def _jars() -> Path:
    """The folder with the broker's jars, in the user's cache; Maven fills it the first time."""
    version = re.findall(r"<version>(.+?)</version>", (HERE / "pom.xml").read_text())[0]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fleet-anomaly"
    jars = cache / f"kafka-{version}"
    if not jars.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fresh:
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}/jars", "-DincludeScope=runtime"]
            subprocess.run(["mvn", "-B", "-q", "-f", str(HERE / "pom.xml"), *goal], check=True)
            with contextlib.suppress(OSError):  # another process was first, with the same jars
                Path(fresh, "jars").rename(jars)
    return jars


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    _keeper(Path(sys.argv[1]))
