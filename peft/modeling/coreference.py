
class HybridForCoreference(Hybrid):
    def __init__(self, config):
        super().__init__(config)
        self.head.pool = nn.Linear(config.hidden_size, 1, bias=False)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, spans=None, labels=None, **ignored):
        """spans [n, 1 + candidates, 2] are the first token of the mention and of each candidate, and the one behind
        the last; logits [n, candidates, 2] are of "no" and "yes", labels [n, candidates] -100, 0 or 1."""
        x = self.encode_text(input_ids, attention_mask, token_type_ids)
        at = torch.arange(x.shape[1], device=x.device)
        inside = (at >= spans[..., :1]) & (at < spans[..., 1:])  # [n, spans, s]
        scores = self.head.pool(x).transpose(1, 2).masked_fill(~inside, torch.finfo(x.dtype).min)
        pooled = scores.softmax(-1) @ x  # [n, spans, D]
        candidates = pooled[:, 1:]
        logits, loss = self.head(torch.cat([pooled[:, :1].expand_as(candidates), candidates], -1)), None
        if labels is not None:
            loss = F.cross_entropy(logits.view(-1, 2), labels.view(-1))
        return TokenClassifierOutput(loss=loss, logits=logits)
