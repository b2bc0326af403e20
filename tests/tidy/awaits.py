#!/usr/bin/env python3
"""Finds forms of co_await that g++ 12 turns into wrong code without a warning, and results of awaits that
it lets a program drop, in the tokens.

  awaits.py FOLDER      fails if a source below FOLDER has one; the test `tidy` has this as a rule

Each was seen on g++ 12.2; clang compiles all of them right. A form that may be wrong and is hard to
tell from a right one is refused as well: giving the value a name costs nothing.
"""
import pathlib
import re
import sys

from tree import Tree, line_of

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
    """The (first, last) of the condition of the if, switch, while or for at `at`: without an
    init-statement, and without the last expression of a for."""
    word = tokens[at][0]
    i = at + 1
    if word == 'if' and tokens[i][0] in ('constexpr', 'consteval', '!'):
        return None  # no await can be in it
    if i >= len(tokens) or tokens[i][0] != '(':
        return None
    last = partner(tokens, i)
    parts = [i + 1]  # where each part between semicolons begins
    i += 1
    while i < last:
        if tokens[i][0] in OPEN:
            i = partner(tokens, i)
        elif tokens[i][0] == ';':
            parts.append(i + 1)
        i += 1
    if word != 'for':
        return parts[-1], last
    return (parts[1], parts[2] - 1) if len(parts) == 3 else None  # else over a range


def declares(tokens, first, last):
    """Whether a condition declares a variable, as `auto v = co_await f()`. With one, g++ is right."""
    depth = 0
    for i in range(first, last):
        word = tokens[i][0]
        depth += (word in OPEN) - (word in CLOSE)
        if depth or word != '=' or i < first + 2:
            continue
        before, two_before = tokens[i - 1][0], tokens[i - 2][0]
        if tokens[i + 1][0] == '=' or before in '=!<>+-*/%&|^':
            continue
        return re.match(r'[A-Za-z_]', tokens[first][0]) and (
            before == ']' or re.match(r'[\w>&*]', two_before) is not None)
    return False


def conditions(tokens):
    """An await in the condition of an if, a switch or a loop: in a coroutine without local
    variables the rest of the body is never run, and the coroutine never ends. The condition of a
    do loop follows the word while, as that of a while loop does."""
    for i, (word, _) in enumerate(tokens[:-2]):
        if word in ('if', 'switch', 'while', 'for') and (found := condition_after(tokens, i)):
            first, last = found
            if any(w == 'co_await' for w, _ in tokens[first:last]) \
                    and not declares(tokens, first, last):
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


def full_expression(tokens, at):
    """The (first, last) of the full expression or declaration that the token at `at` is in."""
    first, depth = at, 0
    while first > 0:
        word = tokens[first - 1][0]
        if depth == 0 and (word in (';', '{') or (word == '}' and tokens[first][0] not in CLOSE
                                                  | {',', '.', ';', ':', '?', '+', '-', '='})):
            break
        if depth == 0 and (word in ('else', 'do') or word == ')' and is_head(tokens, first - 1)):
            break
        depth += (word in CLOSE) - (word in OPEN)
        depth = max(depth, 0)  # out of a call that `at` is an argument of
        first -= 1
    last, depth = at, 0
    while last < len(tokens) and not (tokens[last][0] == ';' and depth <= 0):
        if tokens[last][0] == '}' and depth <= 0:
            break
        depth = max(depth + (tokens[last][0] in OPEN) - (tokens[last][0] in CLOSE), 0)
        last += 1
    return first, last


def lambdas(tokens):
    """A lambda that holds copies, as a temporary in an expression that awaits: g++ 12 destroys them
    twice, whatever function the lambda is passed to."""
    seen = set()
    for at, (word, _) in enumerate(tokens):
        if word != 'co_await':
            continue
        first, last = full_expression(tokens, at)
        i = first
        while i < last:
            if tokens[i][0] == '[' and (found := body_of_lambda(tokens, i)):
                end, begin, close = found
                if not begin < at < close and copies(tokens, i + 1, end) and i not in seen:
                    seen.add(i)
                    yield i, 'g++ 12 destroys the captures of this lambda twice; name it first'
                i = close
            i += 1


def temporaries(tokens):
    """Braced temporaries in an expression that awaits: g++ 12 destroys them twice, or too early."""
    seen = set()
    for operand, end in await_expressions(tokens):
        first, last = full_expression(tokens, operand - 1)
        i, parentheses = first, 0
        while i < last:
            word = tokens[i][0]
            if word == '[' and (found := body_of_lambda(tokens, i)):
                if not found[1] < operand < found[2]:
                    i = found[2]
            elif word == '{' and i > operand - 1 or word == '{' and parentheses > 0:
                close = partner(tokens, i)
                if i < operand <= close and i < operand - 1:  # the await is in it: initializers()
                    i += 1
                    continue
                before = tokens[i - 1][0]
                inside = [w for w, _ in tokens[i + 1:close]]
                if i not in seen and (parentheses > 0 or operand < i < end):
                    seen.add(i)
                    if before in '(,' or inside[:1] == ['.']:
                        yield i, 'g++ 12 destroys a braced argument of an await too early; ' \
                                 'name it first'
                    elif inside and re.match(r'[\w>]', before):
                        yield i, 'if this is an aggregate, g++ 12 destroys it too early; ' \
                                 'name it first, or write parentheses'
                i = close
            parentheses = max(parentheses + (word == '(') - (word == ')'), 0)
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


# Awaits of the library whose result says whether they succeeded.
RESULTS = {'nop_operation', 'readable', 'sleep_for', 'sleep_until', 'timer', 'writable'}
MEMBER_RESULTS = {'accept', 'acquire', 'arrive_and_wait', 'lock', 'lock_shared', 'next', 'receive',
                  'receive_range', 'send', 'send_range', 'wait'}


def dropped(tokens):
    """A statement that drops the result of an await. clang warns, and g++ only from 14 on."""
    for i, (word, _) in enumerate(tokens):
        if word != 'co_await' or (i and tokens[i - 1][0] not in (';', '{', '}', ')', 'else', 'do')):
            continue
        end = i + 1
        while end < len(tokens) and tokens[end][0] not in CLOSE | {';', ',', '?'}:
            end = partner(tokens, end) + 1 if tokens[end][0] in OPEN else end + 1
        if end >= len(tokens) or tokens[end][0] != ';' or tokens[end - 1][0] != ')':
            continue
        first, depth = end - 1, 0
        while first > i:
            depth += (tokens[first][0] in CLOSE) - (tokens[first][0] in OPEN)
            if depth == 0:
                break
            first -= 1
        if tokens[i - 1][0] == ')' and i and not is_head(tokens, i - 1):
            continue  # a cast
        name, before = tokens[first - 1][0], tokens[first - 2][0]
        if name in RESULTS or name in MEMBER_RESULTS and before in ('.', '->'):
            yield i, f'the result of {name}() is dropped; test it, or cast it to void'


def is_head(tokens, close):
    """Whether the `)` at `close` ends the head of an if or a loop."""
    depth = 0
    for at in range(close, -1, -1):
        depth += (tokens[at][0] in CLOSE) - (tokens[at][0] in OPEN)
        if depth == 0:
            return at > 0 and tokens[at - 1][0] in ('if', 'for', 'while', 'constexpr')
    return False


def awaits(tree):
    """No form of co_await that g++ 12 miscompiles, and no dropped result."""
    for name in tree.code():
        if name.startswith('tests/compile/'):
            continue  # a compiler checks these
        text = tree.bare(name)
        if 'co_await' not in text:
            continue
        tokens = tokens_of(text)
        for rule in (conditions, lambdas, temporaries, initializers, dropped):
            for index, what in rule(tokens):
                yield name, line_of(text, tokens[index][1]), what


def main(folder):
    if not pathlib.Path(folder).is_dir():
        sys.exit(f'awaits.py: {folder} is not a folder')
    found = list(awaits(Tree(folder)))
    for name, line, what in found:
        print(f'{name}:{line}: {what}')
    print(f'{len(found)} findings')
    return 1 if found else 0


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: awaits.py FOLDER')
    sys.exit(main(sys.argv[1]))
