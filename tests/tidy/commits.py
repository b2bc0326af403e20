"""The subjects of commits: at most 72 columns, and the folder that changes."""
import re
import shutil
import subprocess

# Commits up to this one are published and stay as they are.
CHECKED_AFTER = '00258e3323ebfa81d91ec616818a9208abb13e17'
SUBJECT_LINE = re.compile(r'^(?:runtime|net|kevent|sendfile|examples|tests|bench|docs|scripts|build'
                          r'|ci)(?:/[a-z_]+)*: ')
SUBJECT_COLUMNS_MAX = 72


def subject_faults(subject):
    """Everything that is wrong with one subject."""
    if len(subject) > SUBJECT_COLUMNS_MAX:
        yield f'the subject has {len(subject)} columns, more than {SUBJECT_COLUMNS_MAX}'
    if not SUBJECT_LINE.match(subject):
        yield 'the subject does not begin with a folder and a colon'


def subjects_after(root, base):
    """The (hash, subject) of each commit after `base`; none without git or that commit."""
    if not shutil.which('git'):
        return []
    inside = subprocess.run(['git', '-C', str(root), 'rev-parse', '--show-toplevel'],
                            capture_output=True, text=True, check=False)
    if inside.returncode != 0 or inside.stdout.strip() != str(root):
        return []  # no work tree, or one around this folder
    logged = subprocess.run(
        ['git', '-C', str(root), 'log', '--no-merges', '--format=%h %s', f'{base}..HEAD'],
        capture_output=True, text=True, check=False)
    return [line.split(' ', 1) for line in logged.stdout.split('\n') if ' ' in line]


def commits(tree):
    """Every commit after CHECKED_AFTER has a good subject."""
    for commit, subject in subjects_after(tree.root, CHECKED_AFTER):
        for fault in subject_faults(subject):
            yield f'commit {commit}', 1, f'{fault}: {subject}'
