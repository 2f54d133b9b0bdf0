"""Make pages that asv has published work from a folder, without a network and without a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from shutil import copyfile

from benchmarks.site import vendored
from refdeq.errors import FileFormatError

__all__ = ["localise"]

_ADDRESS = re.compile(r"""https?://[^\s"'<>]+""")
_TAG = re.compile(r"<(script|link|img)\b[^>]*>")
_SOURCE = re.compile(r'\b(src|href)="(https?://[^"]+)"')
_FETCHING = re.compile(r'\s+(?:integrity|crossorigin|referrerpolicy)="[^"]*"')
_SHIM = '<script src="offline.js"></script>'


def localise(folder: Path) -> None:
    """Rewrite published pages: local copies of scripts and styles, JSON files as scripts.

    Parameters
    ----------
    folder : Path
        What ``asv publish`` wrote; changed in place.

    Raises
    ------
    FileFormatError
        The pages refer to an address that is not known here (another version of asv), or a local copy was changed.
    """
    index = folder / "index.html"
    index.write_text(_localised(index.read_text(encoding="utf-8")), encoding="utf-8")
    for page in folder.glob("*.html"):
        unknown = set(_ADDRESS.findall(page.read_text(encoding="utf-8"))) - vendored.LINKS
        if unknown:
            raise FileFormatError(f"{page.name}: unknown addresses {sorted(unknown)}; add local copies to site/vendored.py")
    target = folder / "vendor"
    target.mkdir()
    for file in vendored.VENDORED:
        (target / file.file).write_bytes(vendored.read(file))
    for path in [vendored.FOLDER / "THIRD_PARTY.md", *sorted((vendored.FOLDER / "licences").iterdir())]:
        copyfile(path, target / path.name)
    copyfile(Path(__file__).with_name("offline.js"), folder / "offline.js")
    for path in folder.rglob("*.json"):
        _as_script(path)


def _localised(page: str) -> str:
    """Refer to local copies, and load the script that answers requests for JSON right after jQuery."""
    local = {file.url: f"vendor/{file.file}" for file in vendored.VENDORED}
    used = []

    def tag(match: re.Match[str]) -> str:
        text = match[0]
        source = _SOURCE.search(text)
        if source is None:
            return text
        if source[2] not in local:
            raise FileFormatError(f"index.html loads {source[2]}, of which there is no local copy; see site/vendored.py")
        used.append(source[2])
        text = text.replace(source[2], local[source[2]])
        return _FETCHING.sub("", text)  # a page opened from a file has no origin that these could be checked against

    page = _TAG.sub(tag, page)
    missing = set(local) - set(used)
    if missing:
        raise FileFormatError(f"index.html no longer loads {sorted(missing)}: written by another version of asv?")
    jquery = re.search(r'<script src="vendor/jquery\.min\.js".*?</script>', page)
    if jquery is None:
        raise FileFormatError("index.html loads jQuery in a way that is not known here: written by another version of asv?")
    return page[: jquery.end()] + _SHIM + page[jquery.end() :]


def _as_script(path: Path) -> None:
    contents = json.loads(path.read_text(encoding="utf-8"))
    script = f"refdeqData({json.dumps(contents, separators=(',', ':'), allow_nan=True)});\n"
    path.with_name(path.name + ".js").write_text(script, encoding="utf-8")
    path.unlink()
