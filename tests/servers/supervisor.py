"""Server processes, and a way for tests to kill, hang and restart them by name.

Tests talk to the supervisor over a socket on 127.0.0.1, one line a connection: `kill NAME` (SIGKILL), `stop NAME` (SIGSTOP),
`continue NAME` (SIGCONT), `start NAME` (again, over its data, until it serves). The answer is `ok`, or what went wrong. So whatever
a test did, every process has an owner that ends it by its id.
"""
import os
import signal
import socket
import subprocess
import threading
import time


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    """One process (and its group): how it is started, and how one sees that it serves."""

    def __init__(self, name, command, data, probe, environment=None):
        self.name = name
        self.command = [str(part) for part in command]
        self.data = data
        self.probe = probe
        self.environment = environment
        self.process = None

    def start(self, seconds=90):
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            with open(self.data / "log", "ab") as log:
                self.process = subprocess.Popen(
                    self.command, stdout=log, stderr=subprocess.STDOUT, cwd=self.data, env=self.environment, start_new_session=True)
        until, last = time.time() + seconds, None
        while time.time() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.tail()}")
            try:
                return self.probe()
            except Exception as error:  # the server is not up yet
                last = error
                time.sleep(0.3)
        raise RuntimeError(f"{self.name} does not serve after {seconds} s: {last}: {self.tail()}")

    def tail(self):
        with open(self.data / "log", "rb") as log:
            return log.read()[-2000:].decode(errors="replace")

    def signal(self, number):
        """To the whole group: some servers are a wrapper and a child."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=10)

    def end(self):
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)

    def ended(self):
        if self.process is None:
            return
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()


class Supervisor:
    """All servers of a run."""

    def __init__(self):
        self.servers = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self.serve, daemon=True).start()

    def address(self):
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def add(self, server):
        self.servers[server.name] = server
        server.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # closed: the run is over
            with connection:
                line = connection.makefile().readline().strip()
                try:
                    self.obey(line)
                    answer = "ok"
                except Exception as error:
                    answer = f"{line}: {error!r}"
                connection.sendall(answer.replace("\n", " ").encode() + b"\n")

    def obey(self, line):
        verb, name = line.split(" ")
        server = self.servers[name]
        {"kill": server.kill, "start": server.start, "stop": lambda: server.signal(signal.SIGSTOP),
         "continue": lambda: server.signal(signal.SIGCONT)}[verb]()

    def close(self):
        self.listener.close()
        for server in self.servers.values():
            server.end()
        for server in self.servers.values():
            server.ended()
