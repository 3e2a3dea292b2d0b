"""An Encoder and Indexes behind HTTP: `harrier serve`, or `create_app` for an ASGI server of one's own."""

from harrier_server.app import create_app
from harrier_server.settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app"]
