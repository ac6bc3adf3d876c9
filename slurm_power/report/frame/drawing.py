"""How plots look, and inline SVG that takes its text colour from the page: readable in light and dark."""

import io
import re
from contextlib import AbstractContextManager
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure

# Stands for the page's own text colour; no plot may use it for anything else.
INK = "#010203"
IMPORT = "#2f7ed8"
LIMIT = "#d64545"
WITHOUT = "#8a8f98"
BATTERY = "#2e9e6b"
CAPS = "#d98a1f"
START = "#9a4bc4"

_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": WITHOUT,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def style(salt: str) -> AbstractContextManager[None]:
    """Draw inside this context; equal ``salt`` and drawing give equal identifiers."""
    return rc_context({**_STYLE, "svg.hashsalt": salt})  # type: ignore[dict-item]  # the stub lists each key by name


def svg(figure: Figure, name: str, label: str, description: str = "") -> str:
    """Turn a figure into inline SVG; ``name`` keeps its identifiers apart from those of other plots.

    A screen reader gets the label, and the description where there is one.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    # Two plots on one page must not share identifiers.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
    text = text.replace(INK, "currentColor")
    if not description:
        return text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"', 1)
    head, tail = text.split(">", 1)
    head = head.replace("<svg", f'<svg role="img" aria-labelledby="{name}-title {name}-description"', 1)
    words = f'<title id="{name}-title">{escape(label)}</title>'
    return f'{head}>{words}<desc id="{name}-description">{escape(description)}</desc>{tail}'
