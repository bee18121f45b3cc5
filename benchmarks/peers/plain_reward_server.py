"""A plain reward server: FastAPI and transformers, a request at a time, padded; much as OpenRLHF's serve_rm.

python plain_reward_server.py DIR PORT THREADS
"""

import sys
import threading

import torch
import uvicorn
from fastapi import FastAPI, Request
from transformers import AutoModelForSequenceClassification, AutoTokenizer

BATCH = 16
folder, port, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
turn = threading.Lock()
app = FastAPI()


@app.get("/health")
def health() -> dict[str, str]:
    """Whether it answers."""
    return {"status": "ok"}


def score(texts: list[str]) -> list[float]:
    """Padded batches in the order of the request."""
    rewards: list[float] = []
    with turn, torch.inference_mode():
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(texts[start : start + BATCH], add_special_tokens=False, padding=True, return_tensors="pt")
            rewards += model(**batch).logits[:, 0].double().tolist()
    return rewards


@app.post("/get_reward")
async def get_reward(request: Request) -> dict[str, list[float]]:
    """OpenRLHF's protocol."""
    from starlette.concurrency import run_in_threadpool

    return {"rewards": await run_in_threadpool(score, (await request.json())["query"])}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
