#!/usr/bin/env python3
"""Serves the clients that people use, each of which must end without an error.

curl, wget (which resumes), wrk, ab, httperf, h2load in HTTP/1.1 mode, aria2 with four connections,
git over the dumb protocol, apt with a repository of its own, lftp and rclone that mirror the pages
of directories, and Chromium with a page of fifty assets, and with a recording and a film that are
played from their middle. A client that is not installed is skipped, and the test names it. Each runs
for about a second.

usage: test_clients.py HTTPD [NAME...]
"""
import email.utils
import hashlib
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse

sys.dont_write_bytecode = True  # a test leaves nothing in the source tree
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import make_mp4  # noqa: E402  (found by the line above)

HTTPD = sys.argv[1]
CLIENT_SECONDS_MAX = 90  # a browser's first start on a busy machine
ASSET_COUNT = 50
RECORDING_SECONDS = 600
FILM_SECONDS = 120  # 15 MB


class Failed(Exception):
    pass


def check(right, what):
    if not right:
        raise Failed(what)


def run(*argv, **options):
    done = subprocess.run([str(part) for part in argv], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="replace", check=False,
                          timeout=CLIENT_SECONDS_MAX, **options)
    check(done.returncode == 0, f"{argv[0]} ended with {done.returncode}:\n"
                                f"{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout + done.stderr


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def recording():
    """Silence, ten minutes of it: enough that a player asks for ranges."""
    rate = 8000
    data = bytes(128) * (rate * RECORDING_SECONDS // 128)
    return (b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate, 1, 8)
            + b"data" + struct.pack("<I", len(data)) + data)


PAGE = """<!doctype html>
<html><head><meta charset="utf-8"><title>assets</title>%(styles)s</head>
<body>%(images)s%(scripts)s
<audio id="sound" preload="metadata" src="sound.wav"></audio>
<video id="film" preload="metadata" muted src="film.mp4"></video>
<script>
const failed = [];
const sound = document.getElementById("sound");
const loaded = new Promise(done => addEventListener("load", done));
const film = document.getElementById("film");
const played = (medium, middle) => new Promise((done, give_up) => {
    medium.addEventListener("error", () => give_up(medium.id + ": " + medium.error.message));
    medium.addEventListener("seeked", done);
    const seek = () => { medium.currentTime = middle; };
    medium.readyState > 0 ? seek() : medium.addEventListener("loadedmetadata", seek);
});
// The second that the film's picture says.
function shown_second() {
    const canvas = document.createElement("canvas");
    const side = canvas.width = canvas.height = film.videoWidth;
    const context = canvas.getContext("2d");
    context.drawImage(film, 0, 0);
    let second = 0;
    for (let bar = 0; bar < 8; ++bar)
        if (context.getImageData(side / 8 * (bar + 0.5), side / 2, 1, 1).data[1] > 128)
            second += 1 << bar;
    return second;
}
async function part() {
    const answer = await fetch("sound.wav", {headers: {Range: "bytes=1000-1999"}, cache: "no-store"});
    const bytes = await answer.arrayBuffer();
    if (answer.status != 206 || bytes.byteLength != 1000) throw "range " + answer.status;
}
Promise.all([loaded, played(sound, %(middle)d), played(film, %(film_middle)d + 0.5),
             part()]).then(() => {
    for (const image of document.images) if (image.naturalWidth != 1) failed.push(image.src);
    if (window.script_count != %(script_count)d) failed.push("scripts " + window.script_count);
    const rules = [...document.styleSheets].reduce((sum, sheet) => sum + sheet.cssRules.length, 0);
    if (rules != %(style_count)d) failed.push("styles " + rules);
    if (Math.abs(sound.currentTime - %(middle)d) > 1) failed.push("seek " + sound.currentTime);
    if (shown_second() != %(film_middle)d) failed.push("the film shows " + shown_second());
    if (failed.length) throw failed;
    return "all right";
}).catch(String).then(result => {
    // Reported to the test, on another port.
    fetch(`http://127.0.0.1:${location.search.slice(1)}/` + encodeURIComponent(result),
          {mode: "no-cors"});
});
</script></body></html>
"""
IMAGE = (b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1">'
         b'<rect width="1" height="1"/></svg>')


def make_root(root):
    bytes_of = random.Random(7)
    for name, size in (("small.html", 2700), ("large.bin", 5 << 20)):
        with open(os.path.join(root, name), "wb") as file:
            file.write(bytes_of.randbytes(size))
    with open(os.path.join(root, "sound.wav"), "wb") as file:
        file.write(recording())
    with open(os.path.join(root, "film.mp4"), "wb") as file:
        file.write(make_mp4.film(FILM_SECONDS))
    os.mkdir(os.path.join(root, "assets"))
    styles, images, scripts = [], [], []
    for at in range(ASSET_COUNT):
        kind = ("svg", "css", "js")[at % 3]
        content = {"svg": IMAGE, "css": b".a%d { color: red; }\n" % at,
                   "js": b"window.script_count = (window.script_count || 0) + 1;\n"}[kind]
        with open(os.path.join(root, "assets", f"{at}.{kind}"), "wb") as file:
            file.write(content)
        {"svg": images, "css": styles, "js": scripts}[kind].append(f"assets/{at}.{kind}")
    with open(os.path.join(root, "index.html"), "w", encoding="utf-8") as file:
        file.write(PAGE % {
            "styles": "".join(f'<link rel="stylesheet" href="{path}">' for path in styles),
            "images": "".join(f'<img src="{path}" alt="">' for path in images),
            "scripts": "".join(f'<script src="{path}"></script>' for path in scripts),
            "script_count": len(scripts), "style_count": len(styles),
            "middle": RECORDING_SECONDS // 2, "film_middle": FILM_SECONDS * 3 // 4})


def curl(program, url, root, folder):
    target = os.path.join(folder, "curl")
    run(program, "-sS", "--fail", "-o", target, f"{url}/large.bin")
    check(digest(target) == digest(f"{root}/large.bin"), "other bytes than the file's")
    run(program, "-sS", "--fail", "-r", "1000000-1999999", "-o", target, f"{url}/large.bin")
    with open(target, "rb") as got, open(f"{root}/large.bin", "rb") as whole:
        check(got.read() == whole.read()[1000000:2000000], "other bytes than the range's")
    # The same file again, unless it has changed: it has not.
    run(program, "-sS", "--fail", "-R", "-o", target, f"{url}/small.html")
    text = run(program, "-sS", "-z", target, "-o", os.devnull, "-w", "%{http_code}",
               f"{url}/small.html")
    check(text == "304", f"answered with {text} where 304 was due")
    check("200 OK" in run(program, "-sSI", "--fail", "--http1.0", f"{url}/small.html"), "no 200")
    text = run(program, "-sS", "-H", "Expect: 100-continue", "-d", "x" * 2000, "-o", os.devnull,
               "-w", "%{http_code}", f"{url}/small.html")
    check(text == "405", f"POST was answered with {text}")


def wget(program, url, root, folder):
    target = os.path.join(folder, "large.bin")
    with open(f"{root}/large.bin", "rb") as whole, open(target, "wb") as begun:
        begun.write(whole.read(1234567))
    text = run(program, "-c", "-O", target, f"{url}/large.bin")
    check("206" in text, "the download was not resumed:\n" + text)
    check(digest(target) == digest(f"{root}/large.bin"), "other bytes than the file's")
    run(program, "-c", "-O", target, f"{url}/large.bin")  # nothing left: 416, and no error
    run(program, "-q", "-r", "-l", "2", "-np", "-P", os.path.join(folder, "mirror"), f"{url}/")
    names = [name for _, _, files in os.walk(os.path.join(folder, "mirror")) for name in files]
    check(len(names) >= ASSET_COUNT, f"mirrored only {len(names)} files")


def wrk(program, url, _root, _folder):
    text = run(program, "-t1", "-c64", "-d1s", "--timeout", "60s", f"{url}/small.html")
    check("Socket errors" not in text and "Non-2xx" not in text, text)


def ab(program, url, _root, _folder):
    for keep in ([], ["-k"]):
        text = run(program, "-q", "-c", 16, "-n", 2000, *keep, f"{url}/small.html")
        check(re.search(r"Complete requests:\s+2000$", text, re.MULTILINE), text)
        check(re.search(r"Failed requests:\s+0$", text, re.MULTILINE), text)
        check("Non-2xx" not in text, text)
        check(not keep or re.search(r"Keep-Alive requests:\s+2000$", text, re.MULTILINE), text)


def httperf(program, url, _root, _folder):
    host, port = url.rpartition("/")[2].split(":")
    for calls in (1, 20):
        text = run(program, "--hog", "--server", host, "--port", port, "--uri", "/small.html",
                   "--rate", 200, "--num-conns", 100, "--num-calls", calls, "--timeout", 60)
        check(f"replies {100 * calls} test-duration" in text, text)
        check("Errors: total 0 " in text and f"2xx={100 * calls} " in text, text)


def h2load(program, url, _root, _folder):
    text = run(program, "--h1", "-c", 16, "-n", 2000, "-m", 1, f"{url}/small.html")
    check("2000 succeeded, 0 failed, 0 errored" in text, text)


def what_is_told(collector):
    """The path of the first request; a browser may connect more often than it asks."""
    end = time.monotonic() + CLIENT_SECONDS_MAX
    received = {}
    try:
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([collector, *received], [], [], left)
            for each in ready:
                if each is collector:
                    received[collector.accept()[0]] = b""
                    continue
                try:
                    more = each.recv(4096)
                except ConnectionError:
                    more = b""
                received[each] += more
                if b"\r\n\r\n" in received[each]:
                    each.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                    return urllib.parse.unquote(received[each].decode().split(" ")[1][1:])
                if not more:
                    del received[each]
                    each.close()
    finally:
        for each in received:
            each.close()
    return "the page did not tell its result"


def chromium(program, url, root, folder):
    with socket.create_server(("127.0.0.1", 0)) as collector:
        port = collector.getsockname()[1]
        browser = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", f"--user-data-dir={folder}/chromium", f"{url}/?{port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, HOME=folder), start_new_session=True)
        try:
            said = what_is_told(collector)
        finally:
            os.killpg(browser.pid, signal.SIGKILL)  # the browser's own processes, and no others
            browser.wait()
    check(said == "all right", said)
    for name in ("sound.wav", "film.mp4"):
        end = time.monotonic() + 60  # a response is in the log after its end
        while True:
            with open(os.path.join(folder, "log"), encoding="utf-8") as log:
                parts = re.findall(rf'"GET /{name} HTTP/1.1" 206 (\d+)', log.read())
            if len(parts) >= 2 or time.monotonic() > end:
                break
            time.sleep(0.02)
        # From the beginning, and then from the middle.
        check(len(parts) >= 2, f"{name} came in {parts}")
        print(f"  {name}: {os.path.getsize(root + '/' + name)} bytes; taken: {', '.join(parts)}")



def aria2c(program, url, root, folder):
    run(program, "-q", "-x", 4, "-s", 4, "-k", "1M", "-d", folder, "-o", "by-aria2", "--no-conf",
        f"{url}/large.bin")
    check(digest(os.path.join(folder, "by-aria2")) == digest(f"{root}/large.bin"), "other bytes")


def git(program, url, root, folder):
    """The dumb protocol: a repository of plain files."""
    plain = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    work, bare = os.path.join(folder, "work"), os.path.join(root, "repository.git")
    run(program, "init", "-q", work, env=plain)
    for number in range(3):
        with open(os.path.join(work, "file"), "w", encoding="utf-8") as file:
            file.write(f"version {number}\n")
        run(program, "-C", work, "add", "file", env=plain)
        run(program, "-C", work, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit",
            "-q", "-m", f"version {number}", env=plain)
    run(program, "clone", "-q", "--bare", work, bare, env=plain)
    run(program, "-C", bare, "update-server-info", env=plain)
    target = os.path.join(folder, "clone")
    run(program, "clone", "-q", f"{url}/repository.git", target, env=plain)
    run(program, "-C", target, "fsck", "--strict", env=plain)
    with open(os.path.join(target, "file"), encoding="utf-8") as file:
        check(file.read() == "version 2\n", "another version was cloned")


def apt_get(program, url, root, folder):
    """A repository of one package; everything of apt's own is below the folder."""
    if not shutil.which("dpkg-scanpackages"):
        return "dpkg-scanpackages is not installed"
    built, repository = os.path.join(folder, "package"), os.path.join(root, "debian")
    os.makedirs(os.path.join(built, "DEBIAN"))
    os.mkdir(repository)
    with open(os.path.join(built, "DEBIAN", "control"), "w", encoding="utf-8") as file:
        file.write("Package: httpd-test\nVersion: 1\nArchitecture: all\n"
                   "Maintainer: x <x@example.org>\nDescription: a test\n")
    run("dpkg-deb", "-b", built, os.path.join(repository, "httpd-test_1_all.deb"))
    index = subprocess.run(["dpkg-scanpackages", "."], cwd=repository, capture_output=True,
                           check=True, timeout=CLIENT_SECONDS_MAX).stdout
    with open(os.path.join(repository, "Packages"), "wb") as file:
        file.write(index)
    with open(os.path.join(repository, "Release"), "w", encoding="utf-8") as file:
        file.write(f"Origin: x\nDate: {email.utils.formatdate(usegmt=True)}\nSHA256:\n"
                   f" {hashlib.sha256(index).hexdigest()} {len(index)} Packages\n")
    own = os.path.join(folder, "apt")
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        os.makedirs(os.path.join(own, name))
    with open(os.path.join(own, "sources.list"), "w", encoding="utf-8") as file:
        file.write(f"deb [trusted=yes] {url}/debian ./\n")
    options = [each for name, value in (
        ("Dir::State", f"{own}/state"), ("Dir::State::status", os.devnull),
        ("Dir::Cache", f"{own}/cache"), ("Dir::Etc", f"{own}/etc"),
        ("Dir::Etc::sourcelist", f"{own}/sources.list"), ("Dir::Etc::sourceparts", os.devnull),
        ("APT::Sandbox::User", ""), ("Acquire::http::Proxy", "DIRECT"),
        ("Acquire::Languages", "none")) for each in ("-o", f"{name}={value}")]
    for _ in range(2):  # the second time nothing has changed
        text = run(program, *options, "update")
        check("Err:" not in text, text)
    run(program, *options, "download", "httpd-test", cwd=own)
    check(digest(os.path.join(own, "httpd-test_1_all.deb"))
          == digest(os.path.join(repository, "httpd-test_1_all.deb")), "other bytes")
    return None


def make_listed_tree(root, name):
    """Directories without index file, so that a client has to read their pages."""
    files = {f"{name}/{path}": f"content of {path}\n".encode() for path in (
        "a", "b.txt", "with blank", "ü", "100%", "sub/c", "sub/deep/d & e", "sub/deep/f#g")}
    for path, content in files.items():
        os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
        with open(os.path.join(root, path), "wb") as file:
            file.write(content)
    return {path[len(name) + 1:]: content for path, content in files.items()}


def check_mirrored(folder, files):
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                found[os.path.relpath(os.path.join(parent, name), folder)] = file.read()
    check(found == files, f"mirrored {sorted(found)} of {sorted(files)}")


def lftp(program, url, root, folder):
    files = make_listed_tree(root, "for-lftp")
    target = os.path.join(folder, "by-lftp")
    run(program, "-c", f"set net:max-retries 2; set cmd:fail-exit true; mirror {url}/for-lftp/ {target}",
        env={**os.environ, "HOME": folder})
    check_mirrored(target, files)


def rclone(program, url, root, folder):
    files = make_listed_tree(root, "for-rclone")
    target = os.path.join(folder, "by-rclone")
    run(program, "--config", os.path.join(folder, "rclone.conf"), "copy", ":http:", target,
        "--http-url", f"{url}/for-rclone/", env={**os.environ, "HOME": folder})
    check_mirrored(target, files)


CLIENTS = {"curl": curl, "wget": wget, "wrk": wrk, "ab": ab, "httperf": httperf, "h2load": h2load,
           "aria2c": aria2c, "git": git, "apt-get": apt_get, "lftp": lftp, "rclone": rclone,
           "chromium": chromium}


def main():
    wanted = sys.argv[2:] or list(CLIENTS)
    failures = 0
    with tempfile.TemporaryDirectory(prefix="httpd-clients-") as folder:
        root = os.path.join(folder, "root")
        os.mkdir(root)
        make_root(root)
        server = subprocess.Popen([HTTPD, "--root", root, "--listen", "127.0.0.1:0",
                                   "--directory-listing",
                                   "--access-log", os.path.join(folder, "log")],
                                  stderr=subprocess.PIPE, text=True)
        try:
            # Before that it may report missing features of this machine.
            while not (found := re.search(r"http://127\.0\.0\.1:\d+", server.stderr.readline())):
                check(server.poll() is None, "the server does not begin")
            url = found.group(0)
            for name in wanted:
                program = shutil.which(name)
                if program is None:
                    print(f"{name}: not installed; left out", flush=True)
                    continue
                try:
                    skipped = CLIENTS[name](program, url, root, folder)
                    check(server.poll() is None, "the server has ended")
                    print(f"{name}: {f'{skipped}; left out' if skipped else 'no error'}", flush=True)
                except (Failed, subprocess.TimeoutExpired) as problem:
                    failures += 1
                    print(f"{name}: FAILED: {problem}", flush=True)
        finally:
            server.terminate()
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            server.stderr.close()
        check(server.returncode == 0, f"the server ended with {server.returncode}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
