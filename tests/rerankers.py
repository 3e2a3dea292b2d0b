"""Tiny real rerankers, and reference scores from transformers by the recipe of the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from harrier_core.testing import PROSE
from harrier_core.testing.tokenizers import qwen_tokenizer

BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"


def build_qwen_reranker(folder: Path, *, tied: bool = True, **config: Any) -> Path:
    """Write a tiny Qwen3-Reranker as transformers saves it, with a tokenizer shaped like Qwen3's."""
    tokenizer, companion = qwen_tokenizer()
    content = json.loads(tokenizer.to_str())
    content["model"]["vocab"]["yes"] = tokenizer.get_vocab_size()
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in ("<think>", "</think>")])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "head_dim": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1_024,
        "vocab_size": tokenizer.get_vocab_size() + 11,
        "initializer_range": 0.1,
        "tie_word_embeddings": tied,
    }
    torch.manual_seed(0)
    Qwen3ForCausalLM(Qwen3Config(**{**sizes, **config})).eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**companion, "model_max_length": 131_072}))
    return folder


class Card:
    """The recipe of Qwen3-Reranker's card, on transformers alone."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        self.yes, self.no = (self.tokenizer.convert_tokens_to_ids(answer) for answer in ("yes", "no"))

    def ids(self, query: str, text: str, limit: int = 1_024, instruction: str = INSTRUCTION) -> list[int]:
        """Return all token ids for a text, truncated at its end if necessary."""
        before, after = (self.tokenizer.encode(part, add_special_tokens=False) for part in (BEFORE, AFTER))
        pair = f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {text}"
        room = limit - len(before) - len(after)
        inside = self.tokenizer(pair, truncation="longest_first", max_length=room)["input_ids"]
        return [*before, *inside, *after]

    @torch.inference_mode()
    def score(self, ids: Sequence[int]) -> float:
        """Return the probability of yes against no for a single text."""
        logits = self.model(input_ids=torch.tensor([list(ids)])).logits[0, -1]
        pair = torch.stack([logits[self.no], logits[self.yes]])
        return float(torch.nn.functional.log_softmax(pair, dim=0)[1].exp())

    def scores(self, query: str, texts: Sequence[str], **how: Any) -> list[float]:
        """Return the scores of texts, one at a time."""
        return [self.score(self.ids(query, text, **how)) for text in texts]

    @torch.inference_mode()
    def padded(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the scores of texts in a left-padded batch, as on the card."""
        batch = self.tokenizer.pad({"input_ids": [self.ids(query, text) for text in texts]}, return_tensors="pt")
        logits = self.model(**batch).logits[:, -1]
        pairs = torch.stack([logits[:, self.no], logits[:, self.yes]], dim=1)
        return list(map(float, torch.nn.functional.log_softmax(pairs, dim=1)[:, 1].exp()))


def build_cross_encoder(folder: Path, *, labels: int = 1, head: bool = True) -> Path:
    """Write a tiny BERT for pairs, with or without a head, and its tokenizer."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for text in PROSE for word in text.split()})  # not learned: a trainer breaks ties at random
    letters = sorted({letter for word in words for letter in word})
    pieces = dict.fromkeys([*special, *words, *letters, *(f"##{letter}" for letter in letters)])
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    begin, end = ((token, special.index(token)) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(end, begin)
    named = {f"{token.strip('[]').lower()}_token": token for token in special}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **named).save_pretrained(folder)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    (BertForSequenceClassification if head else BertModel)(config).eval().save_pretrained(folder)
    return folder
