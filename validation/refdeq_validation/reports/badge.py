"""A badge: profile, verdict, as an SVG image."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from refdeq.errors import ArgumentError

__all__ = ["render"]

_COLOURS = {"granted": "#1d6b42", "refused": "#a8281f", "incomplete": "#7a5200", "invalid": "#a8281f"}
_NARROW, _WIDE = frozenset("fijlrt1.,:;|! ()[]-·"), frozenset("mwMW@")


def render(data: Mapping[str, Any], profile: str | None = None, backend: str | None = None) -> str:
    """Draw the badge of a profile.

    Parameters
    ----------
    data : mapping
        As ``report_data`` builds it.
    profile : str, optional
        Name of a profile of the report; the verdict of the whole run by default.
    backend : str, optional
        Which implementation; needed where several were judged for this profile.

    Returns
    -------
    str
        SVG such as ``core-f32 · granted``. A profile counts as granted only in a run that is not invalid.

    Raises
    ------
    ArgumentError
        When the report does not hold exactly one such profile.
    """
    if profile is None:
        left, right = "refdeq", str(data["verdict"])
    else:
        found = [
            entry
            for suite in data["backends"]
            if backend in (None, suite["spec"])
            for entry in suite["profiles"]
            if entry["name"] == profile
        ]
        if len(found) != 1:
            named = ", ".join(f"{suite['spec']} {entry['name']}" for suite in data["backends"] for entry in suite["profiles"])
            raise ArgumentError("profile", expected=f"one of the report ({named or 'it has none'})", got=f"{backend} {profile}")
        left = profile
        right = "invalid" if data["verdict"] == "invalid" else "granted" if found[0]["granted"] else "refused"
    return _draw(left, right, _COLOURS.get(right, "#a8281f"))


def _draw(left: str, right: str, colour: str) -> str:
    first, second = _width(left) + 14, _width(right) + 14
    label, total = escape(f"{left} · {right}"), first + second
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" aria-label="{label}">'
        f'<title>{label}</title><clipPath id="r"><rect width="{total}" height="20" rx="4"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{first}" height="20" fill="#3b424a"/>'
        f'<rect x="{first}" width="{second}" height="20" fill="{colour}"/></g>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{first / 2}" y="14" textLength="{_width(left)}">{escape(left)}</text>'
        f'<text x="{first + second / 2}" y="14" textLength="{_width(right)}">{escape(right)}</text></g></svg>\n'
    )


def _width(text: str) -> int:
    """Pixels of a text at 11 px; the image states it, so that every font fits."""
    return round(sum(4.2 if c in _NARROW else 10.2 if c in _WIDE else 6.9 for c in text))
