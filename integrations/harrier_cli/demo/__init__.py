"""`harrier demo`: what the kit does, shown by real commands on the texts included with it."""

from harrier_cli.demo.model import MODEL, open_encoder
from harrier_cli.demo.sample import Question, passages, questions, recall
from harrier_cli.demo.show import main

__all__ = ["MODEL", "Question", "main", "open_encoder", "passages", "questions", "recall"]
