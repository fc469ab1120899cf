"""The lab's way to run a command in a container loses none of its output."""

import json
import socketserver
import threading
from types import SimpleNamespace

import docker
import pytest

from rpiomega.lab import engine

OUTPUT = b"ssh-ed25519 AAAA\n"


class _AtOnce(socketserver.StreamRequestHandler):
    """An engine so quick, or a client so slow, that an answer's head and the command's output come in one piece."""

    def handle(self):
        request = self.rfile.readline().decode()
        length = 0
        while line := self.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        self.rfile.read(length)
        if "/start " in request:
            frames = b"".join(bytes([stream, 0, 0, 0, 0, 0, 0, len(OUTPUT)]) + OUTPUT for stream in (1, 2))
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + frames)
            return
        body = json.dumps({"Id": "e1", "ExitCode": 3}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@pytest.fixture
def container():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _AtOnce) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = docker.APIClient(f"tcp://127.0.0.1:{server.server_address[1]}", version="1.41", timeout=10)
        yield SimpleNamespace(id="c1", name="board", client=SimpleNamespace(api=api))
        server.shutdown()


def test_output_that_comes_with_the_head_of_the_answer_is_kept(container):
    seen = []
    assert engine.execute(container, ["true"], lambda stream, data: seen.append((stream, data))) == 3
    assert seen == [(1, OUTPUT), (2, OUTPUT)]


def test_a_failed_command_is_told_with_what_it_printed(container):
    with pytest.raises(engine.LabError, match=r"board: `sh -c true` failed with 3: ssh-ed25519 AAAA"):
        engine.run(container, "true")
