#!/usr/bin/env python3
"""Files, directories and their headers, as a browser asks for them."""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, FILES, HTTPD, LARGE, Server, SMALL, main)


def test_files_have_headers_that_describe_them():
    with Server(files=FILES) as server:
        status, headers, body = server.ask("GET", "/small.txt")
        equal((status, body), (200, SMALL))
        equal(headers["content-type"], "text/plain; charset=utf-8")
        equal(headers["content-length"], str(len(SMALL)))
        assert re.fullmatch(r'(W/)?"[^"]+"', headers["etag"]), headers
        for name in ("date", "last-modified"):
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers[name]), headers
        equal(server.ask("GET", "/large.bin")[2], LARGE)
        equal(server.ask("GET", "/empty")[2], b"")


def test_head_is_get_without_the_body():
    with Server(files=FILES) as server:
        for path in ("/small.txt", "/large.bin", "/missing", "/folder"):
            got, asked = server.ask("GET", path), server.ask("HEAD", path)
            equal(asked[0], got[0])
            equal({**asked[1], "date": ""}, {**got[1], "date": ""})
            equal(asked[2], b"")


def test_folders_have_an_index_and_a_slash():
    with Server(files=FILES) as server:
        equal(server.ask("GET", "/folder/")[2], b"<p>index")
        status, headers, _ = server.ask("GET", "/folder?q=1")
        equal((status, headers["location"]), (301, "/folder/?q=1"))
        equal(server.ask("GET", "/no-index/")[0], 403)
        equal(server.ask("GET", "/small.txt/")[0], 404)


def test_a_redirect_never_leads_to_another_host():
    with Server(files=FILES) as server:
        status, headers, _ = server.ask("GET", "//folder")
        equal((status, headers["location"]), (301, "/folder/"))


def test_names_are_decoded_once():
    with Server(files=FILES) as server:
        equal(server.ask("GET", "/folder/a%20b.txt")[2], b"blank")
        equal(server.ask("GET", "/%C3%BCmlaut")[2], b"umlaut")
        equal(server.ask("GET", "/folder/a%2520b.txt")[0], 404)
        equal(server.ask("GET", "/small.txt%")[0], 400)
        equal(server.ask("GET", "/small.txt%00")[0], 400)


def test_nothing_outside_the_root_is_served():
    with Server(files=FILES) as server:
        os.symlink("../secret", os.path.join(server.root, "link"))
        os.symlink("/etc/passwd", os.path.join(server.root, "absolute"))
        os.symlink("small.txt", os.path.join(server.root, "inside"))
        os.mkfifo(os.path.join(server.root, "pipe"))
        for path in ("/../secret", "/%2e%2e/secret", "/folder/../../secret", "/link", "/absolute",
                     "/..%2fsecret", "/folder/%2e%2e/%2e%2e/secret"):
            status, _, body = server.ask("GET", path)
            assert status in (400, 403, 404), (path, status)
            assert b"outside" not in body and b"root:" not in body, path
        equal(server.ask("GET", "/inside")[2], SMALL)
        equal(server.ask("GET", "/pipe")[0], 403)


def test_a_file_that_may_not_be_read_is_403():
    if os.geteuid() == 0:
        print("  (not tried: root may read everything)")
        return
    with Server(files=FILES) as server:
        os.chmod(os.path.join(server.root, "small.txt"), 0)
        equal(server.ask("GET", "/small.txt")[0], 403)


def test_precompressed_siblings():
    files = {**FILES, "small.txt.gz": b"gzipped", "small.txt.br": b"brotli", "small.txt.zst": b"z"}
    with Server("--precompressed", files=files) as server:
        os.utime(os.path.join(server.root, "small.txt"), (1_000_000_000, 1_000_000_000))
        os.utime(os.path.join(server.root, "small.txt.zst"), (999_999_999, 999_999_999))
        for accept, coding in (("gzip", "gzip"), ("gzip, br", "br"), ("br;q=0.1, gzip", "gzip"),
                               ("zstd, gzip", "gzip"), ("", None), ("identity", None)):
            _, headers, body = server.ask("GET", "/small.txt", {"Accept-Encoding": accept})
            equal(headers.get("content-encoding"), coding)
            equal(body, {"gzip": b"gzipped", "br": b"brotli", None: SMALL}[coding])
            equal(headers["vary"], "Accept-Encoding")
            equal(headers["content-type"], "text/plain; charset=utf-8")
        assert "vary" not in server.ask("GET", "/folder/")[1]


def test_a_folder_can_be_listed():
    files = {**FILES, "no-index/<b>&\"'.txt": b"y", "no-index/sub/deep": b"z",
             "no-index/.hidden": b"h"}
    with Server("--directory-listing", files=files) as server:
        folder = os.path.join(server.root, "no-index")
        os.symlink("../../secret", os.path.join(folder, "outside"))
        os.symlink("file", os.path.join(folder, "inside"))
        status, headers, body = server.ask("GET", "/no-index/")
        equal((status, headers["content-type"]), (200, "text/html; charset=utf-8"))
        for shown in (b'href="./file"', b'href="./sub/"', b'href="./inside"', b"&lt;b&gt;"):
            assert shown in body, (shown, body)
        for kept in (b".hidden", b"outside", b"<b>"):
            assert kept not in body, (kept, body)
        assert body.index(b'href="./sub/"') < body.index(b'href="./file"')
        equal(server.ask("GET", "/folder/")[2], b"<p>index")
        status, asked, nothing = server.ask("HEAD", "/no-index/")
        equal((status, nothing, asked["content-length"]), (200, b"", str(len(body))))
        for i in range(3000):
            open(os.path.join(folder, f"many-{i}"), "w").close()
        body = server.ask("GET", "/no-index/")[2]
        equal(body.count(b'href="./many-'), 3000)
        assert body.rstrip().endswith(b"</script>"), body[-100:]


def test_headers_and_error_pages_of_the_configuration():
    page = tempfile.NamedTemporaryFile()
    page.write(b"<p>not here" * 100)
    page.flush()
    with Server("--header", "X-Frame-Options: DENY", "--header", "Cache-Control: max-age=60",
                "--error-page", f"404={page.name}", files=FILES) as server:
        for path in ("/small.txt", "/missing", "/folder", "/large.bin"):
            headers = server.ask("GET", path)[1]
            equal((headers["x-frame-options"], headers["cache-control"]), ("DENY", "max-age=60"))
        equal(server.ask("GET", "/missing")[2], b"<p>not here" * 100)
    page.close()
    for options, word in ((["--header", "bad name: x"], "bad name"),
                          (["--header", "X: a\r\nY: b"], "--header"),
                          (["--header", "Content-Length: 5"], "Content-Length"),
                          (["--error-page", "404=/does/not/exist"], "/does/not/exist"),
                          (["--error-page", "200=/etc/passwd"], "200=")):
        done = subprocess.run([HTTPD, "--listen", "127.0.0.1:0", *options], capture_output=True,
                              text=True, timeout=DEADLINE_SECONDS)
        equal(done.returncode, 1)
        assert word in done.stderr, done.stderr


if __name__ == "__main__":
    main(globals())
