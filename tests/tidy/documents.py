"""Documents show the current code of examples/, and their links lead to files. Each design note has
a unique number and a line in the index."""
import posixpath
import re

SHOWN = re.compile(r'<!-- (\S+) -->\n```\w*\n(.*?)^```', re.S | re.M)
LINK = re.compile(r'\]\(([^)#\s]+)(?:#[^)]*)?\)')


def documents(tree):
    """Code under a `<!-- FILE -->` line is that file's, and each relative link leads somewhere."""
    for name in tree.files:
        if not name.endswith('.md'):
            continue
        text = tree.text(name)
        for shown in SHOWN.finditer(text):
            line = text.count('\n', 0, shown.start()) + 1
            if shown[1] not in tree.files:
                yield name, line, f'shows {shown[1]}, which is not there'
            elif shown[2].strip() not in tree.text(shown[1]):
                yield name, line, f'the code differs from {shown[1]}'
        for link in LINK.finditer(re.sub(r'```.*?^```', lambda m: '\n' * m[0].count('\n'), text,
                                         flags=re.S | re.M)):
            if '://' in link[1] or link[1].startswith('mailto:'):
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), link[1]))
            if not (tree.root / target).exists():
                yield name, 1, f'links to {link[1]}, which is not there'
    yield from design_notes(tree)


def design_notes(tree):
    numbers = {}
    index = 'docs/design/README.md'
    for name in tree.files:
        if not name.startswith('docs/design/') or not name.endswith('.md') or name == index:
            continue
        note = posixpath.basename(name)
        if not re.match(r'\d{4}-', note):
            yield name, 1, 'a design note is called NNNN-title.md'
        elif (other := numbers.setdefault(note[:4], name)) != name:
            yield name, 1, f'has the number of {other}'
        if index not in tree.files or f']({note})' not in tree.text(index):
            yield name, 1, f'{index} has no line for it'
