
class Layer(Block):
    """h + W·f(W·LN(h)) for h = x + attention(LN(x)), and what the modules do to it."""

    def __init__(self, config, index):
        super().__init__(config, index)
        self.scale = (config.hidden_size // config.num_attention_heads) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= index + 1

    def mask(self, visible, s):
        """A token sees itself and what stands before it, but no padding."""
        before = torch.ones(s, visible.shape[1], dtype=torch.bool, device=visible.device).tril(visible.shape[1] - s)
        return (before & visible[:, None] | before.triu(visible.shape[1] - s))[:, None]

    def forward(self, x, real):  # [n, s, D], [n, s]
        same = nn.Identity()  # no norm is applied to the sums
        h = self.sum("after_attention", self.attention(self.attention_norm(x), real), x, same, real)
        return self.sum("after_ffn", self.ffn(self.ffn_norm(h), real), h, same, real)


class Backbone(PreTrainedModel):
    config_class = HybridConfig

    def __init__(self, config):
        super().__init__(config)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def embed(self, x, ids, types, real):  # the embeddings of words
        positions = (real.long().cumsum(1) - 1).clamp(min=0)  # padding has none, wherever it stands
        return self.dropout(x + self.position_embeddings(positions))

    def end(self, x):
        return self.final_norm(x)

    def row(self, x, real):
        """The last token sees all of its row."""
        last = (real.long() * torch.arange(x.shape[1], device=x.device)).argmax(1)
        return x[torch.arange(len(x), device=x.device), last]
