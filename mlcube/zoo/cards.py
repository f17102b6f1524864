"""A cube's card as HTML: Markdown without HTML in it, whose links lead to web pages and mail addresses only."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from mlcube.errors import UsageError
from mlcube.zoo.describing import safe_link

__all__ = ["renderer"]

_LOWEST = 6
_REMEMBERED = 256
"""Versions of a cube stand together, and most have the same card."""


def renderer() -> Callable[[str], str]:
    """What renders cards. Raises UsageError when the library that it takes is not installed."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UsageError("pages of a zoo need the package `markdown-it-py`", hint='pip install "mlcube[zoo]"') from None
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.validateLink = safe_link  # type: ignore[method-assign]
    markdown.core.ruler.push("headings", _lower_headings)
    markdown.add_render_rule("image", _image)
    markdown.add_render_rule("link_open", _link)
    markdown.add_render_rule("fence", _code)

    @functools.lru_cache(_REMEMBERED)
    def rendered(text: str) -> str:
        try:
            return str(markdown.render(text))
        except RecursionError:  # nested as no card is: shown as it is written
            return f"<pre>{_escaped(text)}</pre>"

    return rendered


def _lower_headings(state: Any) -> None:
    """The page's own heading is the first: those of a card stand below it."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(_LOWEST, int(token.tag[1]) + 1)}"


def _image(_self: Any, tokens: Sequence[Any], index: int, _options: Any, _env: Any) -> str:
    """A link to the picture: a page of a zoo asks nobody for anything."""
    token = tokens[index]
    url = str(token.attrGet("src") or "")
    words = _escaped(token.content or url)
    if not safe_link(url):
        return words
    return f'<a href="{_escaped(url)}" rel="noopener noreferrer nofollow">{words}</a>'


def _link(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer nofollow")
    return str(self.renderToken(tokens, index, options, env))


def _code(_self: Any, tokens: Sequence[Any], index: int, _options: Any, _env: Any) -> str:
    """Code, which can be scrolled with the keyboard."""
    return f'<pre tabindex="0"><code>{_escaped(tokens[index].content)}</code></pre>\n'


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
