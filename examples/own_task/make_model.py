"""Make a tiny model for the example: trained in a few seconds on tickets that are put together from phrases."""

import random
import sys
from pathlib import Path

import torch
from ticket_triage.model import TicketConfig, TicketModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

PHRASES = {
    "delivery": ["my parcel", "the delivery", "the package", "my order", "the courier", "the tracking number"],
    "payment": ["the invoice", "my card", "the refund", "the payment", "the receipt", "the bank transfer"],
    "account": ["my password", "the login", "my account", "the app", "my profile", "the reset link"],
}
MOODS = {
    "angry": ["is late again still waiting", "is wrong and nobody answers", "is a disgrace", "fails again"],
    "happy": ["works great thank you", "was quick and easy", "is perfect now", "made my day"],
    "neutral": ["has a question", "needs a copy", "is from monday", "should be changed"],
}
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
STEPS, STEP_TICKETS, MAX_TOKENS = 150, 32, 64


def draw_ticket(rng: random.Random) -> tuple[str, int, int]:
    """Return a ticket with the numbers of its topic and its mood."""
    topic, mood = rng.randrange(len(PHRASES)), rng.randrange(len(MOODS))
    phrase, end = rng.choice(list(PHRASES.values())[topic]), rng.choice(list(MOODS.values())[mood])
    return f"{phrase} {end}", topic, mood


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words are those of the phrases."""
    texts = [text for group in (*PHRASES.values(), *MOODS.values()) for text in group]
    words = sorted({word for text in texts for word in text.split()})
    vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL_TOKENS, strict=True))
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=MAX_TOKENS, model_input_names=inputs, **names
    )


def make_model(folder: Path) -> None:
    """Train the model and save it with its tokenizer."""
    torch.manual_seed(0)
    rng, tokenizer = random.Random(0), make_tokenizer()
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": MAX_TOKENS}
    labels = {"topics": list(PHRASES), "moods": list(MOODS)}
    model = TicketModel(TicketConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes, **labels))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        texts, topics, moods = zip(*(draw_ticket(rng) for _ in range(STEP_TICKETS)), strict=True)
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        outputs = model(tokens["input_ids"], tokens["attention_mask"])
        losses = [
            torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
            for logits, labels in zip(outputs, (topics, moods), strict=True)
        ]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"the model is in {folder}; its last loss was {sum(losses).item():.3f}")


if __name__ == "__main__":
    make_model(Path(sys.argv[1] if len(sys.argv) > 1 else "model"))
