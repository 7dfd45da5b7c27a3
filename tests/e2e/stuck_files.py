"""A file system that answers when the test wants it to: FUSE, by hand. It needs root and /dev/fuse."""

import ctypes
import errno
import os
import struct
import threading
import time

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, RELEASE, FLUSH, INIT = 1, 2, 3, 4, 14, 15, 16, 18, 25, 26
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42
ROOT, FILE = 1, 2
DIRECT_IO = 1
MNT_FORCE, MNT_DETACH = 1, 2
libc = ctypes.CDLL(None, use_errno=True)


class StuckFiles:
    """One folder with one file, `file`. Requests of the kinds in `held` wait for release()."""

    def __init__(self, folder):
        """OSError where it cannot be mounted."""
        self.folder = str(folder)
        self.path = os.path.join(self.folder, "file")
        self.content = bytearray()
        self.held, self.waiting = set(), []
        self.slow_s = 0   # each answer to READ takes so long
        self.lock = threading.Lock()
        os.makedirs(self.folder, exist_ok=True)
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self.fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        if libc.mount(b"stuck", self.folder.encode(), b"fuse", 0, options.encode()) < 0:
            error = ctypes.get_errno()
            os.close(self.fd)
            raise OSError(error, os.strerror(error))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def hold(self, *kinds):
        with self.lock:
            self.held = set(kinds)

    def held_count(self):
        with self.lock:
            return len(self.waiting)

    def release(self):
        with self.lock:
            self.held = set()
            waiting, self.waiting = self.waiting, []
            for request in waiting:
                self.answer(request)

    def stop(self):
        self.release()
        # By force first: that ends the thread's read even while somebody has the file open. Its descriptor is closed behind it, or
        # it would read what another file system's is asked, once that has the same number.
        libc.umount2(self.folder.encode(), MNT_FORCE)
        libc.umount2(self.folder.encode(), MNT_DETACH)
        self.thread.join(10)
        assert not self.thread.is_alive(), "the file system does not end"
        os.close(self.fd)

    def serve(self):
        while True:
            try:
                request = os.read(self.fd, 1 << 21)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return
            if not request:
                return
            kind = struct.unpack_from("<I", request, 4)[0]
            with self.lock:
                if kind in self.held:
                    self.waiting.append(request)
                elif kind not in (FORGET, BATCH_FORGET, INTERRUPT):
                    if kind == READ:
                        time.sleep(self.slow_s)
                    self.answer(request)

    def answer(self, request):
        _, kind, unique, node = struct.unpack_from("<IIQQ", request)
        try:
            body, error = self.body(kind, node, request[40:]), 0
        except OSError as problem:
            body, error = b"", -problem.errno
        try:
            os.write(self.fd, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
        except OSError:
            pass  # who asked is gone

    def attributes(self, node):
        mode = 0o40755 if node == ROOT else 0o100644
        size = 0 if node == ROOT else len(self.content)
        return struct.pack("<6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)

    def body(self, kind, node, fields):
        if kind == INIT:
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 16, 16, 1 << 20, 1, 0, 0, 0)
        if kind == LOOKUP:
            if fields.rstrip(b"\0") != b"file":
                raise OSError(errno.ENOENT, "")
            return struct.pack("<4Q2I", FILE, 0, 0, 0, 0, 0) + self.attributes(FILE)
        if kind in (GETATTR, SETATTR):
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if kind == OPEN:
            return struct.pack("<QII", 0, DIRECT_IO, 0)
        if kind == READ:
            offset, size = struct.unpack_from("<QI", fields, 8)
            return bytes(self.content[offset:offset + size])
        if kind == WRITE:
            offset, size = struct.unpack_from("<QI", fields, 8)
            self.content[offset:offset + size] = fields[40:40 + size]
            return struct.pack("<II", size, 0)
        if kind in (RELEASE, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")
