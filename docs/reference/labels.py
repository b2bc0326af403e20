#!/usr/bin/env python3
"""Filter of doxygen: makes a paragraph of each label of a contract (`Result`, `Errors`, `Lifetime` and so on).

  labels.py HEADER

A header of C has comments of another form; each comment before a declaration becomes documentation.
"""
import re
import sys

LABEL = re.compile(r'^(\s*///) ([A-Z][a-z]+(?: [a-z]+)?) {2,}(\S.*)$')
CONTINUED = re.compile(r'^(\s*///) {6,}(\S.*)$')
# doxygen does not find the namespaces of these; they document nothing.
FOREIGN = re.compile(r'^template <[^\n]*>\n(?:struct|class) (?:std|asio)::[^\n]*(?:\{\};\n|\{\n.*?^\};\n)', re.M | re.S)
TAG = re.compile(r'<((?:kevring|linux|sys)/[\w./]+)>')


def converted(text, is_c):
    """The text of a header as doxygen shall read it."""
    if is_c:
        return re.sub(r'^/\*(?=[ \n])', '/**', text, flags=re.M)
    text = FOREIGN.sub('', text)
    lines, in_label = [], False
    for line in text.split('\n'):
        if label := LABEL.match(line):
            lines += [f'{label[1]} @par {label[2]}', f'{label[1]} {label[3]}']
            in_label = True
            continue
        if in_label and (more := CONTINUED.match(line)):
            line = f'{more[1]} {more[2]}'
        elif not line.strip().startswith('///') or line.strip() == '///':
            in_label = False
        lines.append(TAG.sub(r'`\1`', line) if line.strip().startswith('//') else line)
    return '\n'.join(lines)


if __name__ == '__main__':
    with open(sys.argv[1], encoding='utf-8') as header:
        sys.stdout.write(converted(header.read(), sys.argv[1].endswith('.h')))
