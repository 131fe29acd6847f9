"""A local web page on which the codes of trained models are moved by hand.

It needs the `explore` extra. The page is served to this machine alone.
"""

from pydisent.explore._app import build_app
from pydisent.explore._models import Model, models_of
from pydisent.explore._server import serve

__all__ = ["Model", "build_app", "models_of", "serve"]
