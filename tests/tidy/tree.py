"""The tree as the rules see it: its files, and C++ without comments and literals."""
import pathlib
import re
import shutil
import subprocess

CODE = ('.cpp', '.hpp', '.c', '.h')
LIBRARY = ('runtime', 'net', 'kevent', 'sendfile')
PRIVATE = ('detail', 'sources', 'ports', 'paths', 'aio')  # folders that are not installed

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)
COMMENT_OR_LITERAL = re.compile(
    r'//(?:\\\n|[^\n])*'
    r'|/\*.*?\*/'
    r'|R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-zA-Z_])'(?:\\.|[^'\\\n])*'", re.S)


def blank(match):
    """What is cut out keeps its lines, so that the numbers of the lines behind it stay right."""
    text = match[0]
    lines = '\n' * text.count('\n')
    if text.startswith('/'):
        return ' ' + lines
    return '""' + lines


def listed_by_git(root):
    """The files that git knows below `root`, or nothing where there is no git or no checkout."""
    if not shutil.which('git'):
        return None
    listed = subprocess.run(
        ['git', '-C', str(root), 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    return [name for name in listed.decode().split('\0') if name]


class Tree:
    """The files of a checkout (by git), or of a plain folder."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self._text = {}
        if names := listed_by_git(self.root):
            self.files = sorted(n for n in names if (self.root / n).is_file())
        else:
            self.files = sorted(
                str(p.relative_to(self.root)) for p in self.root.rglob('*')
                if p.is_file() and not any(
                    part == '.git' or part.startswith('build') for part in
                    p.relative_to(self.root).parts[:1]))

    def text(self, name):
        """The contents of a file; the empty string where it is not text."""
        if name not in self._text:
            try:
                self._text[name] = (self.root / name).read_bytes().decode()
            except UnicodeDecodeError:
                self._text[name] = ''
        return self._text[name]

    def code(self):
        """The names of all C and C++ files."""
        return [n for n in self.files if n.endswith(CODE)]

    def bare(self, name):
        """A C++ file without comments and literals."""
        return COMMENT_OR_LITERAL.sub(blank, self.text(name))

    def includes(self, name):
        """The (line, target) of each include of a file."""
        text = COMMENT_OR_LITERAL.sub(
            lambda m: blank(m) if m[0].startswith('/') else m[0], self.text(name))
        return [(line_of(text, m.start(2)), m[2]) for m in INCLUDE.finditer(text)]

    def public_headers(self):
        """The headers that are installed."""
        return [n for n in self.files
                if n.split('/')[0] in LIBRARY and n.endswith(('.hpp', '.h'))
                and not set(n.split('/')[:-1]) & set(PRIVATE)]


def line_of(text, offset):
    """The number of the line that contains `offset`."""
    return text.count('\n', 0, offset) + 1
