"""The document tree that all servers serve: the same bytes on each machine and in each run."""
import os
import random

KIB, MIB = 1024, 1024 * 1024

# One file each. 100 B and 2.7 KB are the replies of the measurements of 2006.
SINGLE = {"100B": 100, "1KiB": KIB, "2.7KB": 2700, "4KiB": 4 * KIB, "16KiB": 16 * KIB,
          "64KiB": 64 * KIB, "256KiB": 256 * KIB, "1MiB": MIB, "16MiB": 16 * MIB}
TREE_FILE_BYTES = (512, 8192)  # from, to


class document_tree:
    """`paths[name]` are the paths of a document, as a request names them."""

    def __init__(self, root, small_count, large_count):
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

    def read(self, path):
        with open(self.root + path, "rb") as file:
            return file.read()
