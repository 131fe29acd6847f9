"""A local web page for moving the codes of trained models by hand.

It needs the `explore` extra. The page is served to this machine only.
"""

from pydisent.explore._app import build_app
from pydisent.explore._models import Model, models_of
from pydisent.explore._server import serve

__all__ = ["Model", "build_app", "models_of", "serve"]
