"""Tables and numbers inside other Markdown files, such as a README: kept equal to the records they come from.

A block stands between two comments, `<!-- begin table1_tiny -->` and `<!-- end table1_tiny -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vrx.config.errors import UserError
from vrx.report.claims import Judgement, claims_as_markdown
from vrx.report.figures.figure import Figure
from vrx.report.formats import render_markdown
from vrx.report.tables import Table

BLOCK = re.compile(
    r"(?P<begin>^<!-- begin (?P<name>[\w.-]+) -->\n)(?P<content>.*?)(?P<end>^<!-- end (?P=name) -->$)", re.M | re.S
)


def markdown_blocks(tables: Sequence[Table], claims: Sequence[Judgement], figures: Sequence[Figure]) -> dict[str, str]:
    """What can be inserted, by name: tables, the claims of each model (`claims_<model>`), and figures as numbers."""
    return {
        **{figure.name: f"```text\n{figure.as_text().strip()}\n```\n" for figure in figures},
        **{table.name: render_markdown(table) for table in tables},
        **claims_as_markdown(claims),
    }


def insert_blocks(text: str, blocks: Mapping[str, str], *, source: str) -> str:
    """The text with the content of each of its blocks replaced; `source` names it in errors.

    `UserError` where it has no block, or one of another name.
    """
    names = [match["name"] for match in BLOCK.finditer(text)]
    if not names:
        raise UserError(f"{source}: has no block <!-- begin <name> --> … <!-- end <name> -->")
    for name in names:
        if name not in blocks:
            raise UserError(f"{source}: no table or figure {name} in this report; there are {', '.join(blocks)}")
    return BLOCK.sub(lambda match: match["begin"] + blocks[match["name"]] + match["end"], text)
