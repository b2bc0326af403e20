"""What belongs to one machine or one day, and stays out of the files; and how text ends."""
import pathlib
import re

# A home or a mounted folder of somebody, on whatever system.
SOMEBODYS_PATH = re.compile(r'(?<![\w.>)}*/-])(?:/(?:home|Users)/[a-z]\w*/|/root/\w|/mnt/\w+/'
                            r'|[A-Z]:\\+Users\\)')
ADDRESS = re.compile(r'https?://([A-Za-z0-9.-]+)')
# Documents and scripts link to these only: a mirror, a proxy or a host of one's own is left out.
PUBLIC_HOSTS = re.compile(
    r'(?:^|\.)(?:github\.com|kernel\.org|man7\.org|debian\.org|rfc-editor\.org|ietf\.org|w3\.org'
    r'|mesonbuild\.com|keepachangelog\.com|semver\.org|cppreference\.com|gcc\.gnu\.org|llvm\.org'
    r'|lwn\.net|lkml\.org|nginx\.org|lighttpd\.net|example|example\.(?:com|org|net)|localhost)$'
    r"|^127(?:$|\.)")
UNFINISHED = re.compile(r'\b(?:FIXME|XXX)\b|\bTODO\b(?!\((?:perf|port|test)\): )')
CODE_AND_DATA = ('.cpp', '.hpp', '.c', '.h', '.html', '.svg', '.json')
# Not .scd: scdoc indents by tabs.
TEXT = ('.cpp', '.hpp', '.c', '.h', '.md', '.py', '.build', '.txt', '.html', '.css', '.js')


def own_places(tree):
    """The path of this checkout and of the user's home: no file may know them."""
    return {p for p in (str(tree.root), str(pathlib.Path.home())) if p.count('/') > 1}


def words(tree):
    """No path or host of one machine, no loose ends, no stray white space."""
    places = own_places(tree)
    for name in tree.files:
        text = tree.text(name)
        if not text or name.startswith('tests/tidy/'):
            continue
        # Tests make hosts up; code names those of requests.
        prose = not name.startswith('tests/') and not name.endswith(CODE_AND_DATA)
        for number, line in enumerate(text.split('\n'), 1):
            if SOMEBODYS_PATH.search(line) or any(p in line for p in places):
                yield name, number, 'a path of one machine'
            if prose:
                for host in ADDRESS.findall(line):
                    if not PUBLIC_HOSTS.search(host):
                        yield name, number, f'an address that is not known here: {host}'
            if name.endswith(('.cpp', '.hpp', '.c', '.h', '.py')) and UNFINISHED.search(line):
                yield name, number, 'open work is written TODO(perf|port|test): what, and when'
            if line != line.rstrip():
                yield name, number, 'white space at the end of the line'
            if '\t' in line and name.endswith(TEXT):
                yield name, number, 'a tab'
        if not text.endswith('\n') or text.endswith('\n\n'):
            yield name, text.count('\n') + 1, 'a file ends with one end of line'
