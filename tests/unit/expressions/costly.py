"""Calls everything that templates, expressions and JSONPaths can call, with the arguments that take it longest.

Run as a program, it evaluates the cases of the kinds named by its arguments, each with little CPU time and memory, and
writes ``{case: outcome}``: ``value``, ``limit``, ``reject``, ``killed`` (by the limit of CPU time) or ``memory``.
"""

import datetime
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from pyflow.core.errors import PyFlowError
from pyflow.expressions.costs import METHODS
from pyflow.expressions.evaluation import safe_eval
from pyflow.expressions.functions import COMPUTING
from pyflow.expressions.jsonpath import find_all
from pyflow.expressions.template import compile_template
from pyflow.expressions.values import FUNCTIONS
from pyflow.expressions.values import METHODS as EXPRESSION_METHODS

#: What one computation may take at most: twice what is promised, for a machine that is slow.
CPU_SECONDS = 2.0
MEMORY = 256 * 1024 * 1024
_TEXT = 1 << 20  # the largest that a template may make; data may hold more
_PRIME = (1 << 61) - 1  # the modulus of the hash of numbers
_INFIX = "a" * (_TEXT // 4) + "b" + "a" * (_TEXT // 4)

#: Texts, the worst of each kind of loop: one that is nearly found everywhere, nothing but what is stripped, growing.
TEXTS: dict[str, Any] = {
    "ones": "a" * _TEXT,
    "more": "a" * 4 * _TEXT,
    "blanks": " " * _TEXT,
    "lines": "\n" * _TEXT,
    "tabs": "\t" * (_TEXT // 8),
    "pairs": "a " * (_TEXT // 2),
    "wide": "\u0101" * _TEXT,
    "grows": "\u00df" * _TEXT,
    "halves": "\ud800" * (_TEXT // 2),
    "digits": "1" * _TEXT,
    "tags": "<!--" * 16_000,
    "links": "a@www.a(" * 8_000,
    "parentheses": "(" * 60_000,
    "fields": "%(a)s" * 10_000,
    "braces": "{0}" * 20_000,
    "path": ".".join(["0"] * 30_000),
    "letters": "ab" * 30_000,
}
WHATS: dict[str, Any] = {
    "infix": _INFIX,
    "wides": "\u0201" * 200_000 + "\u0101",
    "one": "a",
    "three": "aba",
    "punycode": "punycode",
    "idna": "idna",
    "backslashreplace": "backslashreplace",
    "many": 1_000_000_000,
}
LISTS: dict[str, Any] = {
    "numbers": list(range(1_000_000, 0, -1)),
    "few": list(range(90_000, 0, -1)),
    "floats": [float(f"{i}.123456789012345e-300") for i in range(1, 90_000)],
    "long_numbers": [10**4200 + i for i in range(2000)],
    "clashes": [i * _PRIME for i in range(4000)] + [3999 * _PRIME] * 90_000,
    "same": [["a" * 20_000 + str(i % 7)] for i in range(2000)],
    "words": ["A" * 900_000 + str(i) for i in range(30)],
    "rows": [{"k": [0] * 1000 + [i], "0": i} for i in range(1000)],
    "deep": json.loads("[" * 90 + "1" + "]" * 90),
    "keyed": {str(i): i for i in range(300_000)},
    "records": [["x", i] for i in range(90_000)],
}
OTHERS: dict[str, Any] = {
    "number": 10**4200,
    "small": -1.5e-300,
    "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    "nothing": None,
}
CONTEXT = TEXTS | WHATS | LISTS | OTHERS


def _arguments() -> Iterator[str]:
    yield ""
    yield from WHATS
    yield from ("ones", "more", "numbers", "words", "path", "keyed", "rows", "clashes")
    yield from ("infix, one", "one, infix", "one, many", "'utf-8', backslashreplace", "one, ones")
    yield from ("0", "1", "100", "none, none", "many, one")


def _owners(kinds: tuple[type, ...]) -> Iterator[str]:
    yield from (name for name, value in CONTEXT.items() if isinstance(value, kinds) and name not in WHATS)
    if bytes in kinds:
        yield from ("ones.encode()", "tabs.encode()")
    if set in kinds or any(kind.__name__.startswith("dict_") for kind in kinds):
        yield from ("keyed.keys()", "keyed.items()")
    if range in kinds:
        yield "range(99999)"


def templates() -> Iterator[str]:
    """Every method, filter, test and operator of templates."""
    for kinds, methods in METHODS:
        calls = itertools.product(_owners(kinds), methods, _arguments())
        yield from (f"{{{{ {owner}.{method}({args}) }}}}" for owner, method, args in calls)
    for method in METHODS[0][1]:
        yield f"{{{{ (ones|e).{method}(infix) }}}}"
    for name in FILTERS:
        for owner in CONTEXT:
            for args in (
                "",
                *("ones", "wides", "infix, one", "many", "path", "keyed", "numbers"),
                *("attribute=path", "attribute='k'", "attribute=0", "true, true", "'upper'", "'lower'", "'in', ones"),
            ):
                yield f"{{{{ {owner}|{name}({args})|list|length }}}}"
            yield f"{{{{ {owner}|{name} }}}}"
    for name, owner, other in itertools.product(TESTS, CONTEXT, ("", "(ones)", "(numbers)", "(same)", "(keyed)")):
        if name.isidentifier():
            yield f"{{{{ {owner} is {name}{other} }}}}"
    for owner in CONTEXT:
        yield f"x{{{{ {owner} }}}}"
        yield f"{{{{ {owner}[1:] }}}}"
        yield f"{{{{ {owner}.a.b }}}}"
        yield f"{{{{ [{owner}] * 1000 }}}}"
        yield f"{{{{ ([{owner}] * 90000)|string }}}}"
        for other, operator in itertools.product(("ones", "infix", "same", "numbers", "number", "keyed"), _OPERATORS):
            yield f"{{{{ {owner} {operator} {other} }}}}"


_OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "not in")


def expressions() -> Iterator[str]:
    """Every method, function and operator of expressions."""
    arguments = [args.replace("none", "None") for args in _arguments()]
    for kind, methods in EXPRESSION_METHODS:
        calls = itertools.product(_owners((kind,)), methods, arguments)
        yield from (f"{owner}.{method}({args})" for owner, method, args in calls if "encode" not in owner)
    for name, owner in itertools.product(FUNCTIONS, CONTEXT):
        yield f"{name}({owner})"
        yield f"{name}({owner}, {owner})"
        yield f"{name}(enumerate({owner}))"
        yield f"{name}({owner}, 16)"
    for owner in CONTEXT:
        yield from (f"{owner}[1:]", f"{owner}[::-1]", f"str({owner})", f"f'{{{owner}}}' + f'{{{owner}!r:>9}}'")
        yield "f'" + f"{{{owner}}}" * 200 + "'"
        yield f"[x for x in {owner} if x == {owner}]"
        yield f"{{x for x in {owner}}}"
        for other, operator in itertools.product(("ones", "infix", "same", "numbers", "number", "keyed"), _OPERATORS):
            if operator != "~":
                yield f"{owner} {operator} {other}"
        yield from (f"{owner} {operator} {owner}" for operator in ("|", "&", "^", "<<", ">>", "<", ">="))


def computing() -> Iterator[str]:
    """Every function of version 2 over every value, in expressions; those of templates share them."""
    arguments = ("", *(f", {args}" for args in _arguments() if args and "none" not in args), ", 'k'", ", '0'", ", 0")
    for name in COMPUTING:
        for owner in CONTEXT:
            yield from (f"{name}({owner}{args})" for args in arguments)
        yield from (
            f"{name}(keyed.items())",
            f"{name}(*rows)",
            f"{name}([numbers] * 1000)",
            f"{name}([rows] * 9000, 'k')",
        )
    for owner in CONTEXT:
        yield from (
            f"{{**{owner}}}",
            f"when + duration(1) * {owner}",
            f"when.strftime({owner})",
            f"when.astimezone({owner})",
        )
        yield from (f"join({{*{owner}}})", f"fromjson(tojson({owner}))", f"sort_by([{owner}] * 90000, 0)")


def paths() -> Iterator[str]:
    """JSONPaths over each of the values, which stands before the path."""
    for owner in CONTEXT:
        if owner == "when":
            continue
        for path in (
            *("$[*]", "$.*", "$..*", "$..a", "$[*][*]", "$[0:]", "$[::-1]", "$..[0]", "$[?(@ > 1)]", "$[?(@.k == 1)]"),
            *("$[*].k[*]", "$[\\k]", "$[/0]", "$.`len`", "$.`str()`", "$.`split(a, 0, -1)`", "$ + $", "$ * 1000000"),
            *("$.`this`", "$[*].`parent`", "$..*..*", "$ * $", "$ - 1", "$[*] + $[*]", "$[?(@.k[?(@ > 1)])]"),
        ):
            yield f"{owner} {path}"


def _find(source: str) -> Any:
    owner, _, path = source.partition(" ")
    return find_all(path, CONTEXT[owner])


KINDS: dict[str, tuple[Callable[[], Iterator[str]], Callable[[str], Any]]] = {
    "template": (templates, lambda source: compile_template(source, typed=True).render(CONTEXT)),
    "expression": (expressions, lambda source: safe_eval(source, CONTEXT)),
    "computing": (computing, lambda source: safe_eval(source, CONTEXT, version=2)),
    "path": (paths, _find),
}


def outcomes(kind: str, step: int = 1) -> dict[str, str]:
    """Evaluate one in ``step`` of the cases of a kind in other processes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.expressions.costly", kind, str(step)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def outcome_of(kind: str, source: str) -> str:
    """Evaluate one case in another process."""
    _evaluate(kind, [source], 0)
    return _FOUND[source]


def _outcome(evaluate: Callable[[str], Any], source: str) -> str:
    try:
        evaluate(source)
    except PyFlowError as error:
        cause = error.__cause__ or error.__context__
        return "memory" if isinstance(cause, MemoryError) else "limit" if "limit" in error.code else "reject"
    except MemoryError:
        return "memory"
    return "value"


def _evaluate(kind: str, cases: list[str], done: int) -> int:
    """Have a process evaluate cases from this one on, until one is killed; return how many it did."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        for source in cases[done:]:
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # kills, whatever holds the interpreter
            os.write(writer, _outcome(KINDS[kind][1], source).encode() + b"\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        for answer in answers:
            _FOUND[cases[done]] = answer.strip()
            done += 1
    os.waitpid(child, 0)
    if done < len(cases):
        _FOUND[cases[done]] = "killed"
        done += 1
    return done


_FOUND: dict[str, str] = {}


def main() -> None:
    """Evaluate the kind named by the first argument, one in so many of its cases as the second says."""
    kind, step = sys.argv[1], int(sys.argv[2])
    cases, done = list(dict.fromkeys(KINDS[kind][0]()))[::step], 0
    while done < len(cases):
        done = _evaluate(kind, cases, done)
    json.dump(_FOUND, sys.stdout)


if __name__ == "__main__":
    main()
