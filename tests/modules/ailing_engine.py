"""An engine that answers a ping and nothing else that is asked of it, as one whose disk hangs or is full."""

import contextlib
import http.server
import json
import socketserver
import tempfile
import threading


@contextlib.contextmanager
def serve(hang=False, known=(), says="no space left on device"):
    """
    Yield the base URL of one that answers 500 and why, or with `hang` keeps the caller waiting.

    :param known: {end of a path: what a GET of it answers all the same}
    :param says: the reason
    """
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answers = {"/_ping": "OK", **dict(known)} if self.command == "GET" else {}
            answer = next((answers[end] for end in answers if self.path.endswith(end)), None)
            if hang and answer is None:
                over.wait(30)
            body = json.dumps(answer or {"message": says}).encode()
            self.send_response(200 if answer else 500)
            self.send_header("Api-Version", "1.41")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def address_string(self):
            return "local"

        def log_message(self, *arguments):
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    # Of its own and short: the path of a socket has at most 107 characters.
    with tempfile.TemporaryDirectory() as folder, Server(f"{folder}/engine.sock", Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{server.server_address}"
        over.set()
        server.shutdown()
