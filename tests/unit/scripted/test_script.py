from __future__ import annotations

from quarterdeck.scripted.script import Step, parse, unescape


def test_only_lines_that_begin_with_an_at_are_steps() -> None:
    text = "Dear agent,\n  @say hello there \nmail me@example.org\n@ not this\n@@scenario\n@hang"
    assert parse(text) == [Step("say", "hello there"), Step("hang", "")]


def test_paths_and_texts_with_escapes() -> None:
    assert Step("write", r"a.txt one\ntwo\\n\t3 \x").split() == ("a.txt", "one\ntwo\\n\t3 \\x")
    assert unescape("\\") == "\\"
