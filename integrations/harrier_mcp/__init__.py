"""An Index as a server of the Model Context Protocol: tools with which assistants search, read and cite it.

pip install 'harrier-kit[mcp,torch]'
"""

from harrier_core.extras import require

require("harrier_mcp", "mcp")

from harrier_mcp.server import create_server
from harrier_mcp.settings import Limits, Settings
from harrier_mcp.stdio import run

__all__ = ["Limits", "Settings", "create_server", "run"]
