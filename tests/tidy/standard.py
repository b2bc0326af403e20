"""A compiler whose language is older than C++20 stops at one #error: that of language.hpp."""
from tree import LIBRARY

LANGUAGE = 'runtime/detail/language.hpp'


def standard(tree):
    """Each header of the library includes language.hpp, by itself or by a header of ours."""
    if LANGUAGE not in tree.files:
        return
    for name in tree.files:
        if name.split('/')[0] not in LIBRARY or not name.endswith('.hpp') or name == LANGUAGE:
            continue
        if not any(target.startswith('kevring/') for _, target in tree.includes(name)):
            yield name, 1, ('under an older language than C++20 its errors are not explained; '
                            f'include <kevring/{LANGUAGE}> first')
