"""The document tree that all servers serve: the same bytes on each machine and in each run."""
import gzip
import os
import random

KIB, MIB = 1024, 1024 * 1024

# One file each. 100 B and 2.7 KB are the replies of the measurements of 2006.
SINGLE = {"100B": 100, "1KiB": KIB, "2.7KB": 2700, "4KiB": 4 * KIB, "16KiB": 16 * KIB,
          "64KiB": 64 * KIB, "256KiB": 256 * KIB, "1MiB": MIB, "16MiB": 16 * MIB}
TREE_FILE_BYTES = (512, 8192)  # from, to
# A small site as browsers ask for it: text, each with a copy in gzip, and two images without one.
SITE = ([("index.html", 18), ("about.html", 9), ("news.html", 14)] + [(f"style-{at}.css", 12 + 9 * at) for at in range(3)]
        + [(f"script-{at}.js", 6 + 11 * at) for at in range(8)] + [(f"icon-{at}.svg", 1 + at) for at in range(4)]
        + [("photo.jpg", 48), ("logo.png", 7)])  # KiB
COLD = {"cold-1MiB": (MIB, 128), "cold-16MiB": (16 * MIB, 12)}  # bytes of a file, files


class document_tree:
    """`paths[name]` are the paths of a document, as a request names them."""

    def __init__(self, root, small_count, large_count, cold_names=()):
        self.root = root
        self.paths = {}
        bytes_of = random.Random(2006)
        os.chmod(root, 0o755)  # servers that give up root must still get in
        for name, size in SINGLE.items():
            self._add(name, f"/{name}.html", bytes_of.randbytes(size))
        for at in range(small_count):
            size = bytes_of.randint(*TREE_FILE_BYTES)
            self._add("tree", f"/tree/{at // 100:02}/{at % 100:02}.html", bytes_of.randbytes(size))
        for at in range(large_count):
            self._add("large", f"/large/{at:02}.html", bytes_of.randbytes(MIB))
        for name in cold_names:
            size, count = COLD[name]
            for at in range(count):
                self._add(name, f"/{name}/{at:03}.html", bytes_of.randbytes(size))
        self._add_site(bytes_of)
        self.request_files = {}
        for name, paths in self.paths.items():
            self.request_files[name] = os.path.join(root, f"paths-{name}.txt")
            with open(self.request_files[name], "w", encoding="ascii") as file:
                file.write("\n".join(paths) + "\n")

    def _add(self, name, path, data):
        where = self.root + path
        os.makedirs(os.path.dirname(where), mode=0o755, exist_ok=True)
        with open(where, "wb") as file:
            file.write(data)
        os.chmod(where, 0o644)
        self.paths.setdefault(name, []).append(path)

    def _add_site(self, bytes_of):
        words = [bytes_of.randbytes(bytes_of.randint(2, 6)).hex() for _ in range(400)]
        for name, kibibytes in SITE:
            is_text = not name.endswith((".jpg", ".png"))
            data = (" ".join(bytes_of.choice(words) for _ in range(kibibytes * 160)).encode()[:kibibytes * KIB]
                    if is_text else bytes_of.randbytes(kibibytes * KIB))
            self._add("site", f"/site/{name}", data)
            if is_text:
                self._add("site-gzip", f"/site/{name}.gz", gzip.compress(data, mtime=0))

    def forget(self, name):
        """Makes a document's files leave the page cache, where the file system has one."""
        for path in self.paths[name]:
            fd = os.open(self.root + path, os.O_RDONLY)
            try:
                os.fsync(fd)  # a page that was not written yet stays
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)

    def read(self, path):
        with open(self.root + path, "rb") as file:
            return file.read()
