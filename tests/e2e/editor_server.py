"""The server's half of an editor, as small as it can be: HTTP, and web sockets with a session each.

    python3 editor_server.py [--socket PATH] [--version TEXT] [--link]

Tests install it in a sandbox, as editors do with theirs. It listens on a port of the system's
choice on loopback, or at PATH, and writes where to standard output; --link writes it as a URL.
A session of a web socket is named by its token. It outlives its connection: who comes back
with the token finds it as it was.
"""

import argparse
import http.server
import json
import os
import signal
import socketserver
import threading
import urllib.parse

import ws

BLOCK = bytes(range(256)) * 256
sessions = {}
lock = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "local"

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if self.headers.get("Upgrade", "").lower() == "websocket":
            self.web_socket(query)
        elif url.path == "/version":
            self.answer(self.server.version.encode())
        elif url.path.startswith("/bytes/"):
            count = int(url.path.rpartition("/")[2])
            self.answer((BLOCK * (count // len(BLOCK) + 1))[:count])
        else:
            self.answer(b"no such page", 404)

    def web_socket(self, query):
        token = query.get("reconnectionToken", "")
        with lock:
            is_known = token in sessions
            if is_known != (query.get("reconnection") == "true"):
                self.answer(b"the session is not as you say", 409)
                return
            session = sessions.setdefault(token, {"count": 0})
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", ws.accept_key(self.headers["Sec-WebSocket-Key"]))
        self.end_headers()
        self.close_connection = True
        socket = ws.WebSocket(self.rfile, self.wfile.write, is_client=False)
        while True:
            try:
                kind, data = socket.receive()
            except (ConnectionError, OSError):
                return
            if kind == ws.CLOSE:
                socket.send(data, ws.CLOSE)
                return
            if kind == ws.BINARY:
                socket.send(data)
                continue
            session["count"] += 1
            socket.send(json.dumps({"count": session["count"], "pid": os.getpid(),
                                    "said": data.decode()}))


class TcpServer(http.server.ThreadingHTTPServer):
    request_queue_size = 512


class UnixServer(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 512
    daemon_threads = True


def main():
    # As Node.js does, whatever it inherits: nohup is of no use to it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    parser.add_argument("--version", default="0")
    parser.add_argument("--link", action="store_true")
    options = parser.parse_args()
    if options.socket:
        server, where = UnixServer(options.socket, Handler), options.socket
    else:
        server = TcpServer(("127.0.0.1", 0), Handler)
        where = server.server_address[1]
    server.version = options.version
    if options.link:
        print(f"Join link: tcp://127.0.0.1:{where}#jt=token&p=IU", flush=True)
    else:
        print(f"Server bound to {where}\nExtension host agent listening on {where}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
