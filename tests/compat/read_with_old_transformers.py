"""Score a saved reward model's own self-test with whatever transformers this Python has, and compare.

Run by `make compat` with transformers 4.51: `python read_with_old_transformers.py DIR`. Prints one JSON line; exits 1 when
a score differs by more than 1e-3 nats. Uses nothing of Guerdon: it is the plain reader that others are.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = Path(sys.argv[1])
card = json.loads((folder / "reward.json").read_text("utf-8"))
rows = card["self_test"]
assert rows, f"{folder}: reward.json holds no self-test"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
texts = []
for prompt, response, _ in rows:
    turns = [] if card["system"] is None else [{"role": "system", "content": card["system"]}]
    turns += [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    texts.append(tokenizer.apply_chat_template(turns, tokenize=False))
batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
with torch.inference_mode():
    got = model(**batch).logits[:, 0].double().tolist()
worst = max(abs(a - row[2]) for a, row in zip(got, rows, strict=True))
print(
    json.dumps(
        {"transformers": transformers.__version__, "rows": len(rows), "largest_difference": worst, "scores": got}
    )
)
sys.exit(worst > 1e-3)
