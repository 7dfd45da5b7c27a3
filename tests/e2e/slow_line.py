"""ssh's ProxyCommand: a line that carries few bytes a second towards the client.

    slow_line.py HOST PORT BYTES_A_SECOND
"""

import os
import socket
import sys
import threading
import time

# Little, as on a line without large buffers: what is in here is behind the server's back.
SOCKET_BYTES = 64 * 1024
PIECE_BYTES = 4096


def carry_up(line):
    while data := os.read(0, 65536):
        line.sendall(data)
    line.shutdown(socket.SHUT_WR)


def carry_down(line, rate):
    due = time.monotonic()
    while data := line.recv(PIECE_BYTES):
        os.write(1, data)
        due = max(due, time.monotonic() - 0.01) + len(data) / rate
        time.sleep(max(0, due - time.monotonic()))


def main():
    host, port, rate = sys.argv[1:]
    line = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
    line.connect((host, int(port)))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=carry_up, args=(line,), daemon=True).start()
    try:
        carry_down(line, float(rate))
    except OSError:
        pass  # ssh has gone.


main()
