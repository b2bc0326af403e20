#!/usr/bin/env python3
"""Makes HTML of the guide and the pages that it names, with a search that needs no network.

  build_html.py ROOT OUTPUT

cmark-gfm, the converter of GitHub's Markdown, makes the pages; the manual pages are converted by groff. OUTPUT/index.html works
from a file system. Without cmark-gfm the script prints the reason and makes nothing.
"""
import html
import json
import pathlib
import posixpath
import re
import shutil
import subprocess
import sys

CHAPTERS = ['README', 'first-server', 'tasks', 'buffers', 'events', 'queue', 'files', 'send-file', 'names', 'tls', 'threads', 'asio', 'testing',
            'observability', 'deployment', 'errors', 'coming-from']
PAGES = ['docs/assertions.md', 'docs/gcc-12.md', 'docs/threads.md', 'docs/awaitables.md', 'docs/httpd.md',
         'docs/kevent-operations.md', 'docs/figures.md', 'SECURITY.md', 'CHANGELOG.md']
HEADING = re.compile(r'<h([1-6])>(.*?)</h\1>', re.S)
TAG = re.compile(r'<[^>]*>')
REFERENCE = re.compile(r'(href|src)="([^"]*)"')

STYLE = '''
:root { color-scheme: light dark; --text: #1d2329; --back: #fff; --line: #d5dae0; --soft: #f4f6f8; --link: #0a58b5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dde3ea; --back: #14181d; --line: #38414b; --soft: #1e242b; --link: #7db4f5; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--back); }
.page { display: grid; grid-template-columns: 16rem minmax(0, 1fr); max-width: 76rem; margin: 0 auto; }
nav { padding: 1.2rem 1rem; border-right: 1px solid var(--line); }
nav ol { list-style: none; margin: 0 0 1rem; padding: 0; }
nav li { margin: .2rem 0; }
nav [aria-current] { font-weight: 600; color: var(--text); }
main { padding: 1rem 2rem 4rem; min-width: 0; }
a { color: var(--link); }
h1, h2, h3 { line-height: 1.25; }
h2 { margin-top: 2rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
pre, code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88em; }
code { background: var(--soft); padding: .1em .25em; border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .8rem; overflow-x: auto; }
pre code { padding: 0; overflow-wrap: normal; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
th { background: var(--soft); }
input[type=search] { width: 100%; padding: .4rem; font: inherit; color: inherit; background: var(--back);
  border: 1px solid var(--line); border-radius: 4px; }
#found { list-style: none; padding: 0; margin: .5rem 0; }
#found small { display: block; opacity: .75; }
@media (max-width: 48rem) {
  .page { display: block; }
  nav { border-right: 0; border-bottom: 1px solid var(--line); }
  nav ol { columns: 2; }
  main { padding: 1rem; } }
'''

SCRIPT = '''
const field = document.querySelector('#search');
const list = document.querySelector('#found');
function show() {
  const words = field.value.toLowerCase().split(/\\s+/).filter(word => word.length > 1);
  list.replaceChildren();
  if (words.length === 0) return;
  const scored = [];
  for (const part of search_index) {
    const title = part.title.toLowerCase();
    const text = part.text.toLowerCase();
    if (!words.every(word => title.includes(word) || text.includes(word))) continue;
    scored.push([words.filter(word => title.includes(word)).length, part]);
  }
  scored.sort((one, other) => other[0] - one[0]);
  for (const [, part] of scored.slice(0, 20)) {
    const item = document.createElement('li');
    const link = document.createElement('a');
    link.href = part.page + '#' + part.id;
    link.textContent = part.title;
    const place = document.createElement('small');
    place.textContent = part.chapter;
    item.append(link, place);
    list.append(item);
  }
  if (list.childElementCount === 0) list.append(Object.assign(document.createElement('li'), {textContent: 'nothing found'}));
}
field.addEventListener('input', show);
'''


def plain(markup):
    """The text of a piece of HTML."""
    return html.unescape(TAG.sub('', markup)).strip()


def anchor(title, used):
    """The name of a heading, as GitHub makes it."""
    name = re.sub(r'[^\w\- ]', '', title.lower()).replace(' ', '-')
    count = used[name] = used.get(name, -1) + 1
    return name if count == 0 else f'{name}-{count}'


def page_of(path):
    """The name of the page of a source file; none if the file has no page."""
    folder, file = posixpath.split(path)
    name, end = posixpath.splitext(file)
    if folder == 'docs/guide' and end == '.md':
        return 'index.html' if name == 'README' else name + '.html'
    if path.startswith('docs/man/') and path.endswith('.scd'):
        return f'man-{name}.html'
    return f'page-{name.lower()}.html' if path in PAGES else None


class Site:
    """The pages, and the index of their parts."""

    def __init__(self, root, output):
        self.root, self.output = root, output
        self.parts = []
        self.titles = {}
        self.menu = []

    def convert(self, path):
        """The HTML of one source file, without a frame."""
        if path.endswith('.scd'):
            page = subprocess.run(['scdoc'], input=(self.root / path).read_bytes(), stdout=subprocess.PIPE, check=True).stdout
            made = subprocess.run(['groff', '-t', '-man', '-Tutf8', '-P-cbou', '-rcR=1', '-rLL=100n'], input=page,
                                  stdout=subprocess.PIPE, check=True).stdout.decode()
            name, _, section = posixpath.basename(path).removesuffix('.scd').rpartition('.')
            return f'<h1>{name}({section})</h1>\n<pre>{html.escape(made.strip())}</pre>\n'
        return subprocess.run(['cmark-gfm', '--extension', 'table', '--to', 'html', self.root / path], stdout=subprocess.PIPE,
                              text=True, check=True).stdout

    def link(self, path, target):
        """The target of a link, as the page has it."""
        if '://' in target or target.startswith(('#', 'mailto:')):
            return target
        file, mark, fragment = target.partition('#')
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(path), file))
        if not (self.root / wanted).exists():
            sys.exit(f'{path}: links to {target}, which is not there')
        if page := page_of(wanted):
            return page + mark + fragment
        if (self.root / wanted).is_file():
            copy = self.output / 'files' / wanted
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / wanted, copy.with_name(copy.name + '.txt'))
            return f'files/{wanted}.txt'
        print(f'guide: {path}: the link to the folder {target} leads to the first page')
        return 'index.html'

    def add(self, path):
        """Converts one source file, and remembers its parts."""
        body = self.convert(path)
        used, page = {}, page_of(path)
        body = HEADING.sub(lambda m: f'<h{m[1]} id="{anchor(plain(m[2]), used)}">{m[2]}</h{m[1]}>', body)
        body = REFERENCE.sub(lambda m: f'{m[1]}="{html.escape(self.link(path, html.unescape(m[2])))}"', body)
        body = body.replace('<table>', '<div class="scroll"><table>').replace('</table>', '</table></div>')
        pieces = re.split(r'<h[1-6] id="([^"]*)">(.*?)</h[1-6]>', body, flags=re.S)
        title = plain(pieces[2]) if len(pieces) > 2 else page
        for place, heading, text in zip(pieces[1::3], pieces[2::3], pieces[3::3]):
            self.parts.append({'page': page, 'id': place, 'title': plain(heading), 'chapter': title,
                               'text': ' '.join(plain(text).split())})
        self.titles[page] = title
        self.menu.append((page, title))
        return page, body

    def write(self, page, body):
        """Writes a page with its frame."""
        entries = ''.join(f'<li><a href="{name}"{" aria-current=page" if name == page else ""}>{html.escape(title)}</a></li>'
                          for name, title in self.menu if not name.startswith('man-'))
        manual = ''.join(f'<li><a href="{name}">{html.escape(title)}</a></li>' for name, title in self.menu
                         if name.startswith('man-'))
        (self.output / page).write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{html.escape(self.titles[page])} - kevring</title><link rel="stylesheet" href="style.css"></head>\n'
            '<body><div class="page"><nav><label>Search <input type="search" id="search"></label><ul id="found"></ul>'
            f'<ol>{entries}</ol><details><summary>Manual pages</summary><ol>{manual}</ol></details>'
            '<p><a href="../../reference/html/index.html">API reference</a></p></nav>\n'
            f'<main>{body}</main></div>\n<script src="search.js"></script></body></html>\n')

    def build(self, sources):
        """Writes all pages, the style and the search."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)
        for page, body in [self.add(path) for path in sources]:
            self.write(page, body)
        (self.output / 'style.css').write_text(STYLE)
        (self.output / 'search.js').write_text('const search_index = ' + json.dumps(self.parts) + ';\n' + SCRIPT)


def main(root, output):
    if not shutil.which('cmark-gfm'):
        print('guide: skipped: cmark-gfm is not installed; on Debian it is in the package cmark-gfm')
        return
    root = pathlib.Path(root)
    manual = [f'docs/man/{page.name}' for page in sorted((root / 'docs/man').glob('*.scd'))]
    if not shutil.which('scdoc') or not shutil.which('groff'):
        print('guide: without the manual pages: scdoc or groff is not installed')
        manual = []
    site = Site(root, pathlib.Path(output))
    site.build([*(f'docs/guide/{name}.md' for name in CHAPTERS), *PAGES, *manual])
    print(f'guide: {len(site.titles)} pages, {pathlib.Path(output) / "index.html"}')


if __name__ == '__main__':
    main(*sys.argv[1:])
