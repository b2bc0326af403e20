"""The language of comments, documents, messages and test names, and the names in code. Of scripts and
build files: comments, docstrings and messages.

The limit of each rule is 0 findings in the whole tree, except for the files of is_exempt().
`words.py --list FOLDER...` prints the findings of a folder. The texts of assertions are checked by
assertions.py.
"""
import ast
import io
import re
import tokenize

TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"\(.*?\)"|"(?:\\.|[^"\\\n])*"|(?<!\w)'(?:\\.|[^'\\\n])+'""", re.S)
LABEL = re.compile(r'^(?:Result|Errors?|Lifetime|Threads?|In flight|Kernel|Spec|Invariants?|Time'
                   r'|Orders?|Work|Re-entry|Progress|Sleeping|Waiting|Cancellation|Use|Memory'
                   r'|Reduction|Bounds|Returns)\s{2,}')
FILE_LABEL = re.compile(r'^[\w./-]+\.(?:hpp|cpp|h|c|py): ')
SENTENCE_END = re.compile(r'(?<=[.!?;])\s+(?=[A-Z(`"])|(?<=[.?!])\s+')
SUBJECT = re.compile(r'^(?:What|Who|Whoever|Whatever)\b(?!.*\?$)')
HEAD = re.compile(r'^[\w./-]+\.(?:hpp|cpp|h|c|py): '
                  r'(?:what|who|whose|where|which|how|why|whether)\b')
FOR_WHO = re.compile(r'\b(?:for|by|to|from|with|than) who\b|\bwhos?ever\b', re.I)
TEST_NAME = re.compile(r'^(?:what|who|whoever|whatever)\b')
# at(index) is a call.
PREPOSITION = re.compile(r'(?<!\w)(?:(?:of|into|on|with|without|by|in|among|between)_?(?!\w)'
                         r'|at_?(?![\w(]))')

# (expression, replacement). Each is banned in comments, documents, messages and test names.
BANNED = tuple((re.compile(pattern, re.I), instead) for pattern, instead in (
    (r'\b(?:go(?:es|ing)?|gone|went|comes?|came|coming|sen[dt]s?|is|are)(?: it)? home\b',
     'is returned to the pool'),
    (r'\b(?:told|tells?|hears?|heard|hearing) of\b',
     'is notified of, receives an event for, reports'),
    (r'\b(?:hears?|heard)\b', 'is notified, observes, receives'),
    (r'\b(?:is|are|be|been|was|were) told\b', 'is notified; is reported; is configured'),
    (r'\b(?:tidings|heirlooms?)\b', 'message, readiness message; inherited socket'),
    (r'\bhangs? up\b', 'closes without lingering'),
    (r'\bby hand\b', 'hand-written, liburing baseline'),
    (r'\b(?:lately|of late)\b', 'recently'),
    (r'\b(?:a|one|each|every|last|the|further) looks?\b(?! at)', 'a check, a probe, a poll'),
    (r'\b(?:a|each|one|this|that|every|its|the|next|first|two|their|own|same|whose) turns?\b',
     'loop iteration; a slot; a share'),
    (r'\blast word\b', 'final completion'),
    (r'\bdoors?\b', 'listener; include; entry point'),
    (r'\bstands? (?:in|at|on|there|here|behind|before|beside|above|below|together|still)\b',
     'is, is stored, is listed, precedes, follows'),
    (r'\b(?:has|have|had) gone\b', 'was destroyed, was closed, has disconnected'),
    (r'\bgo(?:es)? over to\b', 'switches to'),
    (r'\bgo(?:es)? on\b(?! (?:to|the|a|its)\b)', 'continues'),
    (r'\bgives? way\b', 'yields'),
    (r'\b(?:says?|said) (?:so|of|by)\b', 'reports, indicates, documents'),
    (r'\bpass(?:es|ed)? over\b', 'skips, ignores'),
    (r'\banew\b', 'again; a new'),
    (r'\bmeanwhile\b', 'in the meantime, concurrently'),
    (r'\b(?:so many|for so long)\b', 'that many; or the number or duration itself'),
    (r'\bas good as\b', 'equivalent to'),
    (r'\btwins?\b', 'fallback; counterpart'),
    (r'\b(?:its|their) (?:kin|like)\b', 'and the related calls'),
    (r'\b(?:bells?|rung)\b', 'wake-up eventfd; signalled'),
    (r'\b(?:bears|borne)\b', 'has, carries'),
    (r'\bcomes? to (?:be|mean)\b', 'becomes, may refer to'),
    (r'\b(?:what|that) is there\b', 'what is available; the existing'),
    (r'\bon (?:its|their) way\b', 'in transit, pending, in flight'),
    (r'\bby way of\b', 'through, via'),
    (r'\b(?:nobody|somebody|everybody)\b', 'no thread, no caller, another process'),
))

CPP = ('.cpp', '.hpp', '.c', '.h')
DOCUMENTS = ('.md', '.scd')
BUILD_FILES = ('meson.build', 'meson_options.txt', '.conf', '.service')
SHELL = re.compile(r'^#!.*\b(?:sh|bash)\b')
PYTHON = re.compile(r'^#!.*\bpython3?\b')
TEST_MACRO = re.compile(r'\b(?:TEST_CASE|SECTION|TEMPLATE_TEST_CASE|SCENARIO)\s*\(\s*$')
MARKER = re.compile(r'^\s*(?://[/!]?<?|/\*+!?|\*+/|\*(?!\*))\s?|\s*\*/\s*$')
LIST_ITEM = re.compile(r'^(?:[-*+]|\d+[.)]|\(\d+\))\s')


def joined(lines):
    """The (line, text) of each paragraph in numbered lines of plain text. An empty line, a list item
    or a label begins another; labels are dropped."""
    number, words = None, []
    for at, line in lines:
        text = line.strip()
        label = LABEL.match(text)
        item = LIST_ITEM.match(text)
        if words and (not text or label or item):
            yield number, ' '.join(words)
            words = []
        text = LIST_ITEM.sub('', LABEL.sub('', text))
        if text:
            if not words:
                number = at
            words.append(text)
    if words:
        yield number, ' '.join(words)


class Source:
    """The parts of a C or C++ file: paragraphs of comments, literals, and the code between."""

    def __init__(self, text):
        self.comments, self.strings, self.names = [], [], []
        code, last, block = [], 0, []
        for token in TOKEN.finditer(text):
            between = text[last:token.start()]
            code.append(between)
            last = token.end()
            line = text.count('\n', 0, token.start()) + 1
            if token[0].startswith('/'):
                # A comment behind code is a paragraph of its own.
                if between.strip() or between.count('\n') > 1:
                    self.comments += joined(block)
                    block = []
                block += [(line + i, MARKER.sub('', MARKER.sub('', part)))
                          for i, part in enumerate(token[0].split('\n'))]
                code.append(' ' + '\n' * token[0].count('\n'))
            else:
                self.comments += joined(block)
                block = []
                content = re.sub(r'^R?"\(?|\)?"$', '', token[0])
                named = TEST_MACRO.search(text[max(0, token.start() - 40):token.start()])
                if not re.search(r'#\s*include\s*$', between):
                    (self.names if named else self.strings).append((line, content))
                code.append('""' + '\n' * token[0].count('\n'))
        self.comments += joined(block)
        code.append(text[last:])
        self.code = re.sub(r'^[ \t]*#(?:\\\n|[^\n])*', lambda m: '\n' * m[0].count('\n'),
                           ''.join(code), flags=re.M)


def document_paragraphs(text):
    """The (line, text) of each paragraph of Markdown or scdoc, without code; a cell of a table is a
    paragraph."""
    lines, fenced = [], False
    for number, line in enumerate(text.split('\n'), 1):
        if line.lstrip().startswith('```'):
            fenced = not fenced
            lines.append((number, ''))
        elif fenced or line.startswith(('    ', '\t')) and not LIST_ITEM.match(line.strip()):
            if fenced or not lines or not lines[-1][1].strip():
                lines.append((number, ''))
            else:
                lines.append((number, line))
        elif line.startswith('|'):
            for cell in line.strip('|').split('|'):
                lines += [(number, ''), (number, cell), (number, '')]
        else:
            lines.append((number, re.sub(r'^#+ ', '', line)))
            if line.startswith('#'):
                lines.append((number, ''))
    for number, paragraph in joined(lines):
        yield number, re.sub(r'`[^`]*`', '``', paragraph)


def python_paragraphs(text):
    """The (line, text) of each paragraph of the comments and docstrings of Python, and of each message:
    a string of several words."""
    comments, block, last = [], [], 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith('#!'):
            alone = not token.line[:token.start[1]].strip()
            if not alone or token.start[0] != last + 1:
                comments += joined(block)
                block = []
            block.append((token.start[0], token.string.lstrip('# ')))
            last = token.start[0] if alone else 0
    yield from comments
    yield from joined(block)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ' ' in node.value:
            yield from joined(enumerate(node.value.split('\n'), node.lineno))


def hash_paragraphs(text):
    """The (line, text) of each paragraph of full-line comments that begin with #."""
    lines = [(number, line.strip().lstrip('#')) if line.strip().startswith('#') else (number, '')
             for number, line in enumerate(text.split('\n'), 1) if not line.startswith('#!')]
    yield from joined(lines)


def prose(number, paragraph, first):
    """The (rule, line, text) of everything wrong in one paragraph of a comment or document."""
    if first and HEAD.search(paragraph):
        yield 'head', number, 'the first line of a file is a noun phrase'
    paragraph = FILE_LABEL.sub('', paragraph)
    for sentence in SENTENCE_END.split(paragraph):
        if SUBJECT.search(sentence):
            yield 'subject', number, f'a sentence begins with {sentence.split()[0]}: name the actor'
    for match in FOR_WHO.finditer(paragraph):
        yield 'for_who', number, f'"{match[0]}": name the actor'
    yield from banned(number, paragraph)


def banned(number, text):
    for pattern, instead in BANNED:
        for match in pattern.finditer(text):
            yield 'banned', number, f'"{match[0]}": write {instead}'


def findings_of(name, text):
    """The (rule, line, text) of everything that is wrong in one file."""
    if name.endswith(CPP):
        source = Source(text)
        for i, (number, paragraph) in enumerate(source.comments):
            yield from prose(number, paragraph, i == 0 and number <= 2)
        for number, content in source.strings:
            yield from banned(number, content)
        for number, content in source.names:
            if TEST_NAME.search(content) or FOR_WHO.search(content):
                yield 'test_name', number, 'a test name is a claim; name the actor'
            yield from banned(number, content)
        for match in PREPOSITION.finditer(source.code):
            yield 'preposition', source.code.count('\n', 0, match.start()) + 1, \
                f'{match[0]} is no name: use a noun of the field'
    elif name.endswith(DOCUMENTS):
        for i, (number, paragraph) in enumerate(document_paragraphs(text)):
            yield from prose(number, paragraph, i == 0)
    elif name.endswith('.py') or PYTHON.match(text):
        for number, paragraph in python_paragraphs(text):
            yield from prose(number, paragraph, False)
    elif name.endswith(BUILD_FILES) or SHELL.match(text):
        for number, paragraph in hash_paragraphs(text):
            yield from prose(number, paragraph, False)


def is_below(name, folder):
    return name == folder or name.startswith(folder.rstrip('/') + '/')


def is_exempt(name):
    """The rules cannot quote what they ban; the specification of 2006 and its header are fixed."""
    return name.startswith('tests/tidy/') or name == 'kevent/kevent.h'


def language(tree):
    """The text of every file follows the rules."""
    for name in tree.files:
        if is_exempt(name):
            continue
        for rule, line, what in findings_of(name, tree.text(name)):
            yield name, line, f'{what} ({rule})'
