"""Forms of co_await that g++ 12 turns into wrong code without a word, found in the tokens.

Each was seen on g++ 12.2; clang compiles all of them right. A form that may be wrong and is hard to
tell from a right one is refused as well: giving the value a name costs nothing.
"""
import re

from tree import line_of

TOKEN = re.compile(r'[A-Za-z_]\w*|\d[\w.\']*|::|->|&&|\|\||\S')
OPEN = {'(': ')', '[': ']', '{': '}'}
CLOSE = set(OPEN.values())


def tokens_of(text):
    """The (word, offset) of each token, preprocessor lines left out."""
    text = re.sub(r'^[ \t]*#(?:\\\n|[^\n])*', lambda m: re.sub(r'[^\n]', ' ', m[0]), text,
                  flags=re.M)
    text = re.sub(r'\boperator\s+co_await\b', lambda m: re.sub(r'\S', '_', m[0]), text)
    return [(m[0], m.start()) for m in TOKEN.finditer(text)]


def partner(tokens, at):
    """The index of what closes the bracket at index `at`."""
    depth = 0
    for i in range(at, len(tokens)):
        word = tokens[i][0]
        if word in OPEN:
            depth += 1
        elif word in CLOSE:
            depth -= 1
            if depth == 0:
                return i
    return len(tokens) - 1


def body_of_lambda(tokens, at):
    """For a `[` at `at` that opens a lambda, the indexes of `]`, and of its body's braces."""
    if at and (re.match(r'[\w"]', tokens[at - 1][0]) or tokens[at - 1][0] in ')]') \
            and tokens[at - 1][0] not in ('co_await', 'co_return', 'co_yield', 'return'):
        return None  # an index
    if tokens[at + 1][0] == '[':
        return None  # an attribute
    end = partner(tokens, at)
    i = end + 1
    while i < len(tokens) and tokens[i][0] not in ('{', ';', ')', ','):
        i = partner(tokens, i) + 1 if tokens[i][0] in ('(', '[') else i + 1
    if i < len(tokens) and tokens[i][0] == '{':
        return end, i, partner(tokens, i)
    return None


def copies(tokens, first, last):
    """Whether the captures between the indexes hold a copy of something."""
    depth = 0
    start = True
    for i in range(first, last):
        word = tokens[i][0]
        if start and depth == 0 and word not in ('&', 'this'):
            return True
        start = depth == 0 and word == ','
        depth += (word in OPEN) - (word in CLOSE)
    return False


def condition_after(tokens, at):
    """The (first, last) of the condition of an if or a switch, without its init-statement."""
    if tokens[at + 1][0] != '(':
        return None
    last = partner(tokens, at + 1)
    first = at + 2
    i = first
    while i < last:
        if tokens[i][0] in OPEN:
            i = partner(tokens, i)
        elif tokens[i][0] == ';':
            first = i + 1
        i += 1
    return first, last


def conditions(tokens):
    """An await in the condition of an if or a switch: in a coroutine without local variables the
    rest of the body is never run, and the coroutine never ends."""
    for i, (word, _) in enumerate(tokens[:-2]):
        if word in ('if', 'switch') and (found := condition_after(tokens, i)):
            first, last = found
            if any(w == 'co_await' for w, _ in tokens[first:last]):
                yield i, f'g++ 12 loses what follows an await in the condition of {word}; ' \
                         'name the value first'


def await_expressions(tokens):
    """The (first, last) of each operand of co_await, up to the end of its full expression."""
    for i, (word, _) in enumerate(tokens):
        if word != 'co_await':
            continue
        j = i + 1
        while j < len(tokens) and tokens[j][0] not in CLOSE | {';', ','}:
            j = partner(tokens, j) + 1 if tokens[j][0] in OPEN else j + 1
        yield i + 1, j


def temporaries(tokens):
    """Temporaries in the operand of co_await that g++ 12 destroys twice, or too early."""
    for first, last in await_expressions(tokens):
        i = first
        while i < last:
            word = tokens[i][0]
            if word == '[' and (found := body_of_lambda(tokens, i)):
                end, _, close = found
                if copies(tokens, i + 1, end):
                    yield i, 'g++ 12 destroys the captures of this lambda twice; name it first'
                i = close
            elif word == '{' and i > first:
                close = partner(tokens, i)
                before = tokens[i - 1][0]
                inside = [w for w, _ in tokens[i + 1:close]]
                if before in '(,' or inside[:1] == ['.']:
                    yield i, 'g++ 12 destroys a braced argument of an await too early; ' \
                             'name it first'
                elif inside and re.match(r'[\w>]', before):
                    yield i, 'if this is an aggregate, g++ 12 destroys it too early; ' \
                             'name it first, or write parentheses'
                i = close
            i += 1


def initializers(tokens):
    """A braced list with an await among its elements."""
    for i, (word, _) in enumerate(tokens):
        if word != '{' or i == 0:
            continue
        if not re.match(r'[\w>=(,]', tokens[i - 1][0]) or \
                tokens[i - 1][0] in ('else', 'do', 'try', 'const', 'noexcept', 'mutable'):
            continue
        close = partner(tokens, i)
        depth, awaits, commas = 0, False, False
        for inner, _ in tokens[i + 1:close]:
            depth += (inner in OPEN) - (inner in CLOSE)
            if inner in (';', '{') and depth <= 1:
                break  # a block, not a list
            awaits = awaits or inner == 'co_await'
            commas = commas or (inner == ',' and depth == 0)
        else:
            if awaits and commas:
                yield i, 'g++ 12 destroys the elements beside an await twice; await first'


def awaits(tree):
    """No form of co_await that g++ 12 miscompiles."""
    for name in tree.code():
        text = tree.bare(name)
        if 'co_await' not in text:
            continue
        tokens = tokens_of(text)
        for rule in (conditions, temporaries, initializers):
            for index, what in rule(tokens):
                yield name, line_of(text, tokens[index][1]), what
