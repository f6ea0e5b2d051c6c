"""A provider that says what is written in `answers/`, whatever it is asked: shapes that providers send and that nobody
makes up on demand. The model's name chooses the file; a stream comes in pieces that end where no event does.
"""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWERS = Path(__file__).parent / "answers"
MODEL_IN_PATH = re.compile(r"/models/([^:/]+):")
PIECE_BYTES = 61
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


class Replay(ThreadingHTTPServer):
    """Serves until `close`. `origin` is where."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.origin = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that has what it wanted may reset its connection."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        in_path = MODEL_IN_PATH.search(self.path)
        name = in_path[1] + ".gemini" if in_path else body["model"]
        if body.get("stream") or "alt=sse" in self.path:
            options = body.get("stream_options") or {}
            self.stream((ANSWERS / f"{name}.sse").read_bytes(), bool(options.get("include_usage")))
        else:
            answer = (ANSWERS / f"{name}.json").read_bytes()
            self.send_response(400 if answer.startswith(b'{"error"') else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def stream(self, events: bytes, with_usage: bool) -> None:
        if with_usage:
            events = usage_told(events)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for at in range(0, len(events), PIECE_BYTES):
            piece = events[at : at + PIECE_BYTES]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


def usage_told(events: bytes) -> bytes:
    """The stream as OpenAI sends it to whoever asks for usage: null on every chunk, and told by one without choices."""
    told = re.sub(rb'("object":"chat\.completion\.chunk")', rb'\1,"usage":null', events)
    last = {"id": "chatcmpl-replayed", "object": "chat.completion.chunk", "created": 1790000000}
    last |= {"model": "replayed", "choices": [], "usage": USAGE}
    end = re.search(rb"data: \[DONE\]", told)
    at = end.start() if end else len(told)
    return told[:at] + b"data: " + json.dumps(last).encode() + b"\n\n" + told[at:]
