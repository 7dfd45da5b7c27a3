"""A live transfer of a steady rate, both ways at once, whose bytes and whose stops are looked at."""

import subprocess
import threading
import time

from regions import end_with_us

PIECE_BYTES = 32 << 10
PACE_BYTES_S = 2 << 20   # far below what a busy machine moves: what is slower than this was held up
STOP_MAX_S = 1.5         # without a byte; the faults last longer


def piece(number):
    return number.to_bytes(8, "big") * (PIECE_BYTES // 8)


class Flow:
    """One `cat` in the sandbox. `with Flow(region) as flow:` around the trouble; then flow.kept_its_rate()."""

    def __init__(self, region, **how):
        self.process = subprocess.Popen(
            region.ssh_argv("cat", **how), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_us)
        self.is_over = threading.Event()
        self.sent = self.back = 0
        self.longest_s = 0.0
        self.trouble = None
        self.writer = threading.Thread(target=self.write)
        self.reader = threading.Thread(target=self.read)

    def write(self):
        begun = time.monotonic()
        try:
            while not self.is_over.is_set():
                self.process.stdin.write(piece(self.sent))
                self.process.stdin.flush()
                self.sent += 1
                self.is_over.wait(max(0, begun + self.sent * PIECE_BYTES / PACE_BYTES_S - time.monotonic()))
            self.process.stdin.close()
        except OSError as error:
            self.trouble = f"after {self.sent} pieces: {error}"

    def read(self):
        last = time.monotonic()
        while data := self.process.stdout.read(PIECE_BYTES):
            now = time.monotonic()
            self.longest_s = max(self.longest_s, now - last)
            last = now
            if data != piece(self.back):
                self.trouble = f"piece {self.back} differs"
                return
            self.back += 1

    def __enter__(self):
        self.begun = time.monotonic()
        self.writer.start()
        self.reader.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.writer.join(30)
        self.reader.join(30)
        self.seconds = time.monotonic() - self.begun
        try:
            self.status = self.process.wait(0 if self.reader.is_alive() else 10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            try:
                stream.close()
            except OSError:
                pass

    def kept_its_rate(self):
        """Every byte came back, and never was there a stop that the trouble could have made."""
        assert self.trouble is None and self.status == 0, (self.trouble, self.status)
        assert self.back == self.sent > 0, f"{self.sent} pieces went, {self.back} came back"
        rate = self.back * PIECE_BYTES / self.seconds
        assert self.longest_s < STOP_MAX_S, f"{self.longest_s:.2f} s without a byte"
        assert self.seconds < 3 or rate > 0.7 * PACE_BYTES_S, f"{rate / 1e6:.2f} MB/s of {PACE_BYTES_S / 1e6:.2f}"
        return True
