#!/usr/bin/env python3
"""The configuration file that is installed with the program."""
import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # a test leaves no file in the source tree
from fixture import (DEADLINE_SECONDS, equal, HTTPD, main)
from operations_fixture import ONE, Server, without


def test_the_sample_configuration_has_every_option_with_its_default():
    """Each line of it, without the mark of a comment, is accepted, and is what --help says."""
    sample = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "../../../examples/httpd/httpd.conf")
    told = subprocess.run([HTTPD, "--help"], capture_output=True, text=True,
                          timeout=DEADLINE_SECONDS).stdout
    options = set(re.findall(r"--([a-z-]+)", told)) - {
        "help", "version", "config", "describe", "check-config", "port"}
    with open(sample) as file:
        before_sections = re.split(r"^#?\[host ", file.read(), maxsplit=1, flags=re.M)[0]
    lines = dict(re.findall(r"^#?([a-z-]+) = (.*)$", before_sections, re.M))
    equal(sorted(set(lines) ^ options), [])
    with Server(ONE) as server:
        for name, value in lines.items():
            head = re.search(r"^ *--%s( .*)?$" % name, told, re.M).group(0).strip()
            # Capitals name a part of the value, as in SUFFIX=TYPE.
            # "--name TYPE=DEFAULT text", and of other releases of CLI11 "--name TYPE [DEFAULT] text"
            default = re.match(r"--[a-z-]+ [^\s=]+(?:=| \[)(?![A-Z])([^\s\]]+)", head)
            if default and name != "listen":
                of_list = re.fullmatch(r'\["(.*)"\]', value)
                shown = of_list.group(1).replace('", "', ',') if of_list else value
                equal((name, shown), (name, default.group(1)))
            # Those that name what a machine may not have, or cannot have twice.
            if name in ("root", "listen", "user", "threads", "sandbox", "metrics", "access-log",
                        "error-log", "error-page", "auth", "listen-tls", "tls-cert", "tls-key"):
                continue
            server.reload(without(name, ONE) + f"{name} = {value}\n")
    with tempfile.NamedTemporaryFile("w") as whole:
        with open(sample) as file:
            whole.write(file.read())
        whole.flush()
        done = subprocess.run([HTTPD, "--config", whole.name, "--version"],
                              capture_output=True, text=True, timeout=DEADLINE_SECONDS)
        equal((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    main(globals())
