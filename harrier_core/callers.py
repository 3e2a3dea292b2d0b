"""Who asks for what a thread or task does, in a process that works for many: their queries share passes."""

from __future__ import annotations

from contextvars import ContextVar

# Set by a surface that serves several callers. Tasks, and threads that copy their context, inherit it.
CALLER: ContextVar[object] = ContextVar("harrier_caller", default=None)
