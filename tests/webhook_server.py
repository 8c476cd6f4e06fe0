"""A webhook receiver: an HTTP server that records requests and returns the configured answers."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from tests.servers import WAIT_TIMEOUT_SECONDS


@dataclass
class WebhookServer:
    """Received requests, as lower-case headers and body; `status_codes` are used in turn, the last one repeatedly."""

    url: str
    status_codes: list[int] = field(default_factory=lambda: [204])
    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    redirect_location: str = ""
    before_response: Callable[[BaseHTTPRequestHandler], object] = lambda _handler: None
    is_closing: Event = field(default_factory=Event)


@contextmanager
def run_webhook_server() -> Iterator[WebhookServer]:
    """Yield a receiver on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            here.before_response(self)
            if here.is_closing.is_set():
                return
            self.send_response(here.status_codes[0] if len(here.status_codes) == 1 else here.status_codes.pop(0))
            if here.redirect_location:
                self.send_header("location", here.redirect_location)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Ignore errors, because tests disconnect on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    here = WebhookServer(f"http://127.0.0.1:{server.server_port}/hook?token=hidden")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield here
    finally:
        here.is_closing.set()
        server.shutdown()
        server.server_close()
        thread.join(WAIT_TIMEOUT_SECONDS)
