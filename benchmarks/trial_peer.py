"""Time one trial of the adapters library, as a user's script would run it: model, epochs, dev score after each.

    python trial_peer.py WAY --model DIR --train FILE --dev FILE --text COL --text-pair COL --label COL ...

The ways are those of step_peer.py. Prints one JSON object. Starting Python and tokenising are not timed.
"""
import math
import time

import plan
from step_peer import Peer, parser

EVAL_BATCH = 64


def schedule(step, steps):
    """Share of the learning rate: a linear rise, then linear to 0."""
    warm_up = math.ceil(plan.WARMUP_RATIO * steps)
    return step / warm_up if step < warm_up else (steps - step) / max(1, steps - warm_up)


def score(peer, encoded, labels):
    """Pearson's correlation for regression, else accuracy."""
    torch = peer.torch
    peer.model.eval()
    rows = []
    with torch.no_grad():
        for start in range(0, len(encoded), EVAL_BATCH):
            inputs, _ = peer.collate(encoded, labels, range(start, min(start + EVAL_BATCH, len(encoded))))
            rows.append(peer.logits(inputs))
    peer.model.train()
    logits, truth = torch.cat(rows), torch.tensor(labels)
    if peer.args.outputs == 1:
        return torch.corrcoef(torch.stack([logits[:, 0], truth]))[0, 1].item()
    return (logits.argmax(1) == truth).float().mean().item()


def main():
    options = parser()
    options.add_argument("--dev", required=True)
    options.add_argument("--epochs", type=int, default=3)
    args = options.parse_args()
    peer = Peer(args)
    train, dev = peer.read(args.train), peer.read(args.dev)

    start = time.perf_counter()
    peer.build()
    steps = args.epochs * math.ceil(len(train[0]) / args.batch)
    rate = peer.torch.optim.lr_scheduler.LambdaLR(peer.optimizer, lambda step: schedule(step, steps))
    scores = []
    for _ in range(args.epochs):
        for batch in peer.batches(train[0]):
            peer.step(*peer.collate(*train, batch))
            rate.step()
        scores.append(score(peer, *dev))
    peer.answer(wall_s=time.perf_counter() - start, steps=steps, score=max(scores))


if __name__ == "__main__":
    main()
