"""An Encoder and Indexes over HTTP: `harrier serve`, or `create_app` for any ASGI server."""

from harrier_server.app import create_app
from harrier_server.settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app"]
