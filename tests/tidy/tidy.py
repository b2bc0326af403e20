#!/usr/bin/env python3
"""Tests the tree itself: layers, the required C++ standard, texts of assertions, forms of co_await,
orphan files, the public include folder, stray words, the language of comments, subjects of commits,
documents.

  tidy.py ROOT

Prints FILE:LINE: WHAT for each finding, and fails if there is one.
"""
import sys

from assertions import assertions
from awaits import awaits
from commits import commits
from documents import documents
from language import language
from layers import layers
from orphans import orphans
from standard import standard
from tree import Tree
from umbrella import umbrella
from words import words

RULES = (layers, standard, assertions, awaits, orphans, umbrella, words, language, commits,
         documents)


def findings(root):
    """The (rule, file, line, what) of everything that is wrong below `root`."""
    tree = Tree(root)
    return [(rule.__name__, *found) for rule in RULES for found in rule(tree)]


def main(root):
    found = findings(root)
    for rule, name, line, what in found:
        print(f'{name}:{line}: {what} [{rule}]')
    print(f'{len(found)} findings')
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
