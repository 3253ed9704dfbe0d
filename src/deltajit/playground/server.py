"""The server: one process, a page for each session, on this machine alone unless told otherwise."""

from __future__ import annotations

import contextlib
import hmac
import socket
import sys
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.models import Div
from bokeh.server.server import Server

from deltajit.playground.page import Page

LOCAL = ("127.0.0.1", "localhost")
# Bytes of a file, of whoever sits at this machine and of a class.
UPLOAD, UPLOAD_OF_CLASS = 64 * 2**20, 8 * 2**20


def run(port: int, address: str, token: str | None, browser: bool) -> int:
    """Serve until Ctrl-C; returns the exit status."""
    if address not in LOCAL and not token:
        print(
            f"--address {address} lets others in: it needs --token WORD, which they add to the "
            "address as ?token=WORD",
            file=sys.stderr,
        )
        return 2
    try:
        server = serve(port, address, token)
    except OSError as error:
        print(
            f"can't serve on {address}, port {port} ({error.strerror}); is a playground running "
            "there already? --port 0 takes any that is free",
            file=sys.stderr,
        )
        return 1
    url = f"http://{_host_of(address)}:{server.port}/" + (f"?token={token}" if token else "")
    print(f"the playground is at {url}; Ctrl-C ends it", flush=True)
    if browser:
        server.io_loop.add_callback(server.show, f"/?token={token}" if token else "/")
    with contextlib.suppress(KeyboardInterrupt):
        server.run_until_shutdown()
    return 0


def serve(port: int, address: str = "127.0.0.1", token: str | None = None) -> Server:
    """Make a server that listens already."""
    limit = UPLOAD if address in LOCAL else UPLOAD_OF_CLASS

    def session(document: Document) -> None:
        if token is None or _has_token(document, token):
            Page(document, limit)
        else:
            document.add_root(Div(text="The address must end in <code>?token=...</code>"))

    port = port or _free_port(address)
    server = Server(
        Application(FunctionHandler(session)),
        port=port,
        address=address,
        allow_websocket_origin=["*"] if token else [f"{host}:{port}" for host in LOCAL],
        websocket_max_message_size=2 * limit,
        check_unused_sessions_milliseconds=1000,
        unused_session_lifetime_milliseconds=3000,
    )
    server.start()
    return server


def _has_token(document: Document, token: str) -> bool:
    given: Any = document.session_context.request.arguments.get("token", [b""])[0]
    return hmac.compare_digest(given, token.encode())


def _host_of(address: str) -> str:
    """A name that others may use for this machine."""
    return socket.gethostname() if address in ("0.0.0.0", "::") else address


def _free_port(address: str) -> int:
    """A port that nobody listens on: who may connect is said with its number."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port
