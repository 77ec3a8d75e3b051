#!/usr/bin/env python3
"""Lakeseal, SeaweedFS and Tahoe-LAFS side by side: the same machine, the same bytes, one run, everything on loopback.

    scripts/compare_stores.py [--large MIB] [--small COUNT] [--rounds N] [--json]

Puts and gets one large object and many of 16 KiB, 16 at a time, and prints seconds and MiB/s, least and median over the rounds, which
alternate between the stores. What each store promises for an acknowledged write differs, and is printed beside its figures.

Packages are installed by name and version, once, below target/compare (--dir). What cannot be had is skipped, and said so. Servers run
in a network namespace of their own where the system allows it, and are ended by their ids.
"""
import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "servers"))
import kinds  # noqa: E402
from supervisor import Server, free_ports  # noqa: E402

TAHOE = "tahoe-lafs==1.20.0"
SMALL_BYTES = 16 * 1024
AT_ONCE = 16
STEPS = ["put_large", "get_large", "put_small", "get_small"]
PROMISES = {
    "lakeseal": "3+2 over 5 directories; every shard and vote is synced to disk before a write is acknowledged; every read is verified",
    "seaweedfs": "one copy on one server; written to the page cache, not synced; S3 by the same client library",
    "tahoe": "3 of 5 over 5 storage servers; encrypted; written to the page cache, not synced; HTTP gateway; every read is verified",
}


class Lakeseal:
    """In-process: there is no server to start."""

    def __init__(self, program, home, args):
        self.program, self.home, self.args = program, home, args

    def start(self):
        pass

    def round(self, number):
        place = self.home / f"lake{number}"
        result = run_program([self.program, "lake", place], self.args)
        shutil.rmtree(place)
        return result

    def stop(self):
        pass


class SeaweedFs:
    def __init__(self, program, tools, home, args):
        self.program, self.tools, self.home, self.args = program, tools, home, args

    def start(self):
        self.server, _, settings = kinds.seaweedfs(self.tools, self.home / "weed", "weed")
        prefix = "LAKESEAL_REGION_WEED_"
        self.settings = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix + "AWS")}
        self.server.start()

    def round(self, number):
        return run_program([self.program, "s3", "weed"], self.args, self.settings)

    def stop(self):
        end(self.server)


class Tahoe:
    """An introducer, five storage servers and a gateway; 3 shares of 5 are needed, all 5 are placed."""

    def __init__(self, tahoe, home, args):
        self.tahoe, self.home, self.args, self.servers = tahoe, home / "tahoe", args, []

    def create(self, kind, name, *options):
        node = self.home / name
        subprocess.run([self.tahoe, kind, *options, node], check=True, stdout=subprocess.DEVNULL)
        return node

    def run(self, name, node, probe):
        server = Server(name, [self.tahoe, "run", "--allow-stdin-close", node], node, probe)
        self.servers.append(server)
        server.start()

    def start(self):
        self.home.mkdir()
        ports = free_ports(7)
        listen = lambda port: (f"--port=tcp:{port}:interface=127.0.0.1", f"--location=tcp:127.0.0.1:{port}")
        furl = self.create("create-introducer", "introducer", *listen(ports[0])) / "private" / "introducer.furl"
        self.run("introducer", furl.parents[1], furl.read_text)
        introducer = f"--introducer={furl.read_text().strip()}"
        for i, port in enumerate(ports[1:6]):
            node = self.create("create-node", f"storage{i}", introducer, "--webport=none", *listen(port))
            self.run(f"storage{i}", node, lambda: None)
        self.port = ports[6]
        shares = ("--shares-needed=3", "--shares-happy=5", "--shares-total=5")
        node = self.create("create-client", "gateway", introducer, f"--webport=tcp:{self.port}:interface=127.0.0.1", *shares)
        # It serves once it knows all five storage servers: a put places five shares or fails.
        self.run("gateway", node, lambda: self.put(b"probe" * 1000))

    def request(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1200)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            bytes_ = answer.read()
            if answer.status not in (200, 201):
                raise RuntimeError(f"tahoe: {answer.status} {bytes_[:300]!r}")
            return bytes_
        finally:
            connection.close()

    def put(self, bytes_):
        return self.request("PUT", "/uri", bytes_).decode()

    def get(self, cap, bytes_):
        if self.request("GET", f"/uri/{cap}") != bytes_:
            raise RuntimeError("tahoe: an object came back otherwise")

    def round(self, number):
        # Bytes that were not put before: what has the same bytes is not stored again.
        large = os.urandom(self.args.large << 20)
        small = [os.urandom(SMALL_BYTES) for _ in range(self.args.small)]
        seconds = {}
        cap = timed(seconds, "put_large", lambda: self.put(large))
        timed(seconds, "get_large", lambda: self.get(cap, large))
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            caps = timed(seconds, "put_small", lambda: list(pool.map(self.put, small)))
            timed(seconds, "get_small", lambda: list(pool.map(self.get, caps, small)))
        return seconds

    def stop(self):
        for server in reversed(self.servers):
            end(server)


def timed(seconds, step, work):
    begun = time.monotonic()
    done = work()
    seconds[step] = time.monotonic() - begun
    return done


def end(server):
    """SIGTERM to the server's own process group, and SIGKILL when that is not enough."""
    for number in (15, 9):
        server.signal(number)
        try:
            server.process.wait(15)
            return
        except subprocess.TimeoutExpired:
            continue


def run_program(command, args, settings=None):
    command = [str(part) for part in command] + [str(args.large), str(args.small)]
    done = subprocess.run(command, env=dict(os.environ) | (settings or {}), capture_output=True, text=True, timeout=3600)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def install(args):
    """What is needed, before the network namespace is entered: in there is nothing but loopback."""
    args.dir.mkdir(parents=True, exist_ok=True)
    tools = kinds.Tools(args.dir)
    weed = tools.pip(kinds.SEAWEEDFS, "weed")
    # Its dependencies are many and old; they get a place of their own.
    home = args.dir / "tahoe"
    tahoe = home / "bin" / "tahoe"
    if not tahoe.exists():
        venv.create(home, with_pip=True, clear=True)
        if subprocess.run([home / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", TAHOE]).returncode != 0:
            kinds.skip(f"{TAHOE} could not be installed by pip")
    build = ["cargo", "build", "--release", "--no-default-features", "--example", "store_throughput", "--message-format=json-render-diagnostics"]
    built = subprocess.run(build, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    [program] = {m["executable"] for m in messages if m.get("target", {}).get("name") == "store_throughput" and m.get("executable")}
    return {"program": program, "weed": weed is not None, "tahoe": str(tahoe) if tahoe.exists() else None}


def compare(args, found):
    with tempfile.TemporaryDirectory(prefix="compare-", dir=args.dir) as temporary:
        home = pathlib.Path(temporary)
        stores = {"lakeseal": Lakeseal(found["program"], home, args)}
        if found["weed"]:
            stores["seaweedfs"] = SeaweedFs(found["program"], kinds.Tools(args.dir), home, args)
        if found["tahoe"]:
            stores["tahoe"] = Tahoe(found["tahoe"], home, args)
        figures = {name: {step: [] for step in STEPS} for name in stores}
        begun = []
        try:
            for name, store in stores.items():
                begun.append(store)
                store.start()
                print(f"{name} serves", file=sys.stderr, flush=True)
            for number in range(args.rounds):
                for name, store in stores.items():
                    for step, seconds in store.round(number).items():
                        figures[name][step].append(seconds)
                    print(f"round {number}: {name} done", file=sys.stderr, flush=True)
        finally:
            for store in reversed(begun):
                store.stop()
        return figures


def report(args, figures):
    if args.json:
        print(json.dumps({"large_mib": args.large, "small": args.small, "load": os.getloadavg(), "promises": PROMISES, "seconds": figures}))
        return
    one, five, fifteen = os.getloadavg()
    print(f"{args.large} MiB; {args.small} x 16 KiB, {AT_ONCE} at a time; {args.rounds} rounds; {os.cpu_count()} processors, load {one:.1f}")
    print(f"{'':<12}" + "".join(f"{step.replace('_', ' '):>32}" for step in STEPS))
    for name, steps in figures.items():
        cells = []
        for step, seconds in steps.items():
            is_large = step.endswith("large")
            rate, unit = (args.large, "MiB/s") if is_large else (args.small, "objects/s")
            cells.append(f"{min(seconds):.2f} / {statistics.median(seconds):.2f} s, {rate / min(seconds):.0f} {unit}")
        print(f"{name:<12}" + "".join(f"{cell:>32}" for cell in cells))
    for name in figures:
        print(f"{name}: {PROMISES[name]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=256, help="MiB of the large object")
    parser.add_argument("--small", type=int, default=1000, help="how many objects of 16 KiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "target" / "compare")
    parser.add_argument("--found", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.dir = args.dir.resolve()
    if args.found:
        report(args, compare(args, json.loads(args.found)))
        return 0
    found = json.dumps(install(args))
    inside = [sys.executable, __file__, *sys.argv[1:], "--found", found]
    namespace = ["unshare", "--net", "--map-root-user"]
    ready = shutil.which("unshare") and subprocess.run([*namespace, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
    if not ready:
        kinds.skip("no network namespace of its own can be had; the servers listen on this machine's 127.0.0.1")
        return subprocess.run(inside).returncode
    return subprocess.run([*namespace, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *inside]).returncode


if __name__ == "__main__":
    sys.exit(main())
