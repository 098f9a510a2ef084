"""Figures as part of the page, so that their points tell what they are: SVG made smaller, and safe to share.

What figures define (glyphs, markers, clipping) stands on the page once, whichever of them use it; ids that
nothing refers to go, and style becomes attributes.
"""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from markupsafe import Markup
from PIL import Image

_SVG, _HREF = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("metadata", "style", "title")  # of the root; titles inside stay
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_COLOURS = 128
_LONG = 30  # words of a path, below which steps save nothing
_PAINT = {"fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-linejoin", "stroke-width"}
_URL = re.compile(r"url\(#([^)]+)\)")
_NAME = re.compile(r"<\w+")
_SHIFT = re.compile(r"translate\((\S+) (\S+)\)")
# what matplotlib states once for all elements of a figure, and what they start from
_ROOT = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


class Inliner:
    """Turns the SVG files of one page into markup of it; :meth:`shared` then gives what they refer to."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}  # of each definition, by its markup

    def figure(self, path: Path, alt: str, kind: str) -> Markup:
        """Give a figure as an ``svg`` element that is called ``alt`` and has the class ``kind``."""
        root = ET.fromstring(path.read_bytes())  # noqa: S314 (a file that we wrote)
        names: dict[str, str] = {}
        for parent in list(root.iter(f"{_SVG}defs")):
            for defined in list(parent):
                own = defined.attrib.pop("id", None)
                if own is not None:
                    markup = "".join(_written(defined, {}))
                    names[own] = self._ids.setdefault(markup, f"s{len(self._ids)}")
        about = {"viewBox": root.attrib["viewBox"], "class": kind, "role": "img", "aria-label": alt} | _ROOT
        inside = "".join(
            part for child in root if _tag(child) not in _DROPPED for part in _written(child, names)
        )
        return Markup(f"<svg{_attributes(about)}>{inside}</svg>")  # noqa: S704 (escaped below)

    def shared(self) -> Markup:
        """Give what the figures so far refer to, as an element that takes no room."""
        inside = "".join(_NAME.sub(rf'\g<0> id="{name}"', markup, 1) for markup, name in self._ids.items())
        return Markup(f'<svg class="shared" aria-hidden="true"><defs>{inside}</defs></svg>')  # noqa: S704


def _tag(element: ET.Element) -> str:
    return element.tag.removeprefix(_SVG)


def _written(element: ET.Element, names: dict[str, str]) -> Iterator[str]:
    """Write an element in few bytes; definitions are left out, references follow ``names``."""
    tag = _tag(element)
    if tag == "defs":
        return
    attributes = _slim(element, names)
    inside = "".join(part for child in element for part in _written(child, names))
    text = _escaped(element.text or "") if tag == "title" else ""
    if tag == "g" and not inside:
        return
    if tag == "g" and not attributes and not inside.startswith("<title>"):
        yield inside  # a group of nothing in common
        return
    yield f"<{tag}{_attributes(attributes)}"
    yield f">{text}{inside}</{tag}>" if text or inside else "/>"


def _slim(element: ET.Element, names: dict[str, str]) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, value in element.attrib.items():
        if name == "id":
            continue
        if name == "style":
            pairs = (declaration.partition(":") for declaration in value.split(";") if declaration.strip())
            attributes |= {key.strip(): said.strip() for key, _, said in pairs}
        elif name == _HREF:
            attributes["href"] = f"#{names[value[1:]]}" if value.startswith("#") else _few_colours(value)
        else:
            attributes[name] = value
    for name, value in attributes.items():
        if name != "href":
            attributes[name] = _URL.sub(lambda found: f"url(#{names[found[1]]})", value)
        if name in ("d", "x", "y", "transform", "points", "width", "height"):
            attributes[name] = " ".join(_LONG_NUMBER.sub(_rounded, attributes[name]).split())
    if "d" in attributes:
        attributes["d"] = _relative(attributes["d"])
    if attributes.get("fill-opacity") == attributes.get("stroke-opacity") == "0":  # a spot that tells a title
        attributes = {name: value for name, value in attributes.items() if name not in _PAINT} | {
            "opacity": "0"
        }
    shift = _SHIFT.fullmatch(attributes.get("transform", ""))
    if shift and _tag(element) == "use" and not {"x", "y"} & set(attributes):
        del attributes["transform"]
        attributes |= {name: to for name, to in zip("xy", shift.groups(), strict=True) if to != "0"}
    return attributes


def _few_colours(uri: str) -> str:
    """Write a picture of drawn points, the ``data:`` URI of a PNG, with a palette: a fifth of its bytes."""
    kind, _, content = uri.partition("base64,")
    with Image.open(io.BytesIO(base64.b64decode(content)), formats=("PNG",)) as picture:
        reduced = picture.convert("RGBA").quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    smaller = base64.b64encode(buffer.getvalue()).decode("ascii")
    return min(uri, f"{kind}base64,{smaller}", key=len)


def _relative(path: str) -> str:
    """Write a path of straight lines by its steps, in hundredths without a point where there is none."""
    words = path.split()
    if len(words) < _LONG or words[::3] != ["M", *["L"] * (len(words) // 3 - 1)]:
        return path
    places = [
        (round(100 * float(x)), round(100 * float(y))) for x, y in zip(words[1::3], words[2::3], strict=True)
    ]
    steps = (f"{_hundredths(x - a)} {_hundredths(y - b)}" for (a, b), (x, y) in pairwise(places))
    return f"M {words[1]} {words[2]} l {' '.join(steps)}"


def _hundredths(number: int) -> str:
    return f"{number / 100:.2f}".rstrip("0").rstrip(".")


def _rounded(number: re.Match[str]) -> str:
    """Keep hundredths of a point, and of small factors of scale four digits."""
    value = float(number[0])
    return f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}".rstrip("0").rstrip(".")


def _attributes(attributes: dict[str, str]) -> str:
    return "".join(f' {name}="{_escaped(value)}"' for name, value in attributes.items())


def _escaped(text: str) -> str:
    return str(Markup.escape(text))
