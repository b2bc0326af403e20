"""Each KEVRING_ASSERT has a text that names the mistake and the remedy, and docs/assertions.md lists
the texts that a caller can reach."""
import re

from tree import COMMENT_OR_LITERAL, LIBRARY, line_of

PAGE = 'docs/assertions.md'
CALL = re.compile(r'\bKEVRING_ASSERT(?:_SLOW|_AT)?\(')
LITERAL = re.compile(r'"((?:\\.|[^"\\\n])*)"')
FORM = re.compile(r'^[^;]+; [^;]+[^;.]$')
ROW = re.compile(r'^\| `([^`|]+)` \|', re.M)
INTERNAL = 'internal error: '
MACROS = 'runtime/assert.hpp'


def arguments(text, begin):
    """The arguments of a call, from the character after its parenthesis on."""
    found, depth, start, at = [], 0, begin, begin
    while at < len(text):
        literal = COMMENT_OR_LITERAL.match(text, at)
        if literal:
            at = literal.end()
            continue
        sign = text[at]
        if sign in '([{':
            depth += 1
        elif sign in ')]}':
            depth -= 1
        if depth < 0 or (depth == 0 and sign == ','):
            found.append(text[start:at].strip())
            start = at + 1
            if depth < 0:
                break
        at += 1
    return found


def asserted(tree, name):
    """The (line, text) of each assertion of a file; the text is None where there is none."""
    source = COMMENT_OR_LITERAL.sub(
        lambda m: m[0] if m[0][0] in '"R\'' else re.sub(r'[^\n]', ' ', m[0]), tree.text(name))
    for call in CALL.finditer(source):
        texts = [''.join(LITERAL.findall(argument)) for argument in arguments(source, call.end())
                 if argument.startswith('"')]
        yield line_of(source, call.start()), texts[0] if len(texts) == 1 else None


def assertions(tree):
    """Texts of the form "mistake; remedy", and a page that has exactly those of the library."""
    used = set()
    listed = set(ROW.findall(tree.text(PAGE))) if PAGE in tree.files else set()
    for name in tree.code():
        if name == MACROS:
            continue
        for line, text in asserted(tree, name):
            if text is None or not FORM.match(text):
                yield name, line, 'an assertion has a text of the form "mistake; remedy"'
                continue
            used.add(text)
            if (name.split('/')[0] in LIBRARY and not text.startswith(INTERNAL)
                    and text not in listed):
                yield name, line, f'{PAGE} has no row for "{text}"'
    for text in sorted(listed - used):
        yield PAGE, 1, f'no assertion has the text "{text}"'
