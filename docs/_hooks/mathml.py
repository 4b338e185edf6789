"""A hook of the documentation site: equations become MathML while the site is built, so pages need no script."""

import re

from latex2mathml.converter import convert

CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+?)\$(?![\w$])")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Convert `$$...$$` and `$...$` outside code."""
    parts = CODE.split(markdown)
    for i in range(0, len(parts), 2):  # odd parts are code
        text = DISPLAY.sub(lambda m: convert(" ".join(m[1].split()), display="block"), parts[i])
        parts[i] = INLINE.sub(lambda m: convert(m[1]), text)
    return "".join(parts)
