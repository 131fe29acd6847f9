"""HTML pages: templates and embedded pictures."""

import base64
import io
from pathlib import Path

from pydisent._extras import optional
from pydisent.reports.style import SCALE

_TEMPLATES = Path(__file__).parent / "templates"


def render(name: str, *folders: Path, **parts: object) -> str:
    """Render the template `name`, from `folders` or the reports' own, with the given parts."""
    with optional():
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["uri"] = picture_uri
    environment.filters["size"] = page_size
    return environment.get_template(name).render(**parts)


def picture_uri(data: bytes) -> str:
    """Return the data URI of a PNG or GIF."""
    kind = "gif" if data.startswith(b"GIF") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def page_size(data: bytes) -> tuple[int, int]:
    """Return the width and height of a picture in page pixels."""
    with optional():
        from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        return image.width // SCALE, image.height // SCALE
