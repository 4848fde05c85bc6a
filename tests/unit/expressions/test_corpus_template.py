"""Every case of the template corpus, and more of the kind, in a process with little memory and time."""

from typing import Any

import pytest

from pyflow.expressions.template import compile_value
from tests.support import corpora
from tests.unit.expressions import boxed, hostile

KINDS = ("template", "typed template")


def _chain(step: str, count: int, before: str, after: str = "") -> str:
    return before + step * count + after


def _kept_by(holder: str, name: str) -> str:
    """Sixty times: what holds two of what there was before, kept without a list or mapping being written."""
    return f"{{% for i in range(60) %}}{{% set ns.{name} = {holder.replace('@', 'ns.' + name)} %}}{{% endfor %}}"


def _handed_to_macros(catch: str, call: str) -> str:
    """Sixty times: a macro keeps the arguments that it has no names for."""
    macros = "".join(f"{{% macro m{n}() %}}{{% set ns.{n} = {catch} %}}{{% endmacro %}}" for n in "xy")
    calls = "".join(f"{{{{ m{n}({call.replace('@', 'ns.' + n)}) }}}}" for n in "xy")
    return f"{macros}{{% for i in range(60) %}}{calls}{{% endfor %}}"


NAMESPACE = "{% set ns = namespace(x=1, y=1) %}"
NAMESPACES = NAMESPACE + _kept_by("namespace(a=@, b=@)", "x")
LISTS = "{% set x = [[0]*1000]*1000 %}{% set y = [[0]*1000]*1000 %}"

MORE_LIMITS = {
    "doubling by views": NAMESPACE + _kept_by("dict(a=@, b=@).values()", "x") + "{{ ns.x }}",
    "doubling by items": NAMESPACE + _kept_by("dict(a=@, b=@).items()", "x") + "{{ ns.x|string }}",
    "comparing doubled views": NAMESPACE
    + _kept_by("dict(a=@, b=@).items()", "x")
    + _kept_by("dict(a=@, b=@).items()", "y")
    + "{{ ns.x == ns.y }}",
    "comparing what cyclers hold": NAMESPACE
    + _kept_by("cycler(@, @).items", "x")
    + _kept_by("cycler(@, @).items", "y")
    + "{{ ns.x == ns.y }}",
    "hashing what cyclers hold": NAMESPACE + _kept_by("cycler(@, @).items", "x") + "{{ {ns.x: 1} }}",
    "comparing what macros were handed": NAMESPACE + _handed_to_macros("varargs", "@, @") + "{{ ns.x == ns.y }}",
    "comparing what they were handed by name": NAMESPACE
    + _handed_to_macros("kwargs", "a=@, b=@")
    + "{{ ns.x == ns.y }}",
    "many comparisons": LISTS + "{{ " + " and ".join(["x == y"] * 600) + " }}",
    "many tests": LISTS + "{{ " + " and ".join(["x is eq(y)"] * 400) + " }}",
    "many looks": LISTS + "{{ " + " or ".join(["[1] in x"] * 600) + " }}",
    "a key that is long": "{{ {}[['a'*1000000]*30] }}",
    "recursive loop": "{% for a in range(300) recursive %}{{ loop(range(300)) }}{% endfor %}",
    "macro calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "macro tree": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "loop with a filter": "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "nested lists written out": "{{ [[[0]*1000]*1000]*1000 }}",
    "nested lists as json": "{{ ([[0]*1000]*1000)|tojson }}",
    "nested lists pretty": "{{ ([['x'*9]*1000]*1000)|pprint }}",
    "doubling a list": _chain("{% set x=[x,x] %}", 400, "{% set x=[1] %}", "{{ x }}"),
    "comparing doubled lists": _chain("{% set x=[x,x] %}", 200, "{% set x=[1] %}")
    + _chain("{% set y=[y,y] %}", 200, "{% set y=[1] %}", "{{ x == y }}"),
    "doubling a text": _chain("{% set x=x~x %}", 100, "{% set x='ab' %}", "{{ x }}"),
    "a text kept by a set block": "{% set x %}{% for i in range(99999) %}" + "y" * 60_000 + "{% endfor %}{% endset %}",
    "a text kept by a filter block": "{% filter upper %}{% for i in range(9999) %}"
    + "y" * 9_000
    + "{% endfor %}{% endfilter %}",
    "a namespace that grows": "{% set ns=namespace(x='a') %}{% for i in range(99999) %}"
    "{% set ns.x=ns.x~ns.x %}{% endfor %}",
    "a namespace that nests": "{% set ns=namespace(x=[]) %}{% for i in range(99999) %}"
    "{% set ns.x=ns.x+[ns.x] %}{% endfor %}",
    "many long texts": "".join(f"{{% set a{i} = '\U0001f600'*1000000 %}}" for i in range(400)),
    "many long lists": "".join(f"{{% set a{i} = [0]*100000 %}}" for i in range(400)),
    "printf with a computed width": "{{ '%*d'|format(1000000000, 1) }}",
    "printf width": "{{ '%1000000000d'|format(1) }}",
    "printf precision": "{{ '%.1000000000f' % 1 }}",
    "printf repeats its argument": "{{ ('%(a)s'*10000)|format(a='x'*10000) }}",
    "format with a computed width": "{{ '{0:{1}}'.format(1, 1000000000) }}",
    "format_map width": "{{ '{a:>1000000000}'.format_map({'a': 1}) }}",
    "ljust": "{{ 'x'.ljust(1000000000) }}",
    "zfill": "{{ 'x'.zfill(1000000000) }}",
    "expandtabs": "{{ ('\\t'*1000).expandtabs(1000000000) }}",
    "bytes": "{{ 'x'.encode()*1000000000 }}",
    "replace method": "{{ ('x'*100000).replace('x', 'y'*100000) }}",
    "replace filter": "{{ ('x'*100000)|replace('x', 'y'*100000) }}",
    "join method": "{{ ('x'*100000).join(['a']*100000) }}",
    "batch": "{{ [1]|batch(1000000000, 'x')|list }}",
    "slice": "{{ [1]|slice(1000000000, 'x')|list }}",
    "wordwrap": "{{ ('a '*30000)|wordwrap(1, wrapstring='x'*100000) }}",
    "power": "{{ 2**100000000 }}",
    "round": "{{ 1.5|round(1000000000, 'ceil') }}",
    "striptags": "{{ ('<!--'*200000)|striptags }}",
    "int of a long text": "{{ ('f'*1000000)|int(base=16) }}",
    "map of centers": "{{ range(99999)|map('string')|map('center', 1000000)|list }}",
    "sum of lists": "{{ ([range(99999)]*999)|sum(start=[])|length }}",
    "list of characters": "{{ ('\U0001f600'*1000000)|list }}",
    "sort in lower case": "{{ (['\U0001f600'*1000000]*32)|sort }}",
    "json indent": "{{ [1]|tojson(indent=1000000000) }}",
    "escape": "{{ ('<'*1000000)|e }}",
    "forceescape": "{{ ('<'*300000)|forceescape|forceescape|forceescape }}",
    "strftime": "{{ '{:%999999999d}'.format(1) }}",
    "infinity": "{{ 1e308*10 }}",
    "searching for ever": "{% set s='a'*1000000 %}{% for a in range(99999) %}{% if 'b' in s %}{% endif %}{% endfor %}",
    "copying for ever": "{% set s=range(99999)|list %}{% for a in range(99999) %}{% set t=s[1:] %}{% endfor %}",
    "a long sum": "{{ " + "+".join(["a"] * 10_000) + " }}",
    "parentheses": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "brackets": "{{ " + "[" * 10_000 + "]" * 10_000 + " }}",
    "nots": "{{ " + "not " * 10_000 + "1 }}",
    "a chain of filters": "{{ a" + "|string" * 8_000 + " }}",
    "a long tuple": "{{ " + "1," * 30_000 + " }}",
    "a call with many arguments": "{{ f(" + "1," * 30_000 + ") }}",
    "nested ifs": "{% if 1 %}" * 100 + "{% endif %}" * 100,
    "comments": "{#" * 2000,
    "text without a tag": "a" * 65_537,
    "a loop over characters": "{% for a in 'x'*1000000 %}{% for b in 'x'*1000000 %}{% endfor %}{% endfor %}",
    "a cycler of many": "{{ cycler(*range(99999999)) }}",
    "a filter block": "{% filter center(1000000000) %}x{% endfilter %}",
    "an argument of dict": "{{ dict(a='x'*1000000000) }}",
    "two macros": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "a loop in itself": "{% for x in [[]] recursive %}{{ loop([[]]) }}{% endfor %}",
    "an empty text replaced": "{{ ('a'*100000).replace('', 'b'*1000) }}",
    "raw": "{% raw %}" * 2000,
    "signs": "{{ " + "-" * 10_000 + "1 }}",
}
MORE_REFUSALS = {
    "a namespace in a list": "{{ [namespace(a=1)] }}",
    "a namespace as a string": NAMESPACES + "{{ ns.x|string }}",
    "a namespace replaced by a filter": NAMESPACES + "{{ 'x'|replace(ns.x, 'y') }}",
    "a namespace replaced by a method": NAMESPACES + "{{ 'x'.replace(ns.x, 'y') }}",
    "a namespace between": NAMESPACES + "{{ [1, 2]|join(ns.x) }}",
    "a namespace as a format": NAMESPACES + "{{ ns.x|format(1) }}",
    "a namespace as a key": NAMESPACES + "{{ [1][ns.x] }}",
    "self": "{{ self.a() }}{% block a %}{% endblock %}",
    "block": "{% block a %}{% endblock %}",
    "extends": "{% extends 'a' %}",
    "from": "{% from 'a' import b %}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "globals of a helper": "{{ cycler.__init__.__globals__ }}",
    "class by map": "{{ [1]|map(attribute='__class__')|list }}",
    "class by format": "{{ '{0.__class__}'.format(1) }}",
    "class by format_map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "update": "{{ {'a': 1}.update({'b': 2}) }}",
    "pop": "{{ {'a': 1}.pop('a') }}",
    "sort in place": "{{ [2, 1].sort() }}",
    "to_bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "translate": "{{ 'a'.translate({97: 'b'*1000000}) }}",
    "a method as text": "{{ 'x'.upper }}",
    "a helper as text": "{{ joiner('x') }}",
    "a macro as text": "{% macro m() %}{% endmacro %}{{ m }}",
    "a caller outside a call": "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "a function as a value": "{{ range }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "undefined in a list": "{{ [{}]|map(attribute='x')|list }}",
    "undefined in a mapping": "{{ {'a': missing} }}",
    "undefined as a keyword": "{{ dict(a=missing) }}",
    "undefined as a group": "{{ [{}]|groupby('x') }}",
    "a class that is not used": "{% set x = ''.__class__ %}",
    "a class with a default": "{{ ''.__class__|default('none') }}",
    "whether there is a class": "{{ ''.__class__ is defined }}",
    "sorted by class": "{{ ['']|sort(attribute='__class__') }}",
    "the largest class": "{{ ['']|max(attribute='__class__') }}",
    "grouped by class": "{{ ['']|groupby('__class__') }}",
    "compared with a class": "{{ 'a' is sameas(''.__class__) }}",
    "a function in a list": "{{ [range] }}",
    "a type in a mapping": "{{ {'a': dict} }}",
    "a function as a string": "{{ range|string }}",
    "a function in upper case": "{{ range|upper }}",
    "a function, escaped": "{{ range|e }}",
    "a function, printed": "{{ range|pprint }}",
    "a function, formatted": "{{ '%s'|format(range) }}",
    "a function behind an operator": "{{ '%s' % range }}",
    "a macro in a list": "{% macro m() %}{% endmacro %}{{ [m] }}",
    "a helper in a list": "{{ [cycler('a')] }}",
    "a helper as a string": "{{ joiner('x')|string }}",
    "a loop as text": "{% for x in [1] %}{{ loop }}{% endfor %}",
    "a method in a list": "{{ [{}.keys] }}",
    "a generator as a string": "{{ [1]|map('string')|string }}",
    "a static method": "{{ ''.maketrans('a', 'b') }}",
    "attr of what is reversed": "{{ ''['__ssalc__'|reverse] }}",
    "attr of what is joined": "{{ ''|attr(['__cl', 'ass__']|join) }}",
    "the frame of a generator": "{{ ([1]|select).gi_frame }}",
    "the owner of a method": "{{ ''.format.__self__ }}",
    "an assignment to data": "{% set inputs.a = 1 %}",
    "do": "{% do [].append(1) %}",
    "half a character": "{{ \ud800 }}",
}
FINE = {
    "{{ 'a'|center(5) }}": "  a  ",
    "{{ '{:>4}|{!r}'.format(7, 'x') }}": "   7|'x'",
    "{{ '%05.1f' % 2.25 }}": "002.2",
    "{% set ns=namespace(n=0) %}{% for i in [1,2,3] %}{% set ns.n=ns.n+i %}{% endfor %}{{ ns.n }}!": "6!",
    "{% for x in [1,2,3] if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% endfor %}": "1/2:2 2/2:3 ",
    "{% for a, b in {'x': 1}.items() %}{{ a }}={{ b }}{% else %}none{% endfor %}": "x=1",
    "{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% call m(1) %}2{% endcall %}": "<12>",
    "{{ [{'a': 1}, {}]|map(attribute='a')|select('defined')|join(',') }}!": "1!",
    "{{ [[1], [2]]|sum(start=[])|join('-') }}!": "1-2!",
    "{% for t in [[1, [2]]] recursive %}{% for x in t %}{{ x }}{% endfor %}{% endfor %}": "1[2]",
    "{{ ['b', 'A']|sort|join }}{{ 'x,y'.split(',')|last }}": "Aby",
    "{{ {'a': [1]}|tojson }}!": '{"a": [1]}!',
    "{{ missing|default('none') }}!": "none!",
    "{{ {'a': [1, {'b': none}]}|tojson }}!": '{"a": [1, {"b": null}]}!',
    "{% for g, xs in [{'k': 1}, {'k': 1}]|groupby('k') %}{{ g }}:{{ xs|length }}{% endfor %}": "1:2",
    "{% for xs in [[1, 2]|reverse, [3]] %}{% for x in xs %}{{ x }}{% endfor %}{% endfor %}": "213",
    "{{ [[1]|map('string'), [2]|map('string')]|sum(start=[])|join }}!": "12!",
    "{% macro m() %}{{ varargs|join }}{{ kwargs.a }}{% endmacro %}{{ m([1], missing|default(2), a=3) }}": "[1]23",
    "{% macro m(o) %}{% set o.n = o.n + 1 %}{% endmacro %}{% set o = namespace(n=1) %}{{ m(o) }}{{ o.n }}": "2",
    "{{ {'a': 1}.items()|list }}{{ {'a': 1}.keys() }}": "[('a', 1)]dict_keys(['a'])",
    "{{ (1, 2) == (1, 2) }}{{ 1 in [1] }}{{ 'b' not in 'abc' }}{{ [1] is eq([1]) }}": "TrueTrueFalseTrue",
    "{{ {(1, 2): 'x'}[(1, 2)] }}{{ [1, 2, 3][1:]|join }}": "x23",
    "{{ {'_a': 1}._a }}{{ {}._a|default('none') }}": "1none",
    "{{ 'a-b' | replace('-', '+') | upper }}!": "A+B!",
}
LIMITED = [(kind, source) for kind in KINDS for source in MORE_LIMITS.values()]
REFUSED = [(kind, source) for kind in KINDS for source in MORE_REFUSALS.values()]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, Any]]:
    texts = [case for case in corpora.load("template") if corpora.is_text(case)]
    cases = [hostile.as_boxed(case, kind) | {"id": f"{kind} {case['id']}"} for case in texts for kind in KINDS]
    cases += [{"id": f"{kind} {source}", "kind": kind, "source": source} for kind, source in (*LIMITED, *REFUSED)]
    return boxed.run(cases + [{"id": source, "kind": "template", "source": source} for source in FINE])


@pytest.mark.parametrize("kind", KINDS)
@corpora.each("template")
def test_a_case_of_the_corpus_ends_as_it_says(case: corpora.Case, kind: str, outcomes: dict[str, dict[str, Any]]):
    outcome = hostile.outcome(case, outcomes, f"{kind} ")
    assert hostile.holds(case, outcome), (case["why"], outcome)


@pytest.mark.parametrize(("kind", "source"), LIMITED, ids=[f"{k}-{name}" for k in KINDS for name in MORE_LIMITS])
def test_what_would_be_too_large_is_a_limit(kind: str, source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[f"{kind} {source}"]["is"] == "limit", outcomes[f"{kind} {source}"]


@pytest.mark.parametrize(("kind", "source"), REFUSED, ids=[f"{k}-{name}" for k in KINDS for name in MORE_REFUSALS])
def test_what_is_not_data_is_refused(kind: str, source: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[f"{kind} {source}"]["is"] == "reject", outcomes[f"{kind} {source}"]


@pytest.mark.parametrize(("source", "text"), FINE.items())
def test_what_people_write_still_works(source: str, text: str, outcomes: dict[str, dict[str, Any]]):
    assert outcomes[source] == {"is": "value", "value": text, "detail": outcomes[source]["detail"]}


def test_the_message_does_not_hold_all_of_a_name_that_was_not_there():
    source = "{{ {}['a'*1000000] }}"
    outcome = boxed.run([{"id": "x", "kind": "template", "source": source}])["x"]
    assert outcome["is"] == "reject"
    assert "aaaa" in outcome["detail"]
    assert len(outcome["detail"]) < 2000


def test_a_view_of_a_mapping_is_a_list_where_types_are_kept():
    assert compile_value("{{ d.items() }}", typed=True).render({"d": {"a": 1}}) == [("a", 1)]
