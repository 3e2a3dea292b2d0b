"""Two small real tokenizers, of the kinds that the released models have, trained on the sample texts."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from harrier_core.testing.sample import PROMPTS, PROSE

_MERGES = 2_000
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
_QWEN_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def gemma_tokenizer() -> tuple[Tokenizer, dict[str, Any]]:
    """Return a BPE over code points with byte fallback and <bos>, <eos> around texts, and its tokenizer_config.json."""
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Split("\n", "isolated")]
    )
    letters, merges = _learn(learner, alphabet=[])
    # As in Gemma's vocabulary: special tokens first, then runs of line breaks, which are not special, then bytes.
    breaks = ["\n" * length for length in range(2, 5)]
    vocabulary = _numbered([*_GEMMA_SPECIAL, *breaks, *_BYTES, *letters, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _GEMMA_SPECIAL])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in breaks])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>",
        pair="<bos> $A <eos> <bos> $B <eos>",
        special_tokens=[("<bos>", vocabulary["<bos>"]), ("<eos>", vocabulary["<eos>"])],
    )
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    promises = {"add_bos_token": True, "add_eos_token": True}
    return tokenizer, {"tokenizer_class": "GemmaTokenizer", **named, **promises}


def qwen_tokenizer() -> tuple[Tokenizer, dict[str, Any]]:
    """Return a byte-level BPE whose texts end with <|im_end|>, and its tokenizer_config.json."""
    words = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.NFC()
    learner.pre_tokenizer = words
    letters, merges = _learn(learner, alphabet=pre_tokenizers.ByteLevel.alphabet())
    vocabulary = _numbered([*letters, *("".join(pair) for pair in merges)])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = words
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in _QWEN_SPECIAL])
    end = tokenizer.token_to_id("<|im_end|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", pair="$A <|im_end|> $B <|im_end|>", special_tokens=[("<|im_end|>", end)]
    )
    named = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    return tokenizer, {"tokenizer_class": "Qwen2Tokenizer", **named, "add_bos_token": False}


def _learn(learner: Tokenizer, alphabet: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the letters and the merges of a BPE trained on the sample, both in a fixed order."""
    trainer = trainers.BpeTrainer(
        vocab_size=1_000_000, min_frequency=1, initial_alphabet=sorted(alphabet), show_progress=False
    )
    # Words are also learned in lowercase after a space, so that a word is one token wherever it stands. The letters of
    # all scripts are repeated alone, often enough to be learned first, so that none is left in bytes.
    behind_a_space = [f" {text.casefold()}" for text in PROSE]
    letters = sorted({letter for text in PROSE for letter in text if not letter.isascii()})
    learner.train_from_iterator([*PROSE, *behind_a_space, *PROMPTS.values(), *letters * 100], trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [(left, right) for left, right in model["merges"]][:_MERGES]
    merged = {left + right for left, right in model["merges"]}
    return sorted(token for token in model["vocab"] if token not in merged), merges


def _numbered(tokens: list[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}
