"""A file system with slow answers, for tests of a server that waits for them.

It speaks FUSE's protocol itself (linux/fuse.h), so that nothing but the kernel is needed, and the
right to mount: root's, or that of a user namespace. One folder; each name of digits and a dot and
digits, as "5.100000", is a file: the second number says its bytes.

usage: slow_disk.py FOLDER SECONDS    (mounted until its standard input ends)
"""
import ctypes
import errno
import heapq
import os
import re
import select
import stat
import struct
import sys
import time

LOOKUP, GETATTR, OPEN, READ, STATFS, RELEASE, INIT = 1, 3, 14, 15, 17, 18, 26
FLUSH, OPENDIR, READDIR, RELEASEDIR = 25, 27, 28, 29
FORGET, INTERRUPT, DESTROY, BATCH_FORGET = 2, 36, 38, 42
UNANSWERED = (FORGET, INTERRUPT, DESTROY, BATCH_FORGET)
SLOW = (LOOKUP, READ)  # requests to a disk; the kernel has the rest in memory
ROOT = 1
MAX_REQUEST_BYTES = 1 << 20
VALID_SECONDS = 3600
MODIFIED = 1_600_000_000


def content(offset, count):
    """The bytes of every file: each depends on its offset."""
    first = offset // 8
    whole = b"".join(b"%07d\n" % number for number in range(first, (offset + count) // 8 + 1))
    return whole[offset - first * 8:offset - first * 8 + count]


class SlowDisk:
    def __init__(self, folder, seconds):
        self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        self.seconds = seconds
        self.due = []  # (when, order, request, answer)
        self.order = 0
        self.names = {}  # node numbers
        self.sizes = {ROOT: 0}
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self.device},rootmode=40000,user_id={os.geteuid()},group_id={os.getegid()}"
        self.unmount = lambda: libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH
        nosuid_nodev = 2 | 4
        if libc.mount(b"slow_disk", os.fsencode(folder), b"fuse", nosuid_nodev,
                      options.encode()) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def attributes(self, node):
        size = self.sizes[node]
        mode = (stat.S_IFDIR | 0o755) if node == ROOT else (stat.S_IFREG | 0o644)
        return struct.pack("=6Q10I", node, size, (size + 511) // 512, MODIFIED, MODIFIED, MODIFIED,
                           0, 0, 0, mode, 1, os.geteuid(), os.getegid(), 0, 4096, 0)

    def answer(self, opcode, node, body):
        """The bytes of the answer, or a negated errno."""
        if opcode == INIT:
            major, minor = struct.unpack_from("=2I", body)
            return struct.pack("=IIIIHHIIHH8I", major, min(minor, 31), 128 * 1024, 0, 64, 64,
                               128 * 1024, 1, 0, 0, *[0] * 8)
        if opcode == LOOKUP:
            name = body.rstrip(b"\0")
            size = re.fullmatch(rb"\d+\.(\d+)", name)
            if node != ROOT or not size:
                return -errno.ENOENT
            node = self.names.setdefault(name, len(self.names) + 2)
            self.sizes[node] = int(size.group(1))
            return struct.pack("=4Q2I", node, 0, VALID_SECONDS, VALID_SECONDS, 0,
                               0) + self.attributes(node)
        if opcode == GETATTR:
            return struct.pack("=Q2I", VALID_SECONDS, 0, 0) + self.attributes(node)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("=Q2I", node, 0, 0)
        if opcode == READ:
            _, offset, count = struct.unpack_from("=QQI", body)
            return content(offset, max(0, min(count, self.sizes[node] - offset)))
        if opcode == STATFS:
            return struct.pack("=5Q3I28x", 0, 0, 0, 0, 0, 4096, 255, 4096)
        if opcode in (RELEASE, FLUSH, RELEASEDIR, READDIR):
            return b""
        return -errno.ENOSYS

    def reply(self, request, answer):
        error, body = (answer, b"") if isinstance(answer, int) else (0, answer)
        try:
            os.write(self.device, struct.pack("=IiQ", 16 + len(body), error, request) + body)
        except FileNotFoundError:
            pass  # the request was interrupted

    def serve(self):
        while True:
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                self.reply(*heapq.heappop(self.due)[2:])
            wait = self.due[0][0] - now if self.due else None
            ready, _, _ = select.select([self.device, sys.stdin], [], [], wait)
            if sys.stdin in ready:
                return
            if self.device not in ready:
                continue
            data = os.read(self.device, MAX_REQUEST_BYTES)
            _, opcode, request, node = struct.unpack_from("=IIQQ", data)
            if opcode in UNANSWERED:
                continue
            answer = self.answer(opcode, node, data[40:])
            if opcode in SLOW:
                self.order += 1
                heapq.heappush(self.due, (now + self.seconds, self.order, request, answer))
            else:
                self.reply(request, answer)


def main():
    try:
        disk = SlowDisk(sys.argv[1], float(sys.argv[2]))
    except OSError as problem:
        print(f"cannot mount: {problem}", flush=True)
        return 1
    print("mounted", flush=True)
    try:
        disk.serve()
    finally:
        disk.unmount()
    return 0


if __name__ == "__main__":
    sys.exit(main())
